"""Why there is no place, in a sentence that names no host: tenants may read it."""

from collections import Counter
from collections.abc import Mapping
from types import MappingProxyType

from worker.placement.model import MIB, NoPlace, Request

WORDS: Mapping[str, str] = MappingProxyType(
    {
        "not_accepting": "out of service",
        "not_asked_for": "not among those asked for",
        "tried_already": "just refused it",
        "storage_not_reachable": "do not reach its storage",
        "too_few_cpus": "have too few CPUs",
        "kept_apart": "have what it must be apart from",
        "memory": "have not that much memory free",
    }
)


def explain(request: Request, answer: NoPlace) -> str:
    """E.g. "No host for 264 MiB: of 3 hosts, 2 have not that much memory free, 1 out of service."."""
    size = f"No host for {-(-request.memory_bytes // MIB)} MiB"
    if not answer.rejects:
        return f"{size}: there is no host."
    count = len(answer.rejects)
    reasons = ", ".join(
        f"{number} {WORDS[word]}"
        for word, number in sorted(
            Counter(answer.rejects.values()).items(), key=lambda item: (-item[1], item[0])
        )
    )
    return f"{size}: of {count} host{'s' * (count > 1)}, {reasons}."
