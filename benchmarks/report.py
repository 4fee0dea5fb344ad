"""The form every benchmark's result has: pairs against a baseline, one JSON object as last line."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def report(
    name: str,
    *,
    unit: str,
    values: Sequence[float],
    baselines: Sequence[float],
    goal: float,
    higher_is_better: bool,
    more: Mapping[str, object] | None = None,
) -> bool:
    """Print the pairs and, last, the result; answer whether every single pair met the goal.

    `values[i]` and `baselines[i]` were measured one after the other in the same process tree;
    the ratio is value ÷ baseline. The published ratio is the median, the goal is met only if the
    worst pair meets it. `more` is added to the last line's object.
    """
    ratios = [value / baseline for value, baseline in zip(values, baselines, strict=True)]
    worst = min(ratios) if higher_is_better else max(ratios)
    met = worst >= goal if higher_is_better else worst <= goal
    print(f"commit {_commit()}, Python {sys.version.split()[0]}")
    print("pairs  " + "  ".join(f"{ratio:.3f}" for ratio in ratios))
    print(f"ratio  median {statistics.median(ratios):.3f}, worst {worst:.3f}, goal {goal}")
    print(
        json.dumps(
            {
                "name": name,
                "value": round(statistics.median(values), 6),
                "unit": unit,
                "baseline": round(statistics.median(baselines), 6),
                "ratio": round(statistics.median(ratios), 4),
                "goal": goal,
                "met": met,
                **(more or {}),
            }
        )
    )
    return met


def _commit() -> str:
    result = subprocess.run(
        ["git", "describe", "--always", "--dirty"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=10,
        check=False,
    )
    return result.stdout.strip() or "unknown"
