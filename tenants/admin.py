"""Operators' raw view of the tenants app. Tenants are made, and limits changed, in the console."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.contrib.auth.admin import UserAdmin
from django.core.exceptions import ValidationError
from django.db.models import Model, QuerySet
from django.forms.models import BaseInlineFormSet
from django.http import HttpRequest

from hosting.fleet.admin import ReadOnly, Shown
from tenants.choices import DIMENSIONS, Role
from tenants.models import ApiToken, Membership, Quota, Tenant, User
from tenants.services import revoke_token


@admin.register(User)
class PersonAdmin(UserAdmin[User]):
    """People are never deleted, or a tenant might lose its owner: take away `is_active`."""

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False


class KeepsAnOwner(BaseInlineFormSet[Membership, Tenant, Any]):
    def clean(self) -> None:
        super().clean()
        kept = [form for form in self.forms if not form.cleaned_data.get("DELETE")]
        if not any(form.cleaned_data.get("role") == Role.OWNER for form in kept):
            raise ValidationError("A tenant keeps at least one owner.")


class MembershipInline(admin.TabularInline[Membership, Tenant]):
    model = Membership
    formset = KeepsAnOwner
    extra = 0
    autocomplete_fields = ["user"]


_AMOUNTS = [f"{name}_{kind}" for name in DIMENSIONS for kind in ("used", "limit")]


class QuotaInline(Shown, admin.StackedInline[Quota, Tenant]):
    model = Quota
    fields = [*_AMOUNTS]
    readonly_fields = _AMOUNTS


@admin.register(Tenant)
class TenantAdmin(admin.ModelAdmin[Tenant]):
    list_display = ["slug", "name", "created_at"]
    search_fields = ["slug", "name"]
    readonly_fields = ["slug", "created_at"]
    inlines = [QuotaInline, MembershipInline]

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False


@admin.register(Membership)
class MembershipAdmin(ReadOnly):
    """Changed on the page of the tenant, which sees all of them at once."""

    list_display = ["tenant", "user", "role", "created_at"]
    list_filter = ["role"]
    list_select_related = ["tenant", "user"]
    search_fields = ["tenant__slug", "user__username"]


@admin.register(Quota)
class QuotaAdmin(ReadOnly):
    list_display = ["tenant", "containers_used", "vcpus_used", "memory_bytes_used"]
    list_select_related = ["tenant"]
    search_fields = ["tenant__slug"]
    fields = ["tenant", *_AMOUNTS]
    readonly_fields = _AMOUNTS


@admin.action(description="Revoke them for good")
def revoke(_: Any, request: HttpRequest, tokens: QuerySet[ApiToken]) -> None:
    for token in tokens:
        revoke_token(token)


@admin.register(ApiToken)
class ApiTokenAdmin(ReadOnly):
    """To look and to revoke; tokens are made by those who will hold them."""

    list_display = ["prefix", "name", "tenant", "created_by", "expires_at", "revoked_at"]
    list_filter = ["revoked_at"]
    list_select_related = ["tenant", "created_by"]
    search_fields = ["prefix", "name", "tenant__slug"]
    exclude = ["digest"]
    actions = [revoke]
