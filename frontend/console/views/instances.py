"""One instance whose VM its pool does not know any more."""

from __future__ import annotations

from uuid import UUID

from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect

from frontend.console.access import actor_of, form
from frontend.console.showing import attempt, show
from hosting.compute.models import Instance
from hosting.compute.services import confirm_vm_is_gone
from hosting.errors import InvalidRequest


@form
def vm_is_gone(request: HttpRequest, uuid: UUID) -> HttpResponse:
    """Asks for the container's name: a VM that runs unseen would get a twin."""
    living = Instance.objects.all().living().select_related("container__tenant", "host")
    instance = get_object_or_404(living, pk=uuid)
    if request.method == "POST" and attempt(
        request,
        lambda: _vouch(instance, request.POST.get("name", ""), actor_of(request)),
        f"{instance.container} may be started anew.",
    ):
        return redirect("console:alarms")
    status = 409 if request.method == "POST" else 200
    return show(request, "vm_is_gone", "alarms", status=status, instance=instance)


def _vouch(instance: Instance, typed_name: str, actor: str) -> None:
    if typed_name.strip() != instance.container.name:
        raise InvalidRequest("That is not the name of this container.", code="name_differs")
    confirm_vm_is_gone(instance=instance, actor=actor)
