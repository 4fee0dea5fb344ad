"""The cases of workflows over tenants' networks."""

from __future__ import annotations

from hosting.networks.models import Segment
from hosting.networks.tests.makers import make_segment
from hosting.operations.models import Operation
from worker.tests.case import Case
from worker.tests.worlds import World
from worker.workflows.build_network import build_network
from worker.workflows.remove_network import remove_network


class NetworkCase(Case):
    def __init__(self) -> None:
        self.world = World(device="eth1")
        self.hypervisor = self.world.pool
        self.segment = make_segment(self.world.tenant, self.world.row)
        self.prepare()
        self.operation = Operation.objects.create(
            kind=self.kind, segment=self.segment, requested_by="t"
        )

    def prepare(self) -> None:
        """What else must be true before."""

    def assert_left_nothing(self) -> None:
        raise AssertionError("it only goes forward")


class BuildNetworkCase(NetworkCase):
    kind = build_network.kind

    def assert_arrived(self) -> None:
        now = Segment.objects.get(pk=self.segment.pk)
        hosts = {host.pk for host in self.world.hosts}
        assert [network.uuid for network in self.hypervisor.networks()] == [now.network_uuid]
        assert self.hypervisor.vlans == {now.network_uuid: ("eth1", now.tag, hosts)}
        assert set(now.hosts) == hosts


class RemoveNetworkCase(NetworkCase):
    kind = remove_network.kind

    def prepare(self) -> None:
        self.world.make(self.segment)

    def assert_arrived(self) -> None:
        now = Segment.objects.get(pk=self.segment.pk)
        assert now.ended_at is not None
        assert not self.hypervisor.networks()
        assert not self.hypervisor.vlans


NETWORK_CASES: tuple[type[Case], ...] = (BuildNetworkCase, RemoveNetworkCase)
