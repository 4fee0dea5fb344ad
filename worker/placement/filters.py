"""What rules a host out, each with the word that tells so. The first that applies is the reason."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from worker.placement.model import HostView, Request

FILTERS: Mapping[str, Callable[[HostView, Request], bool]] = MappingProxyType(
    {
        "not_accepting": lambda host, _: not host.accepting,
        "not_asked_for": lambda host, request: (
            request.only_on is not None and host.uuid not in request.only_on
        ),
        "tried_already": lambda host, request: host.uuid in request.not_on,
        "storage_not_reachable": lambda host, request: not request.srs <= host.srs,
        "too_few_cpus": lambda host, request: host.cpu_count < request.vcpus,
        "kept_apart": lambda host, request: any(
            host.neighbours.get(group) for group in request.apart_from
        ),
        "memory": lambda host, request: not host.is_warm and host.free_bytes < request.memory_bytes,
    }
)


def reject(host: HostView, request: Request) -> str | None:
    """Why `host` cannot take it; None when it can."""
    return next((word for word, rules_out in FILTERS.items() if rules_out(host, request)), None)
