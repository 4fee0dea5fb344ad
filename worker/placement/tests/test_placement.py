"""Never oversold; groups apart; the same answer each time; every reject explained."""

from collections import Counter, defaultdict
from dataclasses import replace
from random import Random
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.placement import (
    Choice,
    HostView,
    NoPlace,
    Request,
    choose,
    explain,
    overhead_bytes,
    plan,
)
from worker.placement.explain import WORDS
from worker.placement.filters import FILTERS

MIB = 2**20
SRS = [UUID(int=n) for n in (901, 902)]
GROUPS = ["red", "blue"]
numbers = st.integers(1, 12)
groups = st.frozensets(st.sampled_from(GROUPS))

hosts = st.lists(
    st.builds(
        HostView,
        uuid=numbers.map(lambda n: UUID(int=n)),
        name=st.just("xen"),
        free_bytes=st.integers(0, 4096).map(lambda n: n * MIB),
        accepting=st.booleans(),
        cpu_count=st.integers(0, 4),
        srs=st.frozensets(st.sampled_from(SRS)),
        neighbours=st.dictionaries(st.sampled_from(GROUPS), st.integers(0, 3)),
    ),
    unique_by=lambda host: host.uuid,
    max_size=6,
)
requests = st.lists(
    st.builds(
        Request,
        uuid=st.integers(100, 200).map(lambda n: UUID(int=n)),
        memory_bytes=st.integers(1, 2048).map(lambda n: n * MIB),
        vcpus=st.integers(1, 4),
        srs=st.frozensets(st.sampled_from(SRS)),
        spread=groups,
        apart_from=groups,
        only_on=st.none() | st.frozensets(numbers.map(lambda n: UUID(int=n))),
        not_on=st.frozensets(numbers.map(lambda n: UUID(int=n)), max_size=3),
    ),
    unique_by=lambda request: request.uuid,
    max_size=8,
)


def host(number: int, **given: object) -> HostView:
    return replace(HostView(UUID(int=number), f"xen-{number}", 1024 * MIB), **given)  # type: ignore[arg-type]


def request(**given: object) -> Request:
    return replace(Request(UUID(int=100), 256 * MIB), **given)  # type: ignore[arg-type]


@given(requests, hosts)
def test_no_host_is_oversold(requests: list[Request], hosts: list[HostView]) -> None:
    taken: Counter[UUID] = Counter()
    places = plan(requests, hosts).places
    for one in requests:
        if one.uuid in places:
            taken[places[one.uuid]] += one.memory_bytes
    assert all(taken[one.uuid] <= one.free_bytes for one in hosts)


@given(requests, hosts)
def test_each_is_placed_once_or_waits_with_a_reason_from_every_host(
    requests: list[Request], hosts: list[HostView]
) -> None:
    made = plan(requests, hosts)
    assert made.places.keys() | made.waiting.keys() == {one.uuid for one in requests}
    assert not made.places.keys() & made.waiting.keys()
    for answer in made.waiting.values():
        assert answer.rejects.keys() == {one.uuid for one in hosts}


@given(requests, hosts, st.randoms())
def test_the_order_of_what_is_given_changes_nothing(
    requests: list[Request],
    hosts: list[HostView],
    random: Random,
) -> None:
    again, others = list(requests), list(hosts)
    random.shuffle(again)
    random.shuffle(others)
    assert plan(again, others) == plan(requests, hosts)


@given(requests, hosts)
def test_what_must_be_apart_is_apart_and_where_it_may_be(
    requests: list[Request], hosts: list[HostView]
) -> None:
    places = plan(requests, hosts).places
    views = {one.uuid: one for one in hosts}
    on: defaultdict[UUID, list[Request]] = defaultdict(list)
    for one in requests:
        if one.uuid in places:
            on[places[one.uuid]].append(one)
    for uuid, there in on.items():
        for one in there:
            view = views[uuid]
            assert view.accepting
            assert one.srs <= view.srs
            assert one.vcpus <= view.cpu_count
            assert uuid not in one.not_on
            assert one.only_on is None or uuid in one.only_on
            for group in one.apart_from:
                assert not view.neighbours.get(group)
                assert sum(group in other.apart_from for other in there) == 1


def test_a_group_is_spread_evenly() -> None:
    many = [request(uuid=UUID(int=100 + n), spread=frozenset({"red"})) for n in range(6)]
    places = plan(many, [host(1, free_bytes=9999 * MIB), host(2), host(3)]).places
    assert sorted(Counter(places.values()).values()) == [2, 2, 2]


def test_of_equals_the_emptiest_host_is_chosen() -> None:
    assert choose(request(), [host(1), host(2, free_bytes=2048 * MIB)]) == Choice(UUID(int=2))


def test_the_largest_is_placed_first() -> None:
    large = request(uuid=UUID(int=199), memory_bytes=1000 * MIB)
    made = plan([request(), large], [host(1)])
    assert set(made.places) == {large.uuid}


@pytest.mark.parametrize(
    ("word", "view", "asked"),
    [
        ("not_accepting", {"accepting": False}, {}),
        ("not_asked_for", {}, {"only_on": frozenset()}),
        ("tried_already", {}, {"not_on": frozenset({UUID(int=1)})}),
        ("storage_not_reachable", {}, {"srs": frozenset(SRS)}),
        ("too_few_cpus", {}, {"vcpus": 2}),
        ("kept_apart", {"neighbours": {"red": 1}}, {"apart_from": frozenset({"red"})}),
        ("memory", {"free_bytes": 255 * MIB}, {}),
    ],
)
def test_each_filter_rules_out_by_its_word(
    word: str, view: dict[str, object], asked: dict[str, object]
) -> None:
    assert choose(request(**asked), [host(1, **view)]) == NoPlace({UUID(int=1): word})


def test_every_reject_can_be_said() -> None:
    assert WORDS.keys() == FILTERS.keys()


def test_a_reason_counts_hosts_and_names_none() -> None:
    asked = request(memory_bytes=2000 * MIB)
    answer = choose(asked, [host(1), host(2), host(3, accepting=False)])
    assert isinstance(answer, NoPlace)
    assert explain(asked, answer) == (
        "No host for 2000 MiB: of 3 hosts, 2 have not that much memory free, 1 out of service."
    )
    assert explain(asked, NoPlace({})) == "No host for 2000 MiB: there is no host."


def test_the_overhead_is_xapis() -> None:
    assert overhead_bytes(vcpus=1, memory_bytes=256 * MIB) == 6 * MIB
    assert overhead_bytes(vcpus=4, memory_bytes=4096 * MIB) == (2 + 36 + 1) * MIB
