"""The words of warm starts."""

from django.db.models import TextChoices


class BlankState(TextChoices):
    """Preparing: asked for, or being made. Ready: paused, for whoever takes it first. Taken: an instance has
    it, and nobody else ever will. Retired: to be destroyed. Ended: it is some instance's VM, or is gone.
    """

    PREPARING = "preparing"
    READY = "ready"
    TAKEN = "taken"
    RETIRED = "retired"
    ENDED = "ended"


# In these it holds its host's memory itself; one that is taken has passed that on.
HOLDERS = (BlankState.PREPARING, BlankState.READY, BlankState.RETIRED)
IDLE = (BlankState.PREPARING, BlankState.READY)
BOOTS = ("boot_mode", "boot_kernel", "boot_ramdisk", "boot_args")
"""Columns of a pool that say how its VMs boot; a blank has them as they were when it was made."""
