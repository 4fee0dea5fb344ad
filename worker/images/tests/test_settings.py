from ipaddress import ip_network

from pytest_django import Settings

from worker.images import Images


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
