"""Asking for containers, and for something else of them.

Each writes the wish, takes or gives back the quota for it and requests the operation that fulfils it, in one
transaction. Nothing here waits for anything.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256

from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction

from hosting.alarms.services import record_audit
from hosting.catalog.models import Image, ImageVersion
from hosting.compute.choices import DesiredState, RestartPolicy
from hosting.compute.models import SIZES, Container, Instance
from hosting.compute.selectors import living_instance_of
from hosting.errors import Conflict, InvalidRequest, NotFound
from hosting.operations.models import Operation
from hosting.operations.selectors import active_operation_about, operation_of_key
from hosting.operations.services import request, supersede
from tenants.models import Tenant, is_slug
from tenants.services import give_back_quota, take_quota

MIB = 2**20
MEMORY_BYTES = (64 * MIB, 2**40)
DISK_BYTES = (64 * MIB, 2040 * 2**30)  # a VHD is no longer: XAPI.md, VDI_TOO_LARGE
VCPUS = (1, 32)
# A command and an environment travel on a disk of 2 MiB.
_LONGEST_TEXT = 256 * 1024
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*\Z")


@dataclass(frozen=True, slots=True)
class Sizes:
    """How large a container is. Memory and disk are whole MiB."""

    vcpus: int = 1
    memory_bytes: int = 256 * MIB
    disk_bytes: int = 1024 * MIB

    def check(self) -> None:
        """Raises InvalidRequest."""
        for name, (least, most) in (
            ("vcpus", VCPUS),
            ("memory_bytes", MEMORY_BYTES),
            ("disk_bytes", DISK_BYTES),
        ):
            if not least <= getattr(self, name) <= most:
                raise InvalidRequest(f"{name}: from {least} to {most}.")
        for name in ("memory_bytes", "disk_bytes"):
            if getattr(self, name) % MIB:
                raise InvalidRequest(f"{name}: whole MiB ({MIB} bytes).")


@dataclass(frozen=True, slots=True)
class _Asked:
    tenant: str
    image: str
    name: str
    command: Sequence[str]
    env: Mapping[str, str]
    sizes: Sizes
    restart_policy: str

    @property
    def fingerprint(self) -> str:
        return sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()


def create_container(
    *,
    tenant: Tenant,
    name: str,
    image: Image,
    requested_by: str,
    command: Sequence[str] = (),
    env: Mapping[str, str] | None = None,
    sizes: Sizes | None = None,
    restart_policy: RestartPolicy = RestartPolicy.ALWAYS,
    idempotency_key: str = "",
) -> tuple[Container, Operation]:
    """A container that shall run, and the operation that makes it so.

    Raises InvalidRequest; NotFound (the image is another tenant's); QuotaExceeded; Conflict: "name_taken",
    "image_not_ready" (its import has not ended), "idempotency_key_reused".
    """
    sizes = sizes or Sizes()
    asked = _Asked(
        str(tenant.pk),
        str(image.pk),
        name,
        list(command),
        dict(env or {}),
        sizes,
        restart_policy.value,
    )
    _assert_asked_well(asked)
    made = _made_before(requested_by, idempotency_key, asked)
    if made is not None:
        return made
    try:
        with transaction.atomic():
            return _create(tenant, image, asked, requested_by, idempotency_key)
    except (IntegrityError, Conflict) as error:
        # The same request may have been faster by another way.
        made = _made_before(requested_by, idempotency_key, asked)
        if made is not None:
            return made
        if isinstance(error, Conflict):
            raise
        raise Conflict("That name is taken.", code="name_taken", name=name) from error


def _create(
    tenant: Tenant, image: Image, asked: _Asked, requested_by: str, idempotency_key: str
) -> tuple[Container, Operation]:
    version = _current_version(tenant, image)
    container = Container.objects.create(
        tenant=tenant,
        name=asked.name,
        version=version,
        command=list(asked.command),
        env=dict(asked.env),
        restart_policy=asked.restart_policy,
        **asdict(asked.sizes),
    )
    instance = Instance.objects.create(
        container=container, generation=container.generation, **asdict(asked.sizes)
    )
    take_quota(tenant, container.holds(instance))
    operation = request(
        "instance.provision",
        instance,
        requested_by=requested_by,
        facts={"asked": asked.fingerprint},
        idempotency_key=idempotency_key,
    )
    return container, operation


def start_container(
    *, container: Container, requested_by: str, idempotency_key: str = ""
) -> Operation:
    """Wish that it runs. Raises NotFound; Conflict ("operation_in_progress")."""
    with transaction.atomic():
        instance = _wish(container, desired_state=DesiredState.RUNNING)
        kind = "instance.provision" if instance.published_at is None else "instance.start"
        return request(kind, instance, requested_by=requested_by, idempotency_key=idempotency_key)


def stop_container(
    *, container: Container, requested_by: str, idempotency_key: str = ""
) -> Operation:
    """Wish that it does not run: asked to end, then ended. Raises as start_container does."""
    with transaction.atomic():
        instance = _wish(container, desired_state=DesiredState.STOPPED)
        return request(
            "instance.stop",
            instance,
            requested_by=requested_by,
            idempotency_key=idempotency_key,
        )


def restart_container(
    *, container: Container, requested_by: str, idempotency_key: str = ""
) -> Operation:
    """Stop and start it. Raises as start_container does; Conflict ("never_started")."""
    with transaction.atomic():
        instance = _wish(container, desired_state=DesiredState.RUNNING)
        _assert_published(instance)
        return request(
            "instance.restart",
            instance,
            requested_by=requested_by,
            idempotency_key=idempotency_key,
        )


def resize_container(
    *,
    container: Container,
    requested_by: str,
    vcpus: int | None = None,
    memory_bytes: int | None = None,
    idempotency_key: str = "",
) -> Operation:
    """Another number of vCPUs or bytes of memory; it stops for that and keeps its disks.

    Raises InvalidRequest, NotFound, QuotaExceeded, Conflict ("never_started", "operation_in_progress").
    """
    with transaction.atomic():
        now = Container.objects.all().locked(container.pk)
        sizes = Sizes(
            vcpus=now.vcpus if vcpus is None else vcpus,
            memory_bytes=now.memory_bytes if memory_bytes is None else memory_bytes,
            disk_bytes=now.disk_bytes,
        )
        sizes.check()
        instance = living_instance_of(now)
        _assert_published(instance)
        held = now.holds(instance)
        _wish(now, **{name: getattr(sizes, name) for name in SIZES})
        now.refresh_from_db()
        # Only more is taken now: less is given back when the VM has become smaller.
        more = {name: now.holds(instance)[name] - held[name] for name in SIZES}
        take_quota(now.tenant, {name: max(amount, 0) for name, amount in more.items()})
        return request(
            "instance.resize",
            instance,
            requested_by=requested_by,
            idempotency_key=idempotency_key,
        )


def delete_container(*, container: Container, requested_by: str) -> Operation:
    """Wish it gone, with its disks, whatever is being done with it. Asked twice is asked once.

    Raises NotFound when it is gone already.
    """
    with transaction.atomic():
        now = Container.objects.all().locked(container.pk)
        instance = living_instance_of(now)
        Container.objects.filter(pk=now.pk).wish(desired_state=DesiredState.DELETED)
        active = active_operation_about(instance)
        if active is not None:
            return supersede(active, "instance.teardown", requested_by=requested_by)
        return request("instance.teardown", instance, requested_by=requested_by)


@transaction.atomic
def confirm_vm_is_gone(*, instance: Instance, actor: str) -> None:
    """A person vouches that no VM of it runs, though the ledger has it running and its pool knows of none.

    What it held of its host is given back, and it may be started anew. Raises Conflict ("vm_is_seen") while
    its pool shows a VM of it.
    """
    seen = Instance.objects.all().living().with_facts().filter(pk=instance.pk).first()
    if seen is None or seen.power_state is not None:
        raise Conflict("Its pool shows a VM of it.", code="vm_is_seen", instance=instance.pk)
    record_audit(actor=actor, action="instance.vm_is_gone", subject=f"instance:{instance.pk}")
    Instance.objects.all().leave_host(instance)


# ------------------------------------------------------------------------------- what the workflows write


def release_container(instance: Instance) -> None:
    """The end of an instance whose container is to be deleted: nothing is left of either in the pool.

    Gives back the host's memory and the quota. Doing it twice is doing it once.
    """
    now = Instance.objects.select_related("container__tenant").get(pk=instance.pk)
    if not now.lives:
        return
    Instance.objects.all().leave_host(now)
    Instance.objects.all().living().filter(pk=now.pk).end()
    Container.objects.filter(pk=now.container_id).delete_at_last()
    give_back_quota(now.container.tenant, now.container.holds(now))


def settle_sizes(instance: Instance) -> None:
    """The VM is as large as wished: give back what is held beyond that."""
    now = Instance.objects.select_related("container__tenant").get(pk=instance.pk)
    wished = {name: getattr(now.container, name) for name in SIZES}
    _hold_only(now, wished)
    Instance.objects.filter(pk=now.pk).update(generation=now.container.generation, **wished)


def forget_resize(instance: Instance) -> None:
    """The VM stays as large as it was: so does the wish."""
    now = Instance.objects.select_related("container__tenant").get(pk=instance.pk)
    true = {name: getattr(now, name) for name in SIZES}
    _hold_only(now, true)
    Container.objects.filter(pk=now.container_id).update(**true)


def _hold_only(instance: Instance, sizes: Mapping[str, int]) -> None:
    held = instance.container.holds(instance)
    give_back_quota(instance.container.tenant, {name: held[name] - sizes[name] for name in SIZES})


# ------------------------------------------------------------------------------------------------- checks


def _wish(container: Container, **wishes: object) -> Instance:
    if not Container.objects.filter(pk=container.pk).wish(**wishes):
        raise NotFound("There is no such container.", container=container.pk)
    return living_instance_of(container)


def _current_version(tenant: Tenant, image: Image) -> ImageVersion:
    if not image.is_seen_by(tenant):
        raise NotFound("There is no such image.", image=image.pk)
    if image.current is None:
        raise Conflict("The image is not imported yet.", code="image_not_ready", image=image.pk)
    return image.current


def _assert_published(instance: Instance) -> None:
    if instance.published_at is None:
        raise Conflict("It has never run yet: start it.", code="never_started")


def _assert_asked_well(asked: _Asked) -> None:
    try:
        is_slug(asked.name)
    except ValidationError as error:
        raise InvalidRequest(f"name: {error.messages[0]}", name=asked.name) from error
    asked.sizes.check()
    wrong = [name for name in asked.env if not _VARIABLE.match(name)]
    if wrong:
        raise InvalidRequest("env: letters, digits, dots, hyphens and underscores make a name.")
    texts = [*asked.command, *asked.env, *asked.env.values()]
    if any("\0" in text for text in texts):
        raise InvalidRequest("command, env: no NUL.")
    if sum(len(text.encode()) + 1 for text in texts) > _LONGEST_TEXT:
        raise InvalidRequest(f"command, env: {_LONGEST_TEXT} bytes together at most.")


def _made_before(
    requested_by: str, idempotency_key: str, asked: _Asked
) -> tuple[Container, Operation] | None:
    operation = operation_of_key(requested_by=requested_by, idempotency_key=idempotency_key)
    if operation is None:
        return None
    if operation.instance is None or operation.facts.get("asked") != asked.fingerprint:
        raise Conflict(
            "This idempotency key was used for another request.",
            code="idempotency_key_reused",
            operation=operation.uuid,
        )
    return operation.instance.container, operation
