"""Operators' raw view of operations: read-only, since only the engine may move them."""

from typing import Any

from django.contrib import admin

from hosting.fleet.admin import ReadOnly, Shown
from hosting.operations.models import Operation, OperationEvent


class JournalInline(Shown, admin.TabularInline[Any, Any]):
    model = OperationEvent
    fields = ["at", "what", "step", "attempt", "message", "private"]


@admin.register(Operation)
class OperationAdmin(ReadOnly):
    list_display = ["kind", "state", "step", "trouble", "attempt", "run_at", "created_at"]
    list_filter = ["state", "trouble", "kind"]
    search_fields = ["uuid", "requested_by"]
    exclude = ["lease_token"]
    inlines = [JournalInline]


@admin.register(OperationEvent)
class OperationEventAdmin(ReadOnly):
    list_display = ["at", "operation", "what", "step", "message"]
    list_filter = ["what"]
    list_select_related = ["operation"]
    search_fields = ["operation__uuid"]
