from __future__ import annotations

from pathlib import Path

import pytest

from deploy.xenlab.errors import XenlabError
from deploy.xenlab.plan import plan


def test_hosts_have_names_addresses_and_cards_of_their_own(tmp_path: Path) -> None:
    hosts = plan(tmp_path, hosts=3).hosts
    assert [host.name for host in hosts] == ["host1", "host2", "host3"]
    assert [host.address for host in hosts] == ["10.77.0.11", "10.77.0.12", "10.77.0.13"]
    assert len({host.mac for host in hosts}) == 3


def test_labs_side_by_side_share_only_the_image(tmp_path: Path) -> None:
    first, second = plan(tmp_path, name="one"), plan(tmp_path, name="two")
    assert first.namespace != second.namespace
    assert first.folder != second.folder
    assert first.image == second.image


def test_a_lab_that_is_there_keeps_its_number_of_hosts(tmp_path: Path) -> None:
    assert len(plan(tmp_path).hosts) == 2
    folder = plan(tmp_path).folder
    folder.mkdir(parents=True)
    for host in plan(tmp_path, hosts=4).hosts:
        host.overlay.touch()
    assert len(plan(tmp_path).hosts) == 4


@pytest.mark.parametrize("name", ["", "A", "../x", "-a", "a" * 21, "a b"])
def test_a_name_that_is_no_name_of_a_namespace_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(XenlabError) as refused:
        plan(tmp_path, name=name)
    assert refused.value.code == "bad_name"


@pytest.mark.parametrize("hosts", [-1, 41])
def test_a_number_of_hosts_has_limits(tmp_path: Path, hosts: int) -> None:
    with pytest.raises(XenlabError) as refused:
        plan(tmp_path, hosts=hosts)
    assert refused.value.code == "bad_hosts"
