from datetime import timedelta
from ipaddress import ip_network
from pathlib import Path

import pytest
from django.apps import apps
from django.core.exceptions import ImproperlyConfigured
from pytest_django import Settings

from worker.images import Images, Limits
from worker.images.cache import BlobCache
from worker.images.mirrors import Mirror
from worker.images.records import GIB, MIB
from worker.images.spool import private_folder


def test_the_operators_settings_are_what_it_goes_by(settings: Settings, tmp_path: Path) -> None:
    settings.IMAGE_SPOOL = str(tmp_path / "spool")
    settings.IMAGE_CACHE = str(tmp_path / "cache")
    settings.IMAGE_CACHE_GIB, settings.IMAGE_CACHE_DAYS = 3, 7
    settings.IMAGE_REQUESTS_PER_REGISTRY, settings.IMAGE_MIB_PER_SECOND = 5, 2
    settings.IMAGE_MIRRORS = ["docker.io=https://mirror.example"]
    settings.IMAGE_MIRRORS_STAND_IN = ["docker.io"]
    settings.IMAGE_PROXY = "http://proxy.example:3128"
    settings.IMAGE_NO_PROXY = [".example"]
    settings.IMAGE_PROXY_RESOLVES = True
    settings.IMAGE_ALLOWED_NETWORKS = ["10.1.0.0/16"]
    settings.IMAGE_PLAIN_HTTP_REGISTRIES = ["Lab:5000"]
    settings.IMAGE_CERTIFICATES = "/ca.pem"
    images = Images.by_settings()
    assert images.spool.folder == tmp_path / "spool"
    assert images.reach.allowed == (ip_network("10.1.0.0/16"),)
    assert images.reach.scheme_of("lab:5000") == "http"
    assert images.reach.ca_file == "/ca.pem"
    ways = images.ways
    assert ways.cache == BlobCache(tmp_path / "cache", 3 * GIB, timedelta(days=7))
    assert (ways.gates.requests, ways.gates.bytes_per_second) == (5, 2 * MIB)
    assert ways.mirrors.of("docker.io") == (Mirror.parse("https://mirror.example"),)
    assert ways.mirrors.stand_in_for("docker.io")
    assert ways.proxy is not None
    assert ways.proxy.resolves
    assert not ways.proxy.is_for("registry.example")


def test_without_any_nothing_private_is_reached(settings: Settings, tmp_path: Path) -> None:
    settings.IMAGE_SPOOL = str(tmp_path)
    images = Images.by_settings()
    assert images.reach.allowed == ()
    assert images.reach.ca_file is None
    assert images.builder.name == "erofs-2"
    assert images.limits_of("any") == Limits()
    assert images.ways.cache is None
    assert images.ways.proxy is None


def test_a_tenants_limits_go_before_those_of_everybody(settings: Settings) -> None:
    settings.IMAGE_LIMITS = {
        "*": {"entries": 1000, "minutes": 5},
        "acme": {"bytes": 2**20, "entries": 7, "ratio": 3, "depth": 9},
    }
    images = Images.by_settings()
    assert images.limits_of("") == images.limits_of("other")
    assert images.limits_of("other") == Limits(entries=1000, duration=timedelta(minutes=5))
    acme = images.limits_of("acme")
    assert (acme.pulled_bytes, acme.unpacked_bytes, acme.disk_bytes) == (2**20,) * 3
    assert (acme.entries, acme.ratio, acme.depth) == (7, 3, 9)
    assert acme.duration == timedelta(minutes=5)


def test_boot_files_are_part_of_the_builders_name(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "version").write_text("9\n")
    (tmp_path / "esp.img").write_bytes(bytes(2**20))
    for name in ("mbr.bin", "bios.img"):
        (tmp_path / name).write_bytes(b"")
    settings.GUEST_BOOT = str(tmp_path)
    assert Images.by_settings().builder.name == "erofs-2+9"


@pytest.mark.parametrize(
    ("name", "value"),
    [("IMAGE_MIRRORS", ["docker.io"]), ("IMAGE_PROXY", "socks5://p"), ("IMAGE_NO_PROXY", ["a/b"])],
)
def test_mirrors_and_a_proxy_that_make_no_sense_keep_it_from_starting(
    settings: Settings, name: str, value: object
) -> None:
    settings.IMAGE_PROXY = "http://proxy.example"
    setattr(settings, name, value)
    with pytest.raises(ImproperlyConfigured, match=name):
        apps.get_app_config("worker").ready()


def test_a_folder_that_others_can_write_is_not_used(tmp_path: Path) -> None:
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    (tmp_path / "link").symlink_to(private_folder(tmp_path / "mine"))
    for wrong in ("open", "link"):
        with pytest.raises(PermissionError):
            private_folder(tmp_path / wrong)
