"""Operators' raw view of the tenants app."""

from typing import Any

from django.contrib import admin
from django.contrib.auth.admin import UserAdmin
from django.http import HttpRequest

from tenants.models import ApiToken, Membership, Quota, Tenant, User

admin.site.register(User, UserAdmin)


class MembershipInline(admin.TabularInline[Membership, Tenant]):
    model = Membership
    extra = 0
    autocomplete_fields = ["user"]


class QuotaInline(admin.StackedInline[Quota, Tenant]):
    model = Quota
    readonly_fields = ["containers_used", "vcpus_used", "memory_bytes_used", "disk_bytes_used"]


@admin.register(Tenant)
class TenantAdmin(admin.ModelAdmin[Tenant]):
    list_display = ["slug", "name", "created_at"]
    search_fields = ["slug", "name"]
    inlines = [QuotaInline, MembershipInline]


@admin.register(ApiToken)
class ApiTokenAdmin(admin.ModelAdmin[ApiToken]):
    """To look and to revoke; tokens are made by those who will hold them."""

    list_display = ["prefix", "name", "tenant", "created_by", "expires_at", "revoked_at"]
    list_filter = ["revoked_at"]
    search_fields = ["prefix", "name", "tenant__slug"]
    readonly_fields = ["prefix", "tenant", "created_by", "scopes", "expires_at", "last_used_at"]

    def has_add_permission(self, request: HttpRequest, *_: Any) -> bool:
        return False
