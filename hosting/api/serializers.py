"""What is said and taken, field by field. Sizes are bytes, times are UTC. …Out is said, …In is taken."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from hosting.alarms.choices import Severity
from hosting.compute.choices import DesiredState, RestartPolicy, Status
from hosting.compute.services import Sizes
from hosting.fleet.choices import HostState, PoolState
from hosting.operations.choices import State, Trouble, What
from tenants.choices import DIMENSIONS, Role, Scope
from tenants.models import Quota

PROBLEM_JSON = "application/problem+json"


class PointedOut(serializers.Serializer[Any]):
    pointer = serializers.CharField(help_text="JSON pointer into the request's body.")
    detail = serializers.CharField()


class ProblemOut(serializers.Serializer[Any]):
    """RFC 9457. Programs go by `code`; docs/errors.md lists them."""

    type = serializers.CharField()
    status = serializers.IntegerField()
    code = serializers.CharField()
    detail = serializers.CharField()
    errors = PointedOut(many=True, required=False)  # type: ignore[assignment]  # a field's name


# ----------------------------------------------------------------------------------------------- tenants


class TenantOut(serializers.Serializer[Any]):
    slug = serializers.CharField()
    name = serializers.CharField()
    role = serializers.ChoiceField(Role.choices, help_text="Yours in it.")
    created_at = serializers.DateTimeField()


class MemberOut(serializers.Serializer[Any]):
    username = serializers.CharField(source="user.username")
    role = serializers.ChoiceField(Role.choices)
    created_at = serializers.DateTimeField()


class DimensionOut(serializers.Serializer[Any]):
    used = serializers.IntegerField()
    limit = serializers.IntegerField()


class QuotaOut(serializers.Serializer[Any]):
    """How much the tenant may have, and how much of that it has taken."""

    containers = DimensionOut()
    vcpus = DimensionOut()
    memory_bytes = DimensionOut()
    disk_bytes = DimensionOut()

    def to_representation(self, instance: Quota) -> dict[str, Any]:
        return {
            name: {
                "used": getattr(instance, f"{name}_used"),
                "limit": getattr(instance, f"{name}_limit"),
            }
            for name in DIMENSIONS
        }


class TokenOut(serializers.Serializer[Any]):
    uuid = serializers.UUIDField()
    name = serializers.CharField()
    prefix = serializers.CharField(help_text="How its secret begins, to tell it by.")
    scopes = serializers.ListField(child=serializers.ChoiceField(Scope.choices))
    created_by = serializers.CharField(source="created_by.username")
    created_at = serializers.DateTimeField()
    expires_at = serializers.DateTimeField()
    last_used_at = serializers.DateTimeField(allow_null=True, help_text="To the minute.")
    revoked_at = serializers.DateTimeField(allow_null=True)


class NewTokenOut(TokenOut):
    secret = serializers.CharField(
        allow_null=True, help_text="Shown this once, and kept nowhere: null in a repeated answer."
    )


class TokenIn(serializers.Serializer[Any]):
    name = serializers.CharField(max_length=100)
    scopes = serializers.ListField(child=serializers.ChoiceField(Scope.choices), min_length=1)
    expires_at = serializers.DateTimeField(help_text="Within a year from now.")


class MyTokenOut(serializers.Serializer[Any]):
    prefix = serializers.CharField()
    scopes = serializers.ListField(child=serializers.ChoiceField(Scope.choices))
    expires_at = serializers.DateTimeField()


class MeOut(serializers.Serializer[Any]):
    username = serializers.CharField()
    email = serializers.CharField()
    is_operator = serializers.BooleanField()
    tenants = TenantOut(many=True)
    token = MyTokenOut(allow_null=True, help_text="What you call with; null for a session.")


# -------------------------------------------------------------------------------------------- operations


class OperationOut(serializers.Serializer[Any]):
    """Something long-running: look at it until `ended_at` is set, or wait for that with `?wait=`."""

    uuid = serializers.UUIDField()
    kind = serializers.CharField(help_text='E.g. "instance.provision".')
    state = serializers.ChoiceField(State.choices)
    step = serializers.CharField(help_text="Empty: not begun.")
    container = serializers.UUIDField(source="instance.container_id", allow_null=True, default=None)
    image = serializers.UUIDField(source="image_id", allow_null=True)
    trouble = serializers.ChoiceField(
        [*Trouble.choices[1:], ("", "")], help_text="What its step meets now; it goes on by itself."
    )
    detail = serializers.CharField(help_text="Why it waits or retries now, for people.")
    error_code = serializers.CharField(help_text="Why it turned back or failed, for programs.")
    error = serializers.CharField(help_text="Why it turned back or failed, for people.")
    superseded_by = serializers.UUIDField(source="superseded_by_id", allow_null=True)
    cancel_requested_at = serializers.DateTimeField(allow_null=True)
    created_at = serializers.DateTimeField()
    ended_at = serializers.DateTimeField(allow_null=True)


class FleetOperationOut(OperationOut):
    """With what operators may know."""

    pool = serializers.UUIDField(source="pool_id", allow_null=True)
    host = serializers.UUIDField(source="host_id", allow_null=True)
    instance = serializers.UUIDField(source="instance_id", allow_null=True)
    segment = serializers.UUIDField(
        source="segment_id", allow_null=True, help_text="A tenant's network in one pool."
    )
    blank = serializers.UUIDField(
        source="blank_id", allow_null=True, help_text="A VM that has booted and is nobody's yet."
    )
    requested_by = serializers.CharField()
    attempt = serializers.IntegerField(help_text="Of this step, in a row.")
    run_at = serializers.DateTimeField()
    deadline_at = serializers.DateTimeField(allow_null=True)


class OperationEventOut(serializers.Serializer[Any]):
    at = serializers.DateTimeField()
    what = serializers.ChoiceField(What.choices)
    step = serializers.CharField()
    attempt = serializers.IntegerField()
    message = serializers.CharField()


class FleetOperationEventOut(OperationEventOut):
    """With what operators may know."""

    private = serializers.CharField(help_text="Tracebacks, and what the pool said.")


# ---------------------------------------------------------------------------------------------- containers


class ImageNameOut(serializers.Serializer[Any]):
    uuid = serializers.UUIDField(source="image.uuid")
    name = serializers.CharField(source="image.name")
    digest = serializers.CharField()


class ContainerOut(serializers.Serializer[Any]):
    """Of `hosting.compute.selectors.Observed`."""

    uuid = serializers.UUIDField(source="container.uuid")
    name = serializers.CharField(source="container.name")
    status = serializers.ChoiceField(Status.choices)
    desired_state = serializers.ChoiceField(DesiredState.choices, source="container.desired_state")
    image = ImageNameOut(source="container.version")
    command = serializers.ListField(
        child=serializers.CharField(),
        source="container.command",
        help_text="Empty: what the image says.",
    )
    env = serializers.DictField(child=serializers.CharField(), source="container.env")
    vcpus = serializers.IntegerField(source="container.vcpus")
    memory_bytes = serializers.IntegerField(source="container.memory_bytes")
    disk_bytes = serializers.IntegerField(source="container.disk_bytes")
    restart_policy = serializers.ChoiceField(
        RestartPolicy.choices, source="container.restart_policy"
    )
    ip = serializers.IPAddressField(
        source="instance.ip",
        allow_null=True,
        default=None,
        help_text="On its tenant's own network. Null: it has none, or none yet.",
    )
    started_at = serializers.DateTimeField(
        source="instance.started_at", allow_null=True, default=None
    )
    restarts = serializers.IntegerField(
        source="instance.restarts", default=0, help_text="After ending by itself, in a row."
    )
    exit_code = serializers.IntegerField(
        source="exit.code",
        allow_null=True,
        default=None,
        help_text="How it ended, as `docker run` numbers it: 128 and the signal's number, 125 when it could "
        "not be started. Null while it runs, and when it did not say.",
    )
    exit_reason = serializers.CharField(source="exit.reason", allow_null=True, default=None)
    operation = serializers.UUIDField(
        source="operation.uuid", allow_null=True, default=None, help_text="Under way with it now."
    )
    generation = serializers.IntegerField(
        source="container.generation", help_text="One more with each change of the wish; its ETag."
    )
    created_at = serializers.DateTimeField(source="container.created_at")


_SIZES = Sizes()


class ContainerIn(serializers.Serializer[Any]):
    name = serializers.CharField(max_length=40)
    image = serializers.UUIDField(help_text="The uuid of an image of the catalogue.")
    command = serializers.ListField(
        child=serializers.CharField(allow_blank=True, trim_whitespace=False),
        default=list,
        help_text="Empty: what the image says.",
    )
    env = serializers.DictField(
        child=serializers.CharField(allow_blank=True, trim_whitespace=False),
        default=dict,
        help_text="Shown to the tenant's members.",
    )
    vcpus = serializers.IntegerField(default=_SIZES.vcpus)
    memory_bytes = serializers.IntegerField(default=_SIZES.memory_bytes, help_text="Whole MiB.")
    disk_bytes = serializers.IntegerField(default=_SIZES.disk_bytes, help_text="Whole MiB.")
    restart_policy = serializers.ChoiceField(RestartPolicy.choices, default=RestartPolicy.ALWAYS)


class ResizeIn(serializers.Serializer[Any]):
    """What is absent stays."""

    vcpus = serializers.IntegerField(required=False)
    memory_bytes = serializers.IntegerField(required=False, help_text="Whole MiB.")

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if not attrs:
            raise serializers.ValidationError("Give vcpus, memory_bytes or both.")
        return attrs


class LineOut(serializers.Serializer[Any]):
    cursor = serializers.CharField(help_text="Orders lines, and names this one.")
    at = serializers.DateTimeField()
    text = serializers.CharField(
        help_text="As the container wrote it, without control characters. Escape it before you show it."
    )
    stream = serializers.ChoiceField(
        choices=["stdout", "stderr", "init", "relay", "console"],
        help_text="Where it was written. `console`: the kernel, or a guest that does not say.",
    )
    written_at = serializers.DateTimeField(
        allow_null=True, help_text="By the guest's clock, where it tells one."
    )


class OutputOut(serializers.Serializer[Any]):
    lines = LineOut(many=True, help_text="The newest, oldest first.")


# -------------------------------------------------------------------------------------------------- images


class ImageOut(serializers.Serializer[Any]):
    uuid = serializers.UUIDField()
    name = serializers.CharField()
    reference = serializers.CharField()
    is_everybodys = serializers.SerializerMethodField()
    digest = serializers.CharField(
        source="current.digest",
        allow_null=True,
        default=None,
        help_text="What new containers get; null until it is imported.",
    )
    created_at = serializers.DateTimeField()

    def get_is_everybodys(self, image: Any) -> bool:
        return image.tenant_id is None


class ImageIn(serializers.Serializer[Any]):
    name = serializers.CharField(max_length=40)
    reference = serializers.CharField(
        max_length=500, help_text='Where it comes from: "docker.io/library/nginx:1.27".'
    )


# ------------------------------------------------------------------------------------------------- the fleet


class PoolOut(serializers.Serializer[Any]):
    uuid = serializers.UUIDField()
    name = serializers.CharField()
    url = serializers.CharField()
    state = serializers.ChoiceField(PoolState.choices)
    master = serializers.UUIDField(source="master_id", allow_null=True)
    ha_enabled = serializers.BooleanField()
    version = serializers.CharField()
    last_seen_at = serializers.DateTimeField(
        allow_null=True, help_text="When it last answered its follower."
    )


class HostOut(serializers.Serializer[Any]):
    uuid = serializers.UUIDField()
    pool = serializers.UUIDField(source="pool_id")
    name = serializers.CharField()
    address = serializers.CharField()
    state = serializers.ChoiceField(HostState.choices, help_text="What we want of it.")
    state_changed_at = serializers.DateTimeField()
    enabled = serializers.BooleanField(help_text="XAPI starts VMs on it.")
    live = serializers.BooleanField(help_text="XAPI hears of it.")
    confirmed_off_by = serializers.CharField(
        help_text="Who vouched that it has no power, while no fence can prove it."
    )
    confirmed_off_at = serializers.DateTimeField(allow_null=True)
    is_master = serializers.BooleanField()
    has_bmc = serializers.SerializerMethodField(help_text="Its power can be switched.")
    cpu_count = serializers.IntegerField()
    memory_total_bytes = serializers.IntegerField()
    memory_free_bytes = serializers.IntegerField(help_text="As XAPI measures it.")
    memory_capacity_bytes = serializers.IntegerField(help_text="What instances of ours may use.")
    memory_reserved_bytes = serializers.IntegerField(help_text="What they have taken of that.")
    vms = serializers.IntegerField(source="vm_count")
    vms_running = serializers.IntegerField(source="running_vm_count")
    version = serializers.CharField()

    def get_has_bmc(self, host: Any) -> bool:
        return bool(host.bmc_url)


class HostNameIn(serializers.Serializer[Any]):
    name = serializers.CharField(help_text="The host's name, as a person types it.")


class InstanceOut(serializers.Serializer[Any]):
    """Of `hosting.compute.selectors.Observed`: what holds memory of a host."""

    uuid = serializers.UUIDField(source="instance.uuid")
    tenant = serializers.CharField(source="container.tenant.slug")
    container = serializers.UUIDField(source="container.uuid")
    name = serializers.CharField(source="container.name", help_text="The container's.")
    status = serializers.ChoiceField(Status.choices)
    host = serializers.UUIDField(source="instance.host_id", allow_null=True)
    target = serializers.UUIDField(
        source="instance.target_id", allow_null=True, help_text="Where it is moving to."
    )
    vcpus = serializers.IntegerField(source="instance.vcpus")
    memory_bytes = serializers.IntegerField(source="instance.memory_bytes")
    reserved_bytes = serializers.IntegerField(
        source="instance.reserved_bytes", help_text="On its host, and as much on its target."
    )
    operation = serializers.UUIDField(source="operation.uuid", allow_null=True, default=None)


class AlarmOut(serializers.Serializer[Any]):
    """What a person must look at, until `closed_at` is set; it is by itself."""

    id = serializers.IntegerField(source="pk")
    tag = serializers.CharField(help_text="Its code and what it is about: one stands at a time.")
    code = serializers.CharField(help_text="Names its runbook.")
    severity = serializers.ChoiceField(Severity.choices)
    title = serializers.CharField()
    detail = serializers.CharField()
    opened_at = serializers.DateTimeField()
    last_raised_at = serializers.DateTimeField()
    times = serializers.IntegerField(help_text="How often it was raised while it stood.")
    acknowledged_at = serializers.DateTimeField(allow_null=True)
    acknowledged_by = serializers.CharField()
    closed_at = serializers.DateTimeField(allow_null=True)
