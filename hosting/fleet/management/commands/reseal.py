"""manage.py reseal"""

from typing import Any

from django.apps import apps
from django.core.management.base import BaseCommand, CommandError
from django.db import transaction
from django.db.models import Model

from hosting import keyring


class Command(BaseCommand):
    """Finds every column named `sealed_…`, of whatever model."""

    help = "Seal every secret at rest with the first key of KEY_RING, so that older keys may be dropped."

    def handle(self, *args: Any, **options: Any) -> None:
        renewed = 0
        for model in apps.get_models():
            for column in model._meta.concrete_fields:
                if column.name.startswith("sealed_"):
                    renewed += _reseal(model, column.name)
        self.stdout.write(f"{renewed} secrets are sealed with the first key now")


@transaction.atomic
def _reseal(model: type[Model], column: str) -> int:
    rows = model._default_manager.exclude(**{column: ""}).select_for_update(no_key=True)
    held = list(rows.values_list("pk", column))
    for pk, sealed in held:
        try:
            renewed = keyring.reseal(sealed)
        except keyring.BrokenSeal as error:
            raise CommandError(
                f"no key of KEY_RING opens {column} of {model._meta.label} {pk}"
            ) from error
        model._default_manager.filter(pk=pk).update(**{column: renewed})
    return len(held)
