"""Operations: what is under way, what went wrong, and what an operator does about it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from uuid import UUID

from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.urls import reverse

from frontend.console.access import act, actor_of, page
from frontend.console.showing import attempt, back, one_page, show, text_in
from hosting.operations.choices import KINDS, State, Trouble
from hosting.operations.models import Operation, OperationQuerySet
from hosting.operations.selectors import (
    children_of,
    journal_of,
    operations_named,
    operations_with_owners,
)
from hosting.operations.services import call_off, run_now

# Beside the states: all that has not ended.
UNDER_WAY = "under-way"
ANY_TROUBLE = "any"
_CHILDREN_SHOWN = 100


@dataclass(frozen=True, slots=True)
class OperationFilter:
    """What the operator narrowed the list to; nonsense in the address narrows nothing."""

    text: str
    state: str
    kind: str
    trouble: str

    @classmethod
    def of(cls, request: HttpRequest) -> OperationFilter:
        state, kind = request.GET.get("state", ""), request.GET.get("kind", "")
        trouble = request.GET.get("trouble", "")
        return cls(
            text=text_in(request, "q"),
            state=state if state in {UNDER_WAY, *State.values} else "",
            kind=kind if kind in KINDS else "",
            trouble=trouble if trouble in {ANY_TROUBLE, *Trouble.values} else "",
        )

    def apply(self, operations: OperationQuerySet) -> OperationQuerySet:
        if self.text:
            operations = operations.filter(operations_named(self.text))
        if self.state == UNDER_WAY:
            operations = operations.filter(ended_at=None)
        elif self.state:
            operations = operations.filter(state=self.state)
        if self.kind:
            operations = operations.filter(kind=self.kind)
        if self.trouble == ANY_TROUBLE:
            operations = operations.exclude(trouble=Trouble.NONE)
        elif self.trouble:
            operations = operations.filter(trouble=self.trouble)
        return operations

    @property
    def is_set(self) -> bool:
        return bool(self.text or self.state or self.kind or self.trouble)


@page
def operation_list(request: HttpRequest) -> HttpResponse:
    narrowed = OperationFilter.of(request)
    return show(
        request,
        "operations",
        "operations",
        operations=one_page(narrowed.apply(operations_with_owners()), request),
        filter=narrowed,
        states=State.choices,
        kinds=KINDS,
        troubles=[choice for choice in Trouble.choices if choice[0]],
    )


@page
def operation_detail(request: HttpRequest, uuid: UUID) -> HttpResponse:
    operation = get_object_or_404(operations_with_owners(), pk=uuid)
    children = children_of(operation)
    return show(
        request,
        "operation",
        "operations",
        operation=operation,
        facts=json.dumps(operation.facts, indent=2, sort_keys=True, ensure_ascii=False),
        journal=journal_of(operation),
        children=children[:_CHILDREN_SHOWN],
        child_count=children.count(),
    )


@act
def cancel(request: HttpRequest, uuid: UUID) -> HttpResponse:
    operation = _operation(uuid)
    attempt(
        request,
        lambda: call_off(operation, requested_by=actor_of(request)),
        "It turns back at its next step, if it still can.",
    )
    return back(request, _address_of(operation))


@act
def wake(request: HttpRequest, uuid: UUID) -> HttpResponse:
    operation = _operation(uuid)
    attempt(request, lambda: run_now(operation), "It tries its step again now.")
    return back(request, _address_of(operation))


def _operation(uuid: UUID) -> Operation:
    return get_object_or_404(operations_with_owners(), pk=uuid)


def _address_of(operation: Operation) -> str:
    return reverse("console:operation", args=[operation.pk])
