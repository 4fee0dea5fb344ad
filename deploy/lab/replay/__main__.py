"""`python -m deploy.lab.replay DIRECTORY`: replay recordings, each on a fresh lab.

A fresh lab per scenario keeps them apart: what one leaves behind cannot be seen by the next.
With `--url` they are all played on one running pool instead, one after the other.

Prints per scenario how many steps agree and each difference; the last line is one JSON object
{"scenarios", "steps", "agree", "ratio"}.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from deploy.lab.replay import report
from deploy.lab.replay.places import Difference
from deploy.lab.replay.player import Player, ScenarioResult, StepResult
from deploy.lab.replay.pools import RATE, Pool, RunningPool, fresh_lab
from deploy.lab.replay.recording import Recording, load_all


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    try:
        recordings = load_all(options.directory)
    except (OSError, ValueError) as error:
        print(f"replay: {error}", file=sys.stderr)
        return 2
    if options.scenario:
        known = {recording.scenario for recording in recordings}
        unknown = set(options.scenario) - known
        if unknown:
            print(f"replay: no scenario {', '.join(sorted(unknown))}", file=sys.stderr)
            return 2
        recordings = [r for r in recordings if r.scenario in options.scenario]
    results = []
    for recording in recordings:
        result = play(recording, options)
        results.append(result)
        report.print_scenario(result, _write, verbose=options.verbose)
    if options.json:
        options.json.write_text(json.dumps(report.as_data(results), indent=1, default=str))
    _write(json.dumps(report.summary(results)))
    return 0


def play(recording: Recording, options: argparse.Namespace) -> ScenarioResult:
    """Play one recording; whatever goes wrong is a difference of its steps."""
    try:
        with _pool(recording, options) as pool:
            return Player(recording, pool).play()
    except Exception as error:
        why = f"{type(error).__name__}: {error}"
        steps = [
            StepResult(index, str(step.get("call", step.get("via"))), [Difference("pool", "", why)])
            for index, step in recording.leaves()
        ]
        return ScenarioResult(recording.scenario, steps, [why])


@contextmanager
def _pool(recording: Recording, options: argparse.Namespace) -> Iterator[Pool]:
    if options.url:
        urls = dict(pair.split("=", 1) for pair in options.url)
        with closing(RunningPool(urls, options.username, options.password)) as running:
            yield running
        return
    sides = any(step.get("via") == "control" for _, step in recording.leaves())
    with fresh_lab(options.rate, sides=sides) as pool:
        yield pool


def _write(line: str) -> None:
    print(line, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m deploy.lab.replay", description=__doc__)
    parser.add_argument("directory", type=Path, help="where the recordings (*.json) are")
    parser.add_argument("--scenario", action="append", metavar="NAME", help="only this one")
    parser.add_argument("--verbose", action="store_true", help="whole values, agreeing steps too")
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="all differences, grouped by call"
    )
    parser.add_argument("--rate", type=float, default=RATE, help="lab seconds per real second")
    parser.add_argument(
        "--url", action="append", metavar="h1=URL", help="hosts of a running pool to play on"
    )
    parser.add_argument("--username", default="root")
    parser.add_argument("--password", default="", help="of the running pool")
    return parser


if __name__ == "__main__":
    sys.exit(main())
