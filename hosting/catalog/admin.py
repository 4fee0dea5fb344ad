"""Operators' raw view of the catalogue: it changes by services and workflows only."""

from django.contrib import admin

from hosting.catalog.models import GoldenDisk, Image, ImageVersion
from hosting.fleet.admin import ReadOnly


@admin.register(Image)
class ImageAdmin(ReadOnly):
    list_display = ["name", "tenant", "reference", "current", "created_at", "removed_at"]
    list_filter = [("removed_at", admin.EmptyFieldListFilter)]
    list_select_related = ["tenant", "current"]
    search_fields = ["name", "reference", "uuid", "tenant__slug"]


@admin.register(ImageVersion)
class ImageVersionAdmin(ReadOnly):
    list_display = ["digest", "image", "created_at"]
    list_select_related = ["image"]
    search_fields = ["digest", "image__name"]


@admin.register(GoldenDisk)
class GoldenDiskAdmin(ReadOnly):
    list_display = ["digest", "builder_version", "pool", "sr_uuid", "state", "size_bytes"]
    list_filter = ["pool", "state"]
    list_select_related = ["pool"]
    search_fields = ["digest", "vdi_uuid"]
