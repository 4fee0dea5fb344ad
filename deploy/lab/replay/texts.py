"""Compares texts: with the names in them, and by the rules that let some differ."""

from __future__ import annotations

import re

from deploy.lab.replay import rules
from deploy.lab.replay.names import NAME, Names, is_name, kind_of
from deploy.lab.replay.places import Facts, Place


class Texts:
    def __init__(self, names: Names, facts: Facts) -> None:
        self._names = names
        self._facts = facts

    def agree(self, expected: str, got: str, place: Place) -> bool:
        if kind := self._lenient_name(expected):
            # Token numbers are not compared; the name keeps the value it was bound to first.
            return re.fullmatch(kind, got) is not None
        if rules.is_rounded_size(place.class_name, place.field) and expected.isdigit():
            return got.isdigit() and abs(int(expected) - int(got)) <= rules.ROUNDING
        if f"{place.class_name}.{place.field}" == "network.bridge" and (
            rules.XAPI_BRIDGE.fullmatch(expected) and rules.XAPI_BRIDGE.fullmatch(got)
        ):
            return True
        if rules.FINGERPRINT.fullmatch(expected):
            return True
        if place.field == "last_booted_record":
            expected, got = (rules.DOMID_IN_TEXT.sub(r"\1-", text) for text in (expected, got))
        mark = self._names.mark()
        if self._names.match(self._address(expected), got):
            return True
        self._names.undo(mark)
        return self._same_placement(expected, got, place)

    def _lenient_name(self, expected: str) -> str | None:
        if expected in self._names and is_name(expected) and kind_of(expected) == "token":
            return r"\d{20},\d{20}"
        return None

    def _address(self, text: str) -> str:
        return rules.ADDRESS.sub(
            lambda found: self._facts.addresses.get(found.group(1), found.group()), text
        )

    def _same_placement(self, expected: str, got: str, place: Place) -> bool:
        """Whether two texts differ only by the host that the pool chose itself."""
        name = f"{place.class_name}.{place.field}"
        if name in rules.PLACED_FIELDS and is_name(expected) and kind_of(expected) == "host":
            if place.class_name == "task":
                return got in self._facts.hosts
            chosen = place.subject in self._facts.placed_at_random
            return chosen and got in self._facts.hosts
        if name == "message.body" and self._facts.any_placed_at_random:
            return self._same_message(expected, got)
        return False

    def _same_message(self, expected: str, got: str) -> bool:
        host = "|".join(map(re.escape, sorted(self._facts.host_names))) or "h[0-9]+"
        pattern = re.escape(self.filled(expected))
        pattern = re.sub(r"(host(?::\\ |\\ '))h\d+", rf"\1(?:{host})", pattern)
        for known in self._facts.hosts:
            pattern = pattern.replace(re.escape(known), "[0-9a-f-]{36}")
        return re.fullmatch(pattern, got) is not None

    def filled(self, text: str) -> str:
        return NAME.sub(lambda found: self._names.values.get(found.group(), found.group()), text)
