"""Figures as people read them."""

from django import template

register = template.Library()

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")


@register.filter
def size(size_bytes: int | None) -> str:
    """Bytes in the largest unit that leaves at least 1, with at most one decimal."""
    if size_bytes is None or size_bytes < 0:
        return "–"
    value, unit = float(size_bytes), _UNITS[0]
    for unit in _UNITS:
        if value < 1024 or unit == _UNITS[-1]:
            break
        value /= 1024
    return f"{value:.0f} {unit}" if value >= 100 or value == int(value) else f"{value:.1f} {unit}"


@register.filter
def percent_of(part: int | None, whole: int | None) -> int:
    """How much of `whole` `part` is, 0 to 100; of nothing it is 0."""
    if not part or not whole or whole < 0:
        return 0
    return max(0, min(100, round(100 * part / whole)))


@register.filter
def minus(left: int, right: int) -> int:
    return left - right


@register.inclusion_tag("console/_bar.html")
def bar(part: int | None, whole: int | None, label: str) -> dict[str, object]:
    """A meter of `part` in `whole` (bytes); full from 90 %, filling from 75 %."""
    return _meter(part, whole, label)


@register.inclusion_tag("console/_count_bar.html")
def count_bar(part: int | None, whole: int | None, label: str, unit: str = "") -> dict[str, object]:
    """The same of things that are counted."""
    return {**_meter(part, whole, label), "unit": unit}


def _meter(part: int | None, whole: int | None, label: str) -> dict[str, object]:
    percent = percent_of(part, whole)
    level = "full" if percent >= 90 else "filling" if percent >= 75 else "fine"
    return {"part": part, "whole": whole, "percent": percent, "level": level, "label": label}
