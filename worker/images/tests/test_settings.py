from datetime import timedelta
from ipaddress import ip_network
from pathlib import Path

from pytest_django import Settings

from worker.images import Images, Limits


def test_the_operators_settings_are_what_it_goes_by(settings: Settings) -> None:
    settings.IMAGE_SPOOL = "/spool"
    settings.IMAGE_ALLOWED_NETWORKS = ["10.1.0.0/16"]
    settings.IMAGE_PLAIN_HTTP_REGISTRIES = ["Lab:5000"]
    settings.IMAGE_CERTIFICATES = "/ca.pem"
    images = Images.by_settings()
    assert str(images.spool.folder) == "/spool"
    assert images.reach.allowed == (ip_network("10.1.0.0/16"),)
    assert images.reach.scheme_of("lab:5000") == "http"
    assert images.reach.ca_file == "/ca.pem"


def test_without_any_nothing_private_is_reached(settings: Settings) -> None:
    images = Images.by_settings()
    assert images.reach.allowed == ()
    assert images.reach.ca_file is None
    assert images.builder.name == "erofs-1"
    assert images.limits_of("any") == Limits()


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
    assert Images.by_settings().builder.name == "erofs-1+9"
