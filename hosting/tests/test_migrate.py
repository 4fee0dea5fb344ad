import pytest
from django.core.management import call_command
from django.db import connection


def _timeouts() -> list[str]:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT current_setting('lock_timeout'), current_setting('statement_timeout')"
        )
        return list(cursor.fetchone() or ())


@pytest.mark.django_db
def test_a_migration_waits_and_works_only_so_long(monkeypatch: pytest.MonkeyPatch) -> None:
    from django.core.management.commands import migrate

    seen: list[str] = []
    monkeypatch.setattr(migrate.Command, "handle", lambda *_, **__: seen.extend(_timeouts()))
    call_command("migrate")
    assert seen == ["4s", "5min"]
    assert _timeouts() == ["0", "0"]
