"""What operators fill in. People write GiB; the ledger holds bytes."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from django import forms

from tenants.models import Quota, User, is_slug

GIB = 2**30
_LARGEST_INT = 2**31 - 1
_LARGEST_GIB = 2**30


def _count(label: str) -> forms.IntegerField:
    return forms.IntegerField(label=label, min_value=0, max_value=_LARGEST_INT)


def _gib(label: str) -> forms.DecimalField:
    return forms.DecimalField(
        label=label, min_value=0, max_value=_LARGEST_GIB, decimal_places=3, max_digits=13
    )


class LimitsForm(forms.Form):
    """A quota's limits. What is not changed is not written, so that rounding changes nothing."""

    containers = _count("Containers")
    vcpus = _count("vCPUs")
    memory_bytes = _gib("Memory, GiB")
    disk_bytes = _gib("Disk, GiB")

    @classmethod
    def of(cls, quota: Quota, data: Any = None) -> LimitsForm:
        return cls(
            data,
            initial={
                "containers": quota.containers_limit,
                "vcpus": quota.vcpus_limit,
                "memory_bytes": _in_gib(quota.memory_bytes_limit),
                "disk_bytes": _in_gib(quota.disk_bytes_limit),
            },
        )

    def changed_limits(self) -> dict[str, int]:
        return {
            name: int(value * GIB) if name.endswith("_bytes") else value
            for name, value in self.cleaned_data.items()
            if name in self.changed_data
        }


def _in_gib(size_bytes: int) -> Decimal:
    return round(Decimal(size_bytes) / GIB, 3).normalize()


class TenantForm(forms.Form):
    slug = forms.CharField(
        label="Short name",
        max_length=40,
        validators=[is_slug],
        help_text="In addresses: small letters, digits and hyphens. It stays.",
    )
    name = forms.CharField(label="Name", max_length=100)
    owner = forms.CharField(
        label="Owner", max_length=150, help_text="The name that this person signs in with."
    )

    def clean_owner(self) -> User:
        owner = User.objects.filter(username=self.cleaned_data["owner"], is_active=True).first()
        if owner is None:
            raise forms.ValidationError("Nobody signs in with that name.")
        return owner
