"""Operators' raw view of compute: the ledger is never edited by hand."""

from django.contrib import admin

from hosting.compute.models import Container, Instance
from hosting.fleet.admin import ReadOnly


@admin.register(Container)
class ContainerAdmin(ReadOnly):
    list_display = ["name", "tenant", "desired_state", "vcpus", "memory_bytes", "deleted_at"]
    list_filter = ["desired_state", ("deleted_at", admin.EmptyFieldListFilter)]
    list_select_related = ["tenant"]
    search_fields = ["name", "uuid", "tenant__slug"]
    exclude = ["env"]


@admin.register(Instance)
class InstanceAdmin(ReadOnly):
    list_display = ["uuid", "container", "pool", "host", "target", "reserved_bytes", "ended_at"]
    list_filter = ["pool", ("ended_at", admin.EmptyFieldListFilter)]
    list_select_related = ["container", "pool", "host", "target"]
    search_fields = ["uuid", "vm_uuid", "container__name", "mac"]
