"""The closed lists of the catalogue."""

from django.db.models import TextChoices


class ImageState(TextChoices):
    """What people are told of an image. Derived at each look, never stored.

    Ready: containers may be made from it, whatever else goes on. Failed: its import ended badly, and
    somebody must ask again.
    """

    IMPORTING = "importing"
    READY = "ready"
    FAILED = "failed"


class DiskState(TextChoices):
    """Importing: a VDI of that name may exist, with anything in it. Ready: it may be cloned."""

    IMPORTING = "importing"
    READY = "ready"
