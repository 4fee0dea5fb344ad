"""Names that stand for values in a recording, and what each is bound to in this replay.

Recordings replace references and uuids by names in order of their first appearance: `<VM:1>`,
`<uuid:VM:1>`. The first time a name is met beside a real value it is bound to it; from then on
only that value agrees. Names without a number (`<time>`) stand for any value of their form.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

NAME = re.compile(
    r"<(?:session(?::\d+)?|time|unixtime|generation|generation_id|hex"
    r"|uuid:[^<>\n\"]+|[A-Za-z_]+:[^<>\n\"=]+)>"
)

_UUID = r"[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}"

VALUES = {
    "<time>": r"\d{4}-?\d\d-?\d\d(?:[T ]\d\d:\d\d:\d\d(?:\.\d+)?Z?)?",
    "<unixtime>": r"\d+(?:\.\d+)?",
    "<generation>": r"\d+",
    "<generation_id>": r"-?\d+:-?\d+",
    "<hex>": r"[0-9a-fA-F]+",
}
"""Names that are never bound, and the form of the values they stand for."""


def form_of(name: str) -> str:
    """A regular expression for the values that a name may stand for."""
    if name in VALUES:
        return VALUES[name]
    kind = kind_of(name)
    if kind.startswith("uuid:"):
        return _UUID
    if kind == "mac":
        return r"[0-9a-fA-F]{2}(?::[0-9a-fA-F]{2}){5}"
    if kind == "token":
        return r"\d{20},\d{20}"
    return f"OpaqueRef:{_UUID}"


def kind_of(name: str) -> str:
    """ "VM" of `<VM:1>`, "uuid:VM" of `<uuid:VM:1>`, "session" of `<session>`."""
    inner = name[1:-1]
    if inner.startswith("uuid:"):
        return ":".join(inner.split(":", 2)[:2])
    return inner.split(":", 1)[0]


def is_name(text: str) -> bool:
    return NAME.fullmatch(text) is not None


def is_reference(text: str) -> bool:
    """Whether the text is a reference or a name for one."""
    if text.startswith("OpaqueRef:"):
        return True
    if not is_name(text) or text in VALUES:
        return False
    return kind_of(text) not in ("mac", "token") and not kind_of(text).startswith("uuid:")


class Unbound(LookupError):
    """A name is needed that nothing has bound yet."""

    def __init__(self, name: str) -> None:
        super().__init__(f"{name} is not bound")
        self.name = name


@dataclass
class Names:
    """What each name is bound to. Bindings can be taken back to an earlier mark."""

    values: dict[str, str] = field(default_factory=dict)
    _owners: dict[tuple[str, str], str] = field(default_factory=dict)
    _trail: list[str] = field(default_factory=list)

    def __contains__(self, name: str) -> bool:
        return name in self.values

    def is_known(self, kind: str, value: str) -> bool:
        """Whether some name of this kind is bound to the value."""
        return (kind, value) in self._owners

    def bind(self, name: str, value: str) -> bool:
        """Bind an unbound name. False when the value has another name of that kind already."""
        kind = kind_of(name)
        if kind not in ("ref", "token", "mac"):
            owner = self._owners.setdefault((kind, value), name)
            if owner != name:
                return False
        self.values[name] = value
        self._trail.append(name)
        return True

    def mark(self) -> int:
        return len(self._trail)

    def undo(self, mark: int) -> None:
        """Take back every binding made since the mark."""
        while len(self._trail) > mark:
            name = self._trail.pop()
            value = self.values.pop(name)
            if self._owners.get((kind_of(name), value)) == name:
                del self._owners[kind_of(name), value]

    def unbound_in(self, text: str) -> list[str]:
        return [n for n in NAME.findall(text) if n not in VALUES and n not in self.values]

    def unify(self, name: str, value: str) -> bool:
        """Whether the value may stand where the name stands; binds the name if it is new."""
        if name in self.values:
            return self.values[name] == value
        if re.fullmatch(form_of(name), value) is None:
            return False
        return name in VALUES or self.bind(name, value)

    def match(self, template: str, text: str, *, prefix: bool = False) -> bool:
        """Whether a text agrees with a template that may hold names; binds the new ones."""
        if is_name(template) and not prefix:
            return self.unify(template, text)
        pattern, groups = self._pattern(template)
        found = pattern.match(text) if prefix else pattern.fullmatch(text)
        if found is None:
            return False
        return all(self.unify(name, found.group(group)) for group, name in groups.items())

    def _pattern(self, template: str) -> tuple[re.Pattern[str], dict[str, str]]:
        parts: list[str] = []
        groups: dict[str, str] = {}
        by_name: dict[str, str] = {}
        end = 0
        for found in NAME.finditer(template):
            parts.append(re.escape(template[end : found.start()]))
            end = found.end()
            name = found.group()
            if name in self.values:
                parts.append(re.escape(self.values[name]))
            elif name in by_name:
                parts.append(f"(?P={by_name[name]})")
            elif name in VALUES:
                parts.append(f"(?:{VALUES[name]})")
            else:
                group = f"n{len(groups)}"
                groups[group] = name
                by_name[name] = group
                parts.append(f"(?P<{group}>{form_of(name)})")
        parts.append(re.escape(template[end:]))
        return re.compile("".join(parts), re.DOTALL), groups

    def fill(self, text: str) -> str:
        """The text with every bound name replaced by its value.

        Raises Unbound for the first name that has no value.
        """

        def value(found: re.Match[str]) -> str:
            name = found.group()
            if name not in self.values:
                raise Unbound(name)
            return self.values[name]

        return NAME.sub(value, text)
