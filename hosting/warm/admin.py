"""Operators' raw view of warm starts: what is wanted is said by `manage.py set_warm`."""

from django.contrib import admin

from hosting.compute.models import SIZES
from hosting.fleet.admin import ReadOnly
from hosting.warm.models import Blank, WarmPolicy


@admin.register(WarmPolicy)
class WarmPolicyAdmin(ReadOnly):
    list_display = ["pool", *SIZES, "count"]
    list_filter = ["pool"]
    list_select_related = ["pool"]


@admin.register(Blank)
class BlankAdmin(ReadOnly):
    list_display = ["uuid", "host", "state", *SIZES, "reserved_bytes", "ready_at"]
    list_filter = ["pool", "state"]
    list_select_related = ["host"]
    search_fields = ["uuid", "vm_uuid", "instance__uuid"]
