"""Expressions of get_all_records_where: grammar, columns, complaints."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from deploy.lab.testing import running_lab
from deploy.lab.tests.vms import Vms, error_of, vms_of


@pytest.fixture(scope="module")
def vms() -> Iterator[Vms]:
    with running_lab(hosts=2, tls=False, preset="small") as lab, vms_of(lab) as vms:
        yield vms


@pytest.mark.parametrize(
    ("expression", "names"),
    [
        ('field "hostname" = "h2"', ["h2"]),
        ('"h1" = field "hostname"', ["h1"]),
        ('(field "hostname"="h1") or (field "hostname"="h2")', ["h1", "h2"]),
        ('not field "hostname" = "h1" and false', ["h1", "h2"]),
        ('field "hostname" = "h1" or true and false', []),
        ('true and field "enabled" = "true"', ["h1", "h2"]),
        ("false", []),
    ],
)
def test_an_expression_chooses_objects(vms: Vms, expression: str, names: list[str]) -> None:
    found = vms.api.host.get_all_records_where(expression)
    assert sorted(host["hostname"] for host in found.values()) == names


@pytest.mark.parametrize(
    ("cls", "grouped", "plain"),
    [
        ("VM", "HVM__boot_policy", "domain_type"),
        ("VBD", "qos__algorithm_type", "status_code"),
        ("VIF", "qos__algorithm_type", "status_detail"),
        ("PIF_metrics", "io__read_kbs", "carrier"),
        ("host", "API_version__major", "hostname"),
        ("host_metrics", "memory__total", "live"),
        ("pool", None, "name_label"),
        ("VM_guest_metrics", None, "PV_drivers_version"),
    ],
)
def test_fields_of_a_group_carry_a_double_underscore_and_no_others(
    vms: Vms, cls: str, grouped: str | None, plain: str
) -> None:
    vms.give_interface(vm := vms.vm(), vms.api.network.get_all()[0])
    vms.give_disk(vm, vms.disk(vms.shared_storage()))
    vms.started("h1")
    ask = getattr(vms.api, cls).get_all_records_where
    for column in filter(None, (grouped, plain)):
        ask(f'field "{column}" = "x"')
        swapped = column.replace("__", "_") if "__" in column else column.replace("_", "__", 1)
        if swapped != column:
            answer = error_of(ask, f'field "{swapped}" = "x"')
            assert answer == ["INTERNAL_ERROR", "missing field", swapped, ""]


@pytest.mark.parametrize("column", ["name_label", "nosuch"])
def test_columns_are_the_databases(vms: Vms, column: str) -> None:
    answer = error_of(vms.api.VM.get_all_records_where, f'field "{column}" = "x"')
    assert answer == ["INTERNAL_ERROR", "missing field", column, ""]


@pytest.mark.parametrize(
    ("expression", "complaint"),
    [
        ("", "Xapi_database.Db_filter_parse.MenhirBasics.Error"),
        ('field "uuid" == "x"', "Xapi_database.Db_filter_parse.MenhirBasics.Error"),
        ('field "uuid" = "x" and', "Xapi_database.Db_filter_parse.MenhirBasics.Error"),
        ("garbage", 'Failure("lexing: empty token")'),
        ("field 'uuid' = 'x'", 'Failure("lexing: empty token")'),
    ],
)
def test_what_is_no_expression_is_an_invalid_value(
    vms: Vms, expression: str, complaint: str
) -> None:
    answer = error_of(vms.api.VM.get_all_records_where, expression)
    assert answer == ["INVALID_VALUE", expression, complaint]


def test_a_message_without_the_field_is_not_found(vms: Vms) -> None:
    uuid = vms.api.VM.get_uuid(vms.vm())
    message = vms.api.message.create("N", "3", "VM", uuid, "")
    found = vms.api.message.get_all_records_where(f'field "obj_uuid" = "{uuid}"')
    assert list(found) == [message]
    assert vms.api.message.get_all_records_where(f'field "obj__uuid" = "{uuid}"') == {}
