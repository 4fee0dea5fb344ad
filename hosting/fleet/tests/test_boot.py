"""How the VMs of a pool boot."""

from __future__ import annotations

from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import IntegrityError, transaction

from hosting.alarms.selectors import audit_of
from hosting.fleet.choices import BootMode
from hosting.fleet.models import Pool
from hosting.fleet.tests.makers import make_pool

pytestmark = pytest.mark.django_db

KERNEL = "/boot/guest/vmlinuz"


@pytest.fixture
def pool() -> Pool:
    return make_pool(name="east")


def set_boot(mode: str, **options: Any) -> None:
    call_command("set_boot", "east", mode, stdout=StringIO(), **options)


def test_a_pool_boots_from_disk_by_bios_until_something_else_is_said(pool: Pool) -> None:
    assert pool.boot_mode == BootMode.BIOS


def test_a_pool_can_boot_a_kernel_that_its_hosts_have(pool: Pool) -> None:
    set_boot("pvh", kernel=KERNEL, ramdisk="/boot/guest/initramfs")
    pool.refresh_from_db()
    assert (pool.boot_mode, pool.boot_kernel, pool.boot_ramdisk) == (
        BootMode.PVH,
        KERNEL,
        "/boot/guest/initramfs",
    )
    assert "console=hvc0" in pool.boot_args
    assert [entry.action for entry in audit_of(f"pool:{pool.pk}")] == ["pool.set_boot"]


def test_back_to_firmware_the_kernel_is_forgotten(pool: Pool) -> None:
    set_boot("pv", kernel=KERNEL)
    set_boot("uefi")
    pool.refresh_from_db()
    assert (pool.boot_mode, pool.boot_kernel, pool.boot_args) == (BootMode.UEFI, "", "")


@pytest.mark.parametrize(
    ("mode", "options", "says"),
    [
        ("pvh", {}, "say which"),
        ("bios", {"kernel": KERNEL}, "what is on the disk"),
        ("uefi", {"cmdline": "quiet"}, "what is on the disk"),
        ("pvh", {"kernel": "/etc/passwd"}, "xapi boots files in"),
        ("pvh", {"kernel": "/boot/guest/../../etc/passwd"}, "xapi boots files in"),
        ("pv", {"kernel": KERNEL, "ramdisk": "initramfs"}, "xapi boots files in"),
    ],
)
def test_what_cannot_boot_is_refused_and_changes_nothing(
    pool: Pool, mode: str, options: dict[str, Any], says: str
) -> None:
    with pytest.raises(CommandError, match=says):
        set_boot(mode, **options)
    pool.refresh_from_db()
    assert (pool.boot_mode, pool.boot_kernel) == (BootMode.BIOS, "")


def test_a_pool_that_nobody_knows_is_said_to_be_unknown() -> None:
    with pytest.raises(CommandError, match="no pool 'east'"):
        set_boot("uefi")


@pytest.mark.parametrize(
    "wrong",
    [{"boot_mode": "pvh"}, {"boot_kernel": KERNEL}, {"boot_mode": "uefi", "boot_args": "x"}],
)
def test_the_database_holds_a_kernel_exactly_for_a_direct_boot(
    pool: Pool, wrong: dict[str, str]
) -> None:
    with pytest.raises(IntegrityError, match="pool_has_a_kernel"), transaction.atomic():
        Pool.objects.update(**wrong)
