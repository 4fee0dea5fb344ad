"""Whoever is woken by an alarm finds a page that says what to do."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
RUNBOOKS = {page.stem for page in (ROOT / "deploy" / "runbooks").glob("*.md")} - {"README"}


def codes() -> set[str]:
    """Every code that our source opens an alarm with."""
    source = "\n".join(
        path.read_text(encoding="utf-8")
        for folder in ("hosting", "worker")
        for path in (ROOT / folder).rglob("*.py")
        if "tests" not in path.parts
    )
    in_tags = re.findall(r'f"([a-z]+(?:-[a-z]+)+):\{', source)
    named = re.findall(r'^CODE = "([a-z-]+)"$', source, re.MULTILINE)
    return {*in_tags, *named}


def test_every_alarm_has_a_runbook_and_every_runbook_an_alarm() -> None:
    assert codes() == RUNBOOKS
