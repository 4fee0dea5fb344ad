from __future__ import annotations

import pytest

from deploy.lab.classes import devices


@pytest.mark.parametrize(
    "name", ["0", "254", "999", "-1", "01", "xvdb", "xvdaa", "sda", "hdz", "fda", "autodetect"]
)
def test_a_number_or_a_linux_name_is_a_device(name: str) -> None:
    assert devices.is_valid(name)


@pytest.mark.parametrize("name", ["", "x", "a", "1 ", "vda", "xvdA", "nvme0n1"])
def test_anything_else_is_none(name: str) -> None:
    assert not devices.is_valid(name)


@pytest.mark.parametrize(
    ("one", "other"), [("0", "hda"), ("0", "xvda"), ("5", "xvdf"), ("1", "01"), ("xvda", "d0")]
)
def test_two_names_of_one_device_collide(one: str, other: str) -> None:
    assert devices.meanings(one) & devices.meanings(other)


def test_a_scsi_name_and_a_number_do_not_collide() -> None:
    assert not devices.meanings("0") & devices.meanings("sda")


@pytest.mark.parametrize(
    ("userdevice", "name"), [("0", "xvda"), ("25", "xvdz"), ("26", "xvdaa"), ("sdb", "sdb")]
)
def test_a_guest_calls_its_disks_by_letters(userdevice: str, name: str) -> None:
    assert devices.linux_name(userdevice) == name
