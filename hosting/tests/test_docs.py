"""The pages name what there is. A page that falls behind fails here."""

import ast
import re
from pathlib import Path

import pytest
from django.conf import settings

from hosting import env

DOCS = settings.ROOT / "docs"


def _first_columns(page: Path) -> set[str]:
    return set(re.findall(r"^\| `([A-Za-z_]+)`", page.read_text(encoding="utf-8"), re.MULTILINE))


def test_every_variable_is_in_the_settings_page_and_no_other() -> None:
    # A secret NAME brings NAME_FILE with it; the page says so once.
    read = {name for name in env.SEEN if not name.endswith("_FILE")}
    assert _first_columns(DOCS / "settings.md") == read


def _error_codes() -> set[str]:
    """Each `code="…"` of a raised error, and each kind's default, in the program's text."""
    codes = set()
    for folder in ("hosting", "tenants", "frontend"):
        for file in (settings.ROOT / folder).rglob("*.py"):
            if "tests" in file.parts or "migrations" in file.parts:
                continue
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                if isinstance(node, ast.keyword) and node.arg == "code":
                    codes |= _texts(node.value)
                if (
                    isinstance(node, ast.Assign)
                    and isinstance(node.targets[0], ast.Name)
                    and node.targets[0].id == "default_code"
                ):
                    codes |= _texts(node.value)
                if isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == "default_code":
                    codes |= _texts(node.value)
    return codes


def _texts(node: ast.expr | None) -> set[str]:
    return {node.value} if isinstance(node, ast.Constant) and isinstance(node.value, str) else set()


def test_every_error_code_is_in_the_errors_page() -> None:
    missing = (_error_codes() - {""}) - _first_columns(DOCS / "errors.md")
    assert not missing


PAGES = [*DOCS.rglob("*.md"), *settings.ROOT.glob("*.md")]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_link_of_ours_leads_nowhere(page: Path) -> None:
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.S | re.M)
    links = re.findall(r"\]\((?!https?:|#|mailto:)([^)#]+)", text)
    missing = [link for link in links if not (page.parent / link).exists()]
    assert not missing
