"""What people type. A refusal of a service ends up at the field that it is about, and nothing is lost."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any, ClassVar, Self, TypeVar, cast
from uuid import UUID, uuid4

from django import forms
from django.core.exceptions import ValidationError
from django.http import QueryDict

from frontend.dashboard.errors import NAMES, REFUSALS, amount, short_dimensions, status_of
from hosting.catalog.models import Image, ImageQuerySet
from hosting.compute.choices import RestartPolicy
from hosting.compute.models import Container
from hosting.compute.services import DISK_BYTES, MEMORY_BYTES, MIB, VCPUS, Sizes
from hosting.errors import HostingError, QuotaExceeded
from tenants.choices import Role, Scope
from tenants.models import Quota, is_slug

T = TypeVar("T")

_SIZE = re.compile(r"\s*(\d{1,12}(?:\.\d{1,6})?)\s*([MGT]?)(?:i?B)?\s*\Z", re.IGNORECASE)
_UNITS = {"": MIB, "M": MIB, "G": 1024 * MIB, "T": 1024 * 1024 * MIB}
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*\Z")


class DashboardForm(forms.Form):
    """With a key of its own, so that sending it twice asks once (`idempotency_key` of services)."""

    key = forms.CharField(required=False, widget=forms.HiddenInput)

    # What a service calls a thing → the field where the person sees it.
    FIELDS: ClassVar[Mapping[str, str]] = {}
    # Error codes → the field.
    CODES: ClassVar[Mapping[str, str]] = {}

    status = 200

    def __init__(
        self, data: QueryDict | None = None, *, initial: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(data, auto_id="field-%s", initial=dict(initial or {}))
        self.fields["key"].initial = str(uuid4())

    def clean_key(self) -> str:
        try:
            return str(UUID(self.cleaned_data["key"]))
        except ValueError:
            return str(uuid4())

    def carry_out(self, act: Callable[[Self], T]) -> T | None:
        """What `act` makes of what was sent. None when nothing was sent, or it was refused: the words are then
        where they belong, and `status` is what the page is to have.
        """
        if not self.is_bound:
            return None
        if not self.is_valid():
            self.status = 400
            return None
        try:
            return act(self)
        except REFUSALS as error:
            self.status = self._refuse(error)
            return None

    def _refuse(self, error: HostingError) -> int:
        if isinstance(error, QuotaExceeded) and (short := short_dimensions(error)):
            for dimension, sentence in short.items():
                self._point(self.FIELDS.get(dimension), sentence)
        elif error.code == "idempotency_key_reused":
            # Another key, so that sending it once more is a request of its own.
            again = cast(QueryDict, self.data).copy()
            again["key"] = str(uuid4())
            self.data = again
            self._point(None, "This form was sent before. Send it again to ask for another one.")
        else:
            named, colon, sentence = error.public.partition(": ")
            if colon and (field := self.FIELDS.get(named.split(",")[0])):
                self._point(field, sentence[:1].upper() + sentence[1:])
            else:
                self._point(self.CODES.get(error.code), error.public)
        return status_of(error)

    def _point(self, field: str | None, sentence: str) -> None:
        self.add_error(field if field in self.fields else None, sentence)

    def focus(self) -> None:
        """Let the first field that is wrong have the cursor, or else the first one."""
        wrong = [name for name in self.fields if name in self.errors]
        visible = [field.name for field in self.visible_fields()]
        for name in (wrong or visible)[:1]:
            self.fields[name].widget.attrs["autofocus"] = True


# --------------------------------------------------------------------------------------------------- fields


class SizeField(forms.CharField):
    """Bytes, typed as people write them: "512 MiB", "1.5 GiB", or a number of MiB."""

    def __init__(self, limits: tuple[int, int], **kwargs: Any) -> None:
        self.least, self.most = limits
        super().__init__(max_length=40, **kwargs)

    def prepare_value(self, value: Any) -> Any:
        return _exact_size(value) if isinstance(value, int) else value

    def clean(self, value: Any) -> Any:
        found = _SIZE.match(super().clean(value))
        if found is None:
            raise ValidationError("Write a size such as 512 MiB or 2 GiB.")
        size_bytes = float(found[1]) * _UNITS[found[2].upper()]
        if size_bytes % MIB:
            raise ValidationError("Whole MiB, please.")
        if not self.least <= size_bytes <= self.most:
            raise ValidationError(f"From {_exact_size(self.least)} to {_exact_size(self.most)}.")
        return int(size_bytes)


def _exact_size(size_bytes: int) -> str:
    gib = 1024 * MIB
    return f"{size_bytes // gib} GiB" if size_bytes % gib == 0 else f"{size_bytes // MIB} MiB"


class NameField(forms.CharField):
    def __init__(self, **kwargs: Any) -> None:
        widget = forms.TextInput(attrs={"autocomplete": "off", "autocapitalize": "none"})
        super().__init__(max_length=40, validators=[is_slug], widget=widget, **kwargs)


class CommandField(forms.CharField):
    """An argv, typed as in a shell: quotes group words, nothing is expanded."""

    def clean(self, value: Any) -> Any:
        try:
            return shlex.split(_with_plain_ends(super().clean(value)))
        except ValueError as error:
            raise ValidationError(f"{error}: quotes come in pairs.") from error


class EnvField(forms.CharField):
    """Variables, one KEY=VALUE a line; what follows the first = is taken as it is."""

    def clean(self, value: Any) -> Any:
        found: dict[str, str] = {}
        lines = _with_plain_ends(super().clean(value)).split("\n")
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            name, equals, said = line.partition("=")
            name = name.strip()
            if not equals:
                raise ValidationError(f"Line {number}: write KEY=VALUE.")
            if not _VARIABLE.match(name):
                raise ValidationError(
                    f"Line {number}: a name is made of letters, digits, dots, hyphens and underscores."
                )
            if name in found:
                raise ValidationError(f"Line {number}: {name} is there already.")
            found[name] = said
        return found


def _with_plain_ends(text: str | None) -> str:
    """Forms send lines as \\r\\n."""
    return (text or "").replace("\r\n", "\n")


class ImageField(forms.ModelChoiceField[Image]):
    def label_from_instance(self, image: Image) -> str:
        return f"{image.name} ({image.reference})"


# ---------------------------------------------------------------------------------------------- containers


class SizesForm(DashboardForm):
    FIELDS = {name: name for name in ("vcpus", "memory_bytes", "disk_bytes")}

    vcpus = forms.IntegerField(
        label="vCPUs",
        min_value=VCPUS[0],
        max_value=VCPUS[1],
        initial=Sizes().vcpus,
        error_messages=dict.fromkeys(("min_value", "max_value"), f"From {VCPUS[0]} to {VCPUS[1]}."),
    )
    memory_bytes = SizeField(MEMORY_BYTES, label="Memory", initial=Sizes().memory_bytes)

    def tell_what_is_left(self, quota: Quota, held: Mapping[str, int]) -> None:
        """At each field, what the quota leaves for it. `held`: what it has of that already."""
        for name, field in self.fields.items():
            if name in NAMES:
                left = getattr(quota, f"{name}_limit") - getattr(quota, f"{name}_used")
                field.help_text = f"The quota leaves {amount(name, left + held.get(name, 0))}."


class ContainerForm(SizesForm):
    FIELDS = {**SizesForm.FIELDS, "name": "name", "env": "env", "command": "command"}
    CODES = {"name_taken": "name", "image_not_ready": "image"}

    field_order = (
        "name",
        "image",
        "command",
        "env",
        "vcpus",
        "memory_bytes",
        "disk_bytes",
        "restart_policy",
    )

    name = NameField(help_text="Small letters, digits and hyphens. It is also its host name.")
    image = ImageField(
        Image.objects.none(),
        empty_label="Choose an image",
        error_messages={
            "required": "Choose an image.",
            "invalid_choice": "Choose an image of the catalogue that is ready.",
        },
    )
    command = CommandField(
        required=False,
        strip=False,
        help_text="As in a shell, quotes included; nothing is expanded. Empty: what the image says.",
        widget=forms.Textarea(attrs={"class": "code", "rows": 2, "spellcheck": "false"}),
    )
    env = EnvField(
        label="Environment",
        required=False,
        strip=False,
        help_text="One KEY=VALUE a line. All members of the tenant can read it.",
        widget=forms.Textarea(attrs={"class": "code", "rows": 4, "spellcheck": "false"}),
    )
    disk_bytes = SizeField(
        DISK_BYTES, label="Disk", initial=Sizes().disk_bytes, help_text="Beside the image."
    )
    restart_policy = forms.ChoiceField(
        label="When it ends by itself",
        choices=[
            (RestartPolicy.ALWAYS.value, "Start it again"),
            (RestartPolicy.ON_FAILURE.value, "Start it again if it failed"),
            (RestartPolicy.NEVER.value, "Leave it ended"),
        ],
        initial=RestartPolicy.ALWAYS.value,
    )

    def __init__(
        self,
        data: QueryDict | None = None,
        *,
        images: ImageQuerySet,
        quota: Quota,
        initial: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(data, initial=initial)
        self.fields["image"].queryset = images  # type: ignore[attr-defined]
        self.tell_what_is_left(quota, {})

    @property
    def sizes(self) -> Sizes:
        given = self.cleaned_data
        return Sizes(given["vcpus"], given["memory_bytes"], given["disk_bytes"])


class ResizeForm(SizesForm):
    def __init__(
        self, data: QueryDict | None = None, *, container: Container, quota: Quota
    ) -> None:
        now = {"vcpus": container.vcpus, "memory_bytes": container.memory_bytes}
        super().__init__(data, initial=now)
        self.tell_what_is_left(quota, now)


# --------------------------------------------------------------------------------------------------- images


class ImportForm(DashboardForm):
    FIELDS = {"name": "name", "reference": "reference"}
    CODES = {"name_taken": "name"}

    field_order = ("reference", "name")

    reference = forms.CharField(
        max_length=500,
        help_text="Where it comes from, such as docker.io/library/nginx:1.27. "
        "It is looked up once and pinned by its digest.",
        widget=forms.TextInput(
            attrs={"class": "code", "autocapitalize": "none", "spellcheck": "false"}
        ),
    )
    name = NameField(help_text="What it is called here: small letters, digits and hyphens.")


# ------------------------------------------------------------------------------------------ people, tokens


class TokenForm(DashboardForm):
    CODES = {"scope_too_wide": "scopes", "expiry_out_of_range": "days"}

    field_order = ("name", "scopes", "days")

    name = forms.CharField(
        max_length=100,
        help_text="What it is for, such as “ci”.",
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
    )
    scopes = forms.MultipleChoiceField(
        label="It may",
        choices=[
            (Scope.VIEW.value, "look at everything of the tenant"),
            (Scope.OPERATE.value, "make, change and delete containers and images"),
            (Scope.MANAGE.value, "look after people and tokens"),
        ],
        initial=[Scope.VIEW.value],
        widget=forms.CheckboxSelectMultiple,
        error_messages={"required": "Choose at least one."},
    )
    days = forms.TypedChoiceField(
        label="It ends after",
        coerce=int,
        choices=[(7, "7 days"), (30, "30 days"), (90, "90 days"), (365, "a year")],
        initial=30,
    )

    @property
    def life(self) -> timedelta:
        return timedelta(days=self.cleaned_data["days"])


class RoleForm(forms.Form):
    role = forms.ChoiceField(choices=Role.choices)
