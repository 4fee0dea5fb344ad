"""A blank that nobody took goes, and its host gets its memory back. Only forward: what is absent is done."""

from __future__ import annotations

from datetime import timedelta

from hosting.warm.models import Blank
from worker import blanks
from worker.hypervisor.port import Hypervisor
from worker.workflow import Done, Facts, Next, Outcome, Workflow

discard_blank = Workflow[Blank](
    "blank.discard", subject="blank", first="retire", deadline=timedelta(minutes=10)
)


@discard_blank.ledger
def retire(blank: Blank, facts: Facts) -> Outcome:
    """Unless somebody took it: then it is an instance's, and goes with that. From here on nobody does."""
    return Next(unmake_vm) if Blank.objects.all().retire(blank) else Done()


@discard_blank.remote
def unmake_vm(blank: Blank, facts: Facts, hypervisor: Hypervisor) -> Outcome:
    blanks.unmake(hypervisor, blank)
    return Next(release)


@discard_blank.ledger
def release(blank: Blank, facts: Facts) -> Outcome:
    Blank.objects.all().end(blank)
    return Done()
