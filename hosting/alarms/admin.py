"""Operators' raw view of alarms and of the audit trail."""

from django.contrib import admin

from hosting.alarms.models import Alarm, AuditEntry
from hosting.fleet.admin import ReadOnly


@admin.register(Alarm)
class AlarmAdmin(ReadOnly):
    list_display = ["title", "severity", "tag", "opened_at", "closed_at", "times"]
    list_filter = ["severity", ("closed_at", admin.EmptyFieldListFilter)]
    search_fields = ["tag", "title"]


@admin.register(AuditEntry)
class AuditEntryAdmin(ReadOnly):
    list_display = ["at", "actor", "action", "subject"]
    list_filter = ["action"]
    search_fields = ["actor", "subject"]
