"""Django's `migrate`, which waits for a lock, and works at a statement, only so long.

A migration that queues for a lock holds up everyone who comes after it: better that it fails and is run
again. The times are settings (MIGRATION_LOCK_TIMEOUT_MS, MIGRATION_STATEMENT_TIMEOUT_MS).
"""

from typing import Any

from django.conf import settings
from django.core.management.commands.migrate import Command as Migrate
from django.db import connections


class Command(Migrate):
    def handle(self, *args: Any, **options: Any) -> None:
        connection = connections[options["database"]]
        with connection.cursor() as cursor:
            for name, milliseconds in (
                ("lock_timeout", settings.MIGRATION_LOCK_TIMEOUT_MS),
                ("statement_timeout", settings.MIGRATION_STATEMENT_TIMEOUT_MS),
            ):
                cursor.execute("SELECT set_config(%s, %s, false)", [name, str(milliseconds)])
        try:
            super().handle(*args, **options)
        finally:
            # The session may go on to do other work (tests; several commands in one process).
            if connection.connection is not None and connection.is_usable():
                with connection.cursor() as cursor:
                    cursor.execute("RESET lock_timeout; RESET statement_timeout")
