from uuid import UUID

import pytest

from hosting.operations import bell


@pytest.fixture(autouse=True)
def rung(monkeypatch: pytest.MonkeyPatch) -> list[UUID]:
    """No broker in these tests."""
    heard: list[UUID] = []
    monkeypatch.setattr(bell, "_ring", lambda asked: heard.extend(uuid for uuid, _ in asked))
    return heard
