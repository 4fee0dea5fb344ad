"""The form of a document with RRDs: what is real of it in a recording."""

from __future__ import annotations

import re


def form(text: str) -> set[str]:
    """What a document consists of, whatever its values and however it was cut.

    A kind ("xml xport", "json xport", "json rrd", "xml rrd", "other") and its head's members.
    """
    head = text[:400]
    kind = "json" if head.lstrip().startswith("{") else "xml" if "<" in head else "other"
    if "legend" in head:
        names = ("start", "step", "end", "rows", "columns", "legend")
        return {f"{kind} xport", *(name for name in names if _has(head, name))}
    if "lastupdate" in head:
        return {f"{kind} rrd", *(n for n in ("version", "step", "lastupdate") if _has(head, n))}
    return {kind}


def _has(head: str, name: str) -> bool:
    return re.search(rf'[<"]{name}[>"]', head) is not None
