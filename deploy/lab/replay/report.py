"""Tells what agreed and what did not, for people and for programs."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

from deploy.lab.replay.accepted import reason_for
from deploy.lab.replay.places import Difference
from deploy.lab.replay.player import ScenarioResult, StepResult

WIDTH = 300

Write = Callable[[str], None]


def summary(results: Sequence[ScenarioResult]) -> dict[str, Any]:
    """The four numbers of a replay."""
    steps = sum(len(result.steps) for result in results)
    agree = sum(result.agree for result in results)
    ratio = round(agree / steps, 4) if steps else 0.0
    return {"scenarios": len(results), "steps": steps, "agree": agree, "ratio": ratio}


def print_scenario(result: ScenarioResult, write: Write, *, verbose: bool) -> None:
    write(f"{result.scenario}  {result.agree}/{len(result.steps)}")
    for remark in result.remarks:
        write(f"  note: {remark}")
    for step in result.steps:
        if step.agrees:
            if verbose:
                write(f"  {step.index} {step.call}: agrees")
            continue
        reason = reason_for(result.scenario, step)
        if reason is not None:
            write(f"  {step.index} {step.call}: known: {reason}")
            if not verbose:
                continue
        for difference in step.differences:
            write(f"  {step.index} {step.call}: {describe(difference, verbose=verbose)}")


def describe(difference: Difference, *, verbose: bool = False) -> str:
    expected, got = _short(difference.expected, verbose), _short(difference.got, verbose)
    return f"{difference.path}: expected {expected}, got {got}"


def _short(value: Any, verbose: bool) -> str:
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    return text if verbose or len(text) <= WIDTH else f"{text[:WIDTH]}… ({len(text)} characters)"


def unexplained(results: Sequence[ScenarioResult]) -> list[tuple[str, StepResult]]:
    """Steps that differ and stand in no list."""
    return [
        (result.scenario, step)
        for result in results
        for step in result.steps
        if not step.agrees and reason_for(result.scenario, step) is None
    ]


def as_data(results: Sequence[ScenarioResult]) -> dict[str, Any]:
    """Every difference, grouped by call."""
    by_call: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for result in results:
        for step in result.steps:
            for difference in step.differences:
                by_call[step.call].append(
                    {
                        "scenario": result.scenario,
                        "step": step.index,
                        "path": difference.path,
                        "expected": difference.expected,
                        "got": difference.got,
                        "known": reason_for(result.scenario, step),
                    }
                )
    calls = sorted(by_call.items(), key=lambda item: -len(item[1]))
    return {"summary": summary(results), "calls": dict(calls)}
