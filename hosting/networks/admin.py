"""Operators' raw view of networks: what is given out is never edited by hand."""

from django.contrib import admin

from hosting.fleet.admin import ReadOnly
from hosting.networks.models import Network, Segment


@admin.register(Network)
class NetworkAdmin(ReadOnly):
    list_display = ["subnet", "tenant", "created_at"]
    list_select_related = ["tenant"]
    search_fields = ["uuid", "tenant__slug"]


@admin.register(Segment)
class SegmentAdmin(ReadOnly):
    list_display = ["tag", "pool", "device", "network", "made_at", "retired_at", "ended_at"]
    list_filter = ["pool", ("ended_at", admin.EmptyFieldListFilter)]
    list_select_related = ["pool", "network__tenant"]
    search_fields = ["uuid", "network_uuid", "network__tenant__slug"]
