"""Operators' raw view of the fleet. Mirror rows and the ledger's counts are not edited by hand."""

from typing import Any

from django.contrib import admin
from django.db.models import Model
from django.http import HttpRequest

from hosting.fleet.models import (
    Host,
    Network,
    Pbd,
    Pool,
    StorageRepository,
    Vbd,
    Vdi,
    Vif,
    VirtualMachine,
)


class Shown:
    """An admin page, or rows on one: never changed here."""

    def has_add_permission(self, request: HttpRequest, *_: Any) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False


class ReadOnly(Shown, admin.ModelAdmin[Any]):
    """A model that is only looked at."""


@admin.register(Pool)
class PoolAdmin(ReadOnly):
    """Pools are enrolled by `manage.py enrol_pool`, which checks what it is told."""

    list_display = ["name", "url", "state", "master", "version", "last_seen_at"]
    list_select_related = ["master"]
    exclude = ["sealed_password", "follower_token"]


@admin.register(Host)
class HostAdmin(ReadOnly):
    """States change by workflows, and reservations by placement."""

    list_display = [
        "name",
        "pool",
        "state",
        "enabled",
        "live",
        "memory_capacity_bytes",
        "memory_reserved_bytes",
    ]
    list_filter = ["pool", "state", "live"]
    list_select_related = ["pool"]
    search_fields = ["name", "address", "uuid"]
    exclude = ["sealed_bmc_password"]


@admin.register(VirtualMachine)
class VirtualMachineAdmin(ReadOnly):
    list_display = ["name", "pool", "power_state", "resident_on", "instance_uuid"]
    list_filter = ["pool", "power_state", "is_a_template", "is_a_snapshot"]
    list_select_related = ["pool", "resident_on"]
    search_fields = ["name", "uuid", "instance_uuid"]


@admin.register(StorageRepository)
class StorageRepositoryAdmin(ReadOnly):
    list_display = ["name", "pool", "type", "shared", "physical_size_bytes"]
    list_filter = ["pool", "type", "shared"]
    list_select_related = ["pool"]
    search_fields = ["name", "uuid"]


@admin.register(Vdi)
class VdiAdmin(ReadOnly):
    list_display = ["name", "sr", "virtual_size_bytes", "missing"]
    list_filter = ["pool", "missing"]
    list_select_related = ["sr"]
    search_fields = ["name", "uuid"]


@admin.register(Network)
class NetworkAdmin(ReadOnly):
    list_display = ["name", "pool", "bridge", "mtu"]
    list_filter = ["pool"]
    list_select_related = ["pool"]
    search_fields = ["name", "uuid"]


@admin.register(Pbd)
class PbdAdmin(ReadOnly):
    list_display = ["uuid", "host", "sr", "currently_attached"]
    list_select_related = ["host", "sr"]
    search_fields = ["uuid"]


@admin.register(Vbd)
class VbdAdmin(ReadOnly):
    list_display = ["uuid", "vm", "vdi", "device", "currently_attached"]
    list_select_related = ["vm", "vdi"]
    search_fields = ["uuid", "vm__name"]


@admin.register(Vif)
class VifAdmin(ReadOnly):
    list_display = ["uuid", "vm", "network", "mac", "locking_mode"]
    list_select_related = ["vm", "network"]
    search_fields = ["uuid", "mac", "vm__name"]
