"""Where instances go. Pure: dataclasses in, dataclasses out, standard library only."""

from worker.placement.explain import explain
from worker.placement.model import Answer, Choice, HostView, NoPlace, Request, overhead_bytes
from worker.placement.plan import Plan, plan
from worker.placement.score import choose

__all__ = [
    "Answer",
    "Choice",
    "HostView",
    "NoPlace",
    "Plan",
    "Request",
    "choose",
    "explain",
    "overhead_bytes",
    "plan",
]
