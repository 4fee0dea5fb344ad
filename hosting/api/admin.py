"""Operators' raw view of what the REST edge keeps: read-only, and without what was answered."""

from django.contrib import admin

from hosting.api.models import Answer
from hosting.fleet.admin import ReadOnly


@admin.register(Answer)
class AnswerAdmin(ReadOnly):
    list_display = ["caller", "key", "status", "created_at"]
    search_fields = ["caller", "key"]
    exclude = ["sealed_body"]
