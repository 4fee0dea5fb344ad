"""The closed lists of the tenants app."""

from django.db import models


class Role(models.TextChoices):
    """What a person is in a tenant; what each may do: permissions.py."""

    OWNER = "owner"
    MEMBER = "member"
    VIEWER = "viewer"


class Scope(models.TextChoices):
    """What a token may do, at most; never more than whoever made it may."""

    VIEW = "view"
    OPERATE = "operate"
    MANAGE = "manage"


# The things a tenant has so much of; each is a column pair of Quota.
DIMENSIONS = ("containers", "vcpus", "memory_bytes", "disk_bytes")
