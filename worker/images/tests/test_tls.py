from pathlib import Path

import pytest

from deploy.lab.registry.app import Registry
from worker.images import Images, Reach, Reference, Spool
from worker.images.errors import (
    ImageError,
    RegistryNotAllowed,
    RegistryNotTrusted,
    RegistryUnreachable,
)


def images(tmp_path: Path, ca: Path | None) -> Images:
    """All names lead to this machine."""
    allowed = Reach.parse(allowed=["127.0.0.0/8"]).allowed
    reach = Reach(allowed, ca_file=str(ca) if ca else None, lookup=lambda host, port: ["127.0.0.1"])
    spool = tmp_path / "spool"
    spool.mkdir()
    return Images(Spool(spool), reach)


def test_the_name_is_checked_though_the_address_is_connected_to(
    tmp_path: Path, certificate: Path, secure: tuple[Registry, int]
) -> None:
    registry, port = secure
    ours = images(tmp_path, certificate)
    ours.resolve(Reference.parse(f"registry.example:{port}/web"))
    assert {headers["host"] for _, headers in registry.seen} == {f"registry.example:{port}"}


def test_a_certificate_for_another_name_is_not_trusted(
    tmp_path: Path, certificate: Path, secure: tuple[Registry, int]
) -> None:
    with pytest.raises(RegistryNotTrusted):
        images(tmp_path, certificate).resolve(Reference.parse(f"other.example:{secure[1]}/web"))


def test_a_certificate_of_nobody_is_not_trusted(
    tmp_path: Path, secure: tuple[Registry, int]
) -> None:
    with pytest.raises(RegistryNotTrusted):
        images(tmp_path, None).resolve(Reference.parse(f"registry.example:{secure[1]}/web"))


def test_plain_http_is_not_spoken_to_a_registry_that_was_not_named_so(
    tmp_path: Path, authority: str, registry: Registry
) -> None:
    with pytest.raises((RegistryNotTrusted, RegistryUnreachable)):
        images(tmp_path, None).resolve(Reference.parse(f"{authority}/web"))
    assert registry.seen == []


@pytest.mark.parametrize("how", ["redirect", "realm"])
def test_nothing_leads_from_tls_to_plain_http(
    tmp_path: Path,
    certificate: Path,
    secure: tuple[Registry, int],
    authority: str,
    registry: Registry,
    how: str,
) -> None:
    tls, port = secure
    if how == "redirect":
        target = f"http://{authority}/v2/web/manifests/latest"
        tls.faults.add("manifests", "redirect", status=307, to=target)
    else:
        realm = {"WWW-Authenticate": f'Bearer realm="http://{authority}/token"'}
        tls.faults.add("manifests", "status", status=401, headers=realm)
    with pytest.raises(ImageError) as caught:
        images(tmp_path, certificate).resolve(Reference.parse(f"registry.example:{port}/web"))
    assert caught.value.code in (RegistryNotAllowed.default_code, "pull_refused")
    assert registry.seen == []
