"""Where a person lands: at their tenant, at a choice of tenants, or at the operators' console."""

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from tenants.selectors import memberships_of


@never_cache
@require_safe
@login_required
def home(request: HttpRequest) -> HttpResponse:
    assert request.user.is_authenticated
    memberships = list(memberships_of(request.user))
    if len(memberships) == 1:
        return redirect("dashboard:containers", slug=memberships[0].tenant.slug)
    if not memberships and request.user.is_staff:
        return redirect("console:pools")
    return render(request, "dashboard/choose.html", {"memberships": memberships})
