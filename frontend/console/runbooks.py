"""deploy/runbooks as pages: the little of Markdown that they are written in."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from django.conf import settings
from django.utils.html import escape
from django.utils.safestring import SafeString, mark_safe

FOLDER: Final = settings.ROOT / "deploy" / "runbooks"

_CODE = re.compile(r"[a-z]+(?:-[a-z]+)*\Z")
_NUMBERED = re.compile(r"^\d+\. ", re.MULTILINE)
_INLINE: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"`([^`]+)`"), r"<code>\1</code>"),
    (re.compile(r"\*\*([^*]+)\*\*"), r"<strong>\1</strong>"),
    (re.compile(r"\*([^*]+)\*"), r"<em>\1</em>"),
)


def read(code: str) -> str | None:
    """The text of the runbook of this alarm code; None if there is none."""
    if not _CODE.match(code):
        return None
    page = FOLDER / f"{code}.md"
    return page.read_text(encoding="utf-8") if page.is_file() else None


def render(text: str) -> SafeString:
    """HTML of headings, paragraphs and numbered lists, with code, strong and emphasis in them."""
    blocks = re.split(r"\n\s*\n", text.strip())
    return mark_safe("\n".join(part for block in blocks for part in _block(block)))


def _block(block: str) -> Iterator[str]:
    if block.startswith("# "):
        return  # the page has a heading of its own
    if _NUMBERED.match(block):
        items = _NUMBERED.split(block)[1:]
        yield "<ol>" + "".join(f"<li>{_inline(item)}</li>" for item in items) + "</ol>"
        return
    # Each line that begins in bold is a paragraph of its own.
    for paragraph in re.split(r"\n(?=\*\*)", block):
        yield f"<p>{_inline(paragraph)}</p>"


def _inline(text: str) -> str:
    html: str = escape(" ".join(text.split()))
    for pattern, replacement in _INLINE:
        html = pattern.sub(replacement, html)
    return html
