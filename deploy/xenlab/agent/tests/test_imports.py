from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

AGENT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize("path", sorted(AGENT.glob("*.py")), ids=lambda path: path.name)
def test_the_agent_needs_nothing_that_dom0_does_not_have(path: Path) -> None:
    wanted = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            wanted |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            wanted.add(node.module or "")
    foreign = {
        name
        for name in wanted
        if name.split(".")[0] not in sys.stdlib_module_names
        and not name.startswith("deploy.xenlab.agent")
    }
    assert foreign == set()
