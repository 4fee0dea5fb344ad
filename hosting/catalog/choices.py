"""The closed lists of the catalogue."""

from django.db.models import TextChoices


class DiskState(TextChoices):
    """Importing: a VDI of that name may exist, with anything in it. Ready: it may be cloned."""

    IMPORTING = "importing"
    READY = "ready"
