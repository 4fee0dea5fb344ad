"""Who is shown a password, and who is not."""

import logging
import traceback
from collections.abc import Iterator
from dataclasses import replace

import pytest

from deploy.lab.registry.access import Access
from deploy.lab.registry.app import Registry
from deploy.lab.registry.build import demonstration
from deploy.lab.registry.server import serving
from worker.images import Credentials, ImageError, Images, Limits, Reach, Reference
from worker.images.auth import read_challenge
from worker.images.errors import PullRefused, RegistryFailed, RegistryNotAllowed
from worker.images.records import Platform
from worker.images.registry import Repository

SECRET = "correct horse battery staple"
GOOD = Credentials("tenant", SECRET)


@pytest.fixture(params=["basic", "token"])
def closed(request: pytest.FixtureRequest, registry: Registry) -> Registry:
    registry.access = Access(request.param, "tenant", SECRET)
    return registry


@pytest.fixture
def elsewhere() -> Iterator[tuple[Registry, str]]:
    """Another origin, with the same images."""
    other = Registry(demonstration())
    with serving(other) as where:
        yield other, where


def authorizations(registry: Registry) -> list[str]:
    return [headers["authorization"] for _, headers in registry.seen if "authorization" in headers]


def test_the_right_password_opens(images: Images, web: Reference, closed: Registry) -> None:
    image = images.resolve(web, credentials=GOOD)
    with images.spool.file() as target:
        images.build(image, target, credentials=GOOD)


@pytest.mark.parametrize("shown", [None, Credentials("tenant", "wrong"), Credentials("", "")])
def test_any_other_is_refused(
    images: Images, web: Reference, closed: Registry, shown: Credentials | None
) -> None:
    with pytest.raises(PullRefused):
        images.resolve(web, credentials=shown)


def test_no_password_is_shown_where_none_is_asked_for(
    images: Images, web: Reference, registry: Registry
) -> None:
    images.resolve(web, credentials=GOOD)
    assert authorizations(registry) == []


def test_a_token_without_a_password_is_enough_for_what_is_public(
    images: Images, web: Reference, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.access = Access("token")
    monkeypatch.setattr(registry.access, "_knows", lambda request: True)
    images.resolve(web)
    assert all(one.startswith("Bearer ") for one in authorizations(registry))


def test_a_token_that_has_grown_old_is_renewed(web: Reference, registry: Registry) -> None:
    registry.access = Access("token", "tenant", SECRET)
    reach = Reach.parse(allowed=["127.0.0.0/8"], plain_http=["127.0.0.1"])
    with Repository(web, GOOD, reach, Limits()) as repository:
        first = repository.resolve(Platform())
        registry.access.forget_tokens()
        assert repository.resolve(Platform()) == first


def test_a_registry_that_is_never_content_is_given_up(
    images: Images, web: Reference, registry: Registry
) -> None:
    challenge = {"WWW-Authenticate": 'Basic realm="lab"'}
    registry.faults.add("manifests", "status", status=401, headers=challenge)
    with pytest.raises(PullRefused):
        images.resolve(web, credentials=GOOD)
    assert len(authorizations(registry)) == 1


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_to_another_host_takes_no_credentials_along(
    images: Images,
    web: Reference,
    closed: Registry,
    elsewhere: tuple[Registry, str],
    status: int,
) -> None:
    other, where = elsewhere
    image = images.resolve(web, credentials=GOOD)
    blob = image.layers[0].blob.digest
    target = f"http://{where}/v2/web/blobs/{blob}?signature=hidden"
    closed.faults.add(blob, "redirect", status=status, to=target)
    with images.spool.file() as file:
        images.build(image, file, credentials=GOOD)
    assert [path for path, _ in other.seen] == [f"/v2/web/blobs/{blob}"]
    assert authorizations(other) == []


def test_a_host_that_we_were_led_to_gets_no_credentials_by_asking(
    images: Images, web: Reference, closed: Registry, elsewhere: tuple[Registry, str]
) -> None:
    other, where = elsewhere
    other.access = Access("basic", "tenant", SECRET)
    image = images.resolve(web, credentials=GOOD)
    blob = image.layers[0].blob.digest
    closed.faults.add(blob, "redirect", status=307, to=f"http://{where}/v2/web/blobs/{blob}")
    with images.spool.file() as file, pytest.raises(PullRefused):
        images.build(image, file, credentials=GOOD)
    assert authorizations(other) == []


@pytest.mark.parametrize(
    ("target", "error"),
    [
        ("file:///etc/passwd", RegistryNotAllowed),
        ("ftp://127.0.0.1/x", RegistryNotAllowed),
        ("http://169.254.169.254/latest/meta-data/", RegistryNotAllowed),
        ("http://[::ffff:169.254.169.254]/", RegistryNotAllowed),
        ("http://10.0.0.1/", RegistryNotAllowed),
        ("http://user:password@127.0.0.1/", RegistryNotAllowed),
        ("http://[::1", RegistryNotAllowed),
        ("http://127.0.0.1:99999/", RegistryNotAllowed),
        ("//10.0.0.1/x", RegistryNotAllowed),
        ("http://", RegistryFailed),  # a strange way to write the same address
        ("/v2/web/manifests/1.0", RegistryFailed),  # to itself, without end
    ],
)
def test_redirects_lead_nowhere_they_should_not(
    images: Images, web: Reference, registry: Registry, target: str, error: type[ImageError]
) -> None:
    registry.faults.add("manifests", "redirect", status=302, to=target)
    with pytest.raises(error):
        images.resolve(web)


@pytest.mark.parametrize(
    "realm",
    [
        "http://169.254.169.254/token",
        "http://10.0.0.1/token",
        "file:///etc/passwd",
        "gopher://127.0.0.1/",
        "",
        "not an address",
        "http://127.0.0.1:1/token\\r\\nX: y",
    ],
)
def test_a_token_server_in_the_wrong_place_is_not_asked(
    images: Images, web: Reference, registry: Registry, realm: str
) -> None:
    challenge = {"WWW-Authenticate": f'Bearer realm="{realm}",service="x"'}
    registry.faults.add("manifests", "status", status=401, headers=challenge)
    with pytest.raises(ImageError):
        images.resolve(web, credentials=GOOD)
    assert authorizations(registry) == []


def test_a_token_server_that_leads_on_is_not_followed(
    images: Images, web: Reference, registry: Registry, elsewhere: tuple[Registry, str]
) -> None:
    other, where = elsewhere
    registry.access = Access("token", "tenant", SECRET)
    registry.faults.add("/token", "redirect", status=307, to=f"http://{where}/token")
    with pytest.raises(ImageError):
        images.resolve(web, credentials=GOOD)
    assert other.seen == []


@pytest.mark.parametrize(
    "line",
    ["", "Bearer", "Bearer realm", 'Negotiate abc, Basic realm="x"', "Digest realm=x", ", ,="],
)
def test_a_challenge_that_we_cannot_answer_is_a_refusal(
    images: Images, web: Reference, registry: Registry, line: str
) -> None:
    registry.faults.add("manifests", "status", status=401, headers={"WWW-Authenticate": line})
    with pytest.raises(ImageError) as caught:
        images.resolve(web, credentials=GOOD)
    assert caught.value.code in ("pull_refused", "registry_not_allowed")


def test_a_challenges_parameters_are_read_with_commas_in_quotes() -> None:
    challenge = read_challenge('Bearer realm="https://a/t",scope="repository:a:pull,push",x=y')
    assert challenge.scheme == "bearer"
    assert challenge.parameters == {
        "realm": "https://a/t",
        "scope": "repository:a:pull,push",
        "x": "y",
    }


def test_what_is_secret_is_in_no_log_and_no_error(
    web: Reference,
    images: Images,
    registry: Registry,
    elsewhere: tuple[Registry, str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    _, where = elsewhere
    caplog.set_level(logging.DEBUG)
    registry.access = Access("token", "tenant", SECRET)
    image = images.resolve(web, credentials=GOOD)
    target = f"http://{where}/v2/web/blobs/sha256:{'0' * 64}?signature=hidden"
    registry.faults.add("blobs", "redirect", status=307, to=target)
    with images.spool.file() as file, pytest.raises(ImageError) as caught:
        images.build(image, file, credentials=GOOD)
    tokens = [one.partition(" ")[2] for one in authorizations(registry)]
    said = caplog.text + "".join(traceback.format_exception(caught.value))
    said += repr(caught.value) + repr(caught.value.context) + repr(GOOD) + repr(replace(GOOD))
    assert len(tokens) > 2
    assert not [one for one in [SECRET, "hidden", *tokens] if one in said]
