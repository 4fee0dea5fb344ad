"""Tenants and all their containers, as operators see them."""

from __future__ import annotations

from contextlib import suppress
from uuid import UUID

from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect

from frontend.console.access import actor_of, address_of, form, page
from frontend.console.forms import LimitsForm, TenantForm
from frontend.console.showing import attempt, one_page, show, text_in
from hosting.compute.models import ContainerQuerySet, Instance
from hosting.compute.selectors import containers, containers_of, observe
from hosting.operations.selectors import about_things_of, operations_with_owners
from tenants.models import Tenant
from tenants.selectors import members_of, tenants
from tenants.services import change_limits, create_tenant

OPERATIONS_SHOWN = 15


@page
def tenant_list(request: HttpRequest) -> HttpResponse:
    text = text_in(request, "q")
    found = tenants()
    if text:
        found = found.filter(Q(slug__icontains=text) | Q(name__icontains=text))
    return show(request, "tenants", "tenants", tenants=one_page(found, request), text=text)


@page
def tenant_detail(request: HttpRequest, slug: str) -> HttpResponse:
    tenant = _tenant(slug)
    return _show_tenant(request, tenant, LimitsForm.of(tenant.quota))


@page
def tenant_anywhere(request: HttpRequest, uuid: UUID) -> HttpResponse:
    """Whoever knows the uuid and not the name."""
    return redirect("console:tenant", slug=get_object_or_404(Tenant, pk=uuid).slug)


@form
def limits(request: HttpRequest, slug: str) -> HttpResponse:
    """How much the tenant may have."""
    tenant = _tenant(slug)
    asked = LimitsForm.of(tenant.quota, request.POST or None)
    if not asked.is_valid():
        return _show_tenant(request, tenant, asked, status=400 if asked.is_bound else 200)
    changed = asked.changed_limits()
    if changed and not attempt(
        request,
        lambda: change_limits(
            tenant=tenant, limits=changed, actor=actor_of(request), address=address_of(request)
        ),
        f"The limits of {tenant} are changed.",
    ):
        return _show_tenant(request, tenant, asked, status=409)
    return redirect("console:tenant", slug=slug)


def _tenant(slug: str) -> Tenant:
    return get_object_or_404(tenants(), slug=slug)


def _show_tenant(
    request: HttpRequest, tenant: Tenant, limits: LimitsForm, *, status: int = 200
) -> HttpResponse:
    found = one_page(containers_of(tenant), request)
    return show(
        request,
        "tenant",
        "tenants",
        status=status,
        tenant=tenant,
        limits=limits,
        members=members_of(tenant),
        page=found,
        containers=[observe(one) for one in found],
        operations=operations_with_owners().filter(about_things_of(tenant))[:OPERATIONS_SHOWN],
    )


@form
def new_tenant(request: HttpRequest) -> HttpResponse:
    asked = TenantForm(request.POST or None)
    if asked.is_valid():
        given = asked.cleaned_data
        if attempt(
            request, lambda: create_tenant(**given), f"There is a tenant {given['slug']} now."
        ):
            return redirect("console:tenant", slug=given["slug"])
        return show(request, "new_tenant", "tenants", form=asked, status=409)
    return show(request, "new_tenant", "tenants", form=asked, status=400 if asked.is_bound else 200)


@page
def container_list(request: HttpRequest) -> HttpResponse:
    text = text_in(request, "q")
    found = one_page(_narrow(containers(), text), request)
    return show(
        request,
        "containers",
        "containers",
        page=found,
        containers=[observe(one) for one in found],
        text=text,
    )


def _narrow(found: ContainerQuerySet, text: str) -> ContainerQuerySet:
    if not text:
        return found
    named = Q(name__icontains=text) | Q(tenant__slug__icontains=text)
    named |= Q(version__image__name__icontains=text)
    with suppress(ValueError):
        named |= Q(uuid=UUID(text)) | Q(pk__in=_container_of(UUID(text)))
    return found.filter(named)


def _container_of(instance: UUID) -> QuerySet[Instance, UUID]:
    return Instance.objects.filter(pk=instance).values_list("container", flat=True)
