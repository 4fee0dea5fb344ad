"""Tasks that clients make, cancel and clear away (FACTS 10; recorded: task_user, async_states)."""

from __future__ import annotations

import uuid
from typing import Any

from deploy.lab.database import Row
from deploy.lab.dispatch import Call, message
from deploy.lab.errors import XapiError
from deploy.lab.generic import add_to_map, remove_from_map

ANY_TASK = ("pool-admin", "pool-operator")
"""Roles that may cancel and destroy the tasks of others."""


@message("task.create")
def create(call: Call, label: str, description: str) -> str:
    return call.lab.tasks.make(call, label, description).ref


@message("task.cancel")
def cancel(call: Call, task: Row) -> None:
    """Ask the operation to stop at its next chance; without effect when it is over."""
    _check_own(call, task)
    asking = f"DummyRef:|{uuid.uuid4()}|task.cancel"
    call.db.update(task, current_operations={asking: "cancel"})
    running = call.lab.tasks.calls.get(task.ref)
    if running is not None:
        running.cancelled.set()


@message("task.destroy")
def destroy(call: Call, task: Row) -> None:
    """A pending task goes when it ends."""
    _check_own(call, task)
    if task.status in ("pending", "cancelling"):
        call.db.update(task, current_operations={"task": "destroy", **task.current_operations})
    else:
        call.db.delete(task)


def _check_own(call: Call, task: Row) -> None:
    session = call.session
    assert session is not None
    if task.session == session.ref or session.is_local_superuser:
        return
    owner = call.db.find("session", task.session)
    if owner is not None and owner.auth_user_name == session.auth_user_name:
        return
    if call.lab.sessions.accounts[session.auth_user_name].role not in ANY_TASK:
        name = call.message.full_name
        raise XapiError("RBAC_PERMISSION_DENIED", f"{name}/any", "No permission in user session.")


@message("task.set_status", "task.set_progress", "task.set_result", "task.set_error_info")
def set_outcome(call: Call, task: Row, value: Any) -> None:
    """Write as asked; nothing else about the task follows from it (recorded: task_user)."""
    call.db.update(task, **{call.message.name.removeprefix("set_"): value})


@message("task.set_other_config")
def set_other_config(call: Call, task: Row, value: dict[str, str]) -> None:
    call.db.update(task, other_config=value)


@message("task.add_to_other_config")
def add_to_other_config(call: Call, task: Row, key: str, value: str) -> None:
    add_to_map(call, task, "other_config", key, value)


@message("task.remove_from_other_config")
def remove_from_other_config(call: Call, task: Row, key: str) -> None:
    remove_from_map(call, task, "other_config", key)
