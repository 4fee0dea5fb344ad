"""What a demonstration makes, at its first start and at each further one."""

import json
from pathlib import Path

import pytest
from django.utils import timezone

from deploy.demo import furnish as furnishing
from deploy.demo.furnish import PARTIES, furnish
from deploy.demo.place import Place
from deploy.demo.schema import ensure_user
from deploy.demo.welcome import welcome
from hosting.catalog.models import Image
from hosting.catalog.tests.makers import make_image
from hosting.compute.models import Container
from hosting.compute.services import delete_container
from hosting.fleet.tests.makers import make_host
from hosting.operations import bell
from hosting.operations.models import Operation
from tenants.models import ApiToken, Quota, Tenant, User
from tenants.selectors import find_token

pytestmark = pytest.mark.django_db

IMAGES = {wish.image for party in PARTIES for wish in party.wishes}


@pytest.fixture(autouse=True)
def _no_broker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bell, "_ring", lambda asked: None)
    monkeypatch.setattr(furnishing, "PATIENCE", 0.0)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def run(place: Place, lab: Path | None = None) -> None:
    furnish(place, "127.0.0.1:5000", lab, timezone.now())


def furnished(place: Place) -> dict[str, object]:
    told: dict[str, object] = json.loads(place.kept("furnished") or "{}")
    return told


def test_tenants_have_people_quota_and_a_token_that_works(place: Place) -> None:
    run(place)
    assert {tenant.slug for tenant in Tenant.objects.all()} == {party.slug for party in PARTIES}
    for party in PARTIES:
        owner = User.objects.get(username=party.owner)
        assert owner.check_password(place.secret(f"{party.owner}-password"))
        assert not owner.is_staff
        assert Quota.objects.get(tenant__slug=party.slug).containers_limit >= len(party.wishes)
    token = find_token(str(furnished(place)["token"]))
    assert token is not None
    assert token.tenant.slug == PARTIES[0].slug


def test_images_are_asked_for_once_and_for_everybody(place: Place) -> None:
    for _ in range(2):
        run(place)
    assert {image.name for image in Image.objects.filter(tenant=None)} == set(IMAGES)
    assert Operation.objects.filter(kind="image.import").count() == len(IMAGES)


def test_a_second_start_makes_nothing_again(place: Place) -> None:
    run(place)
    token = furnished(place)["token"]
    run(place)
    assert furnished(place)["token"] == token
    assert ApiToken.objects.count() == 1


def test_a_token_that_was_revoked_is_replaced(place: Place) -> None:
    run(place)
    ApiToken.objects.all().revoke()
    run(place)
    assert find_token(str(furnished(place)["token"])) is not None


def test_on_a_pool_that_is_not_ours_nothing_is_started(place: Place) -> None:
    for name in IMAGES:
        make_image(name=name, tenant=None)
    run(place)
    assert not Container.objects.exists()


def lab_in(place: Place, **told: object) -> Path:
    lab = place.path("lab.json")
    lab.write_text(json.dumps({"hosts": [], **told}))
    return lab


def test_containers_are_asked_for_and_those_deleted_stay_so(place: Place) -> None:
    for name in IMAGES:
        make_image(name=name, tenant=None)
    lab = lab_in(place)
    run(place, lab)
    wanted = {(party.slug, wish.name) for party in PARTIES for wish in party.wishes}
    assert set(Container.objects.values_list("tenant__slug", "name")) == wanted
    delete_container(container=Container.objects.get(name="front"), requested_by="user:ada")
    run(place, lab)
    assert Container.objects.count() == len(wanted)
    missing = furnished(place)["missing"]
    assert isinstance(missing, list)
    assert "harbor/front" not in missing
    assert "mill/shop" in missing


def test_images_that_never_come_are_told(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    run(place, lab_in(place))
    assert "not imported yet" in capsys.readouterr().out
    assert not Container.objects.exists()


def test_a_controller_that_does_not_answer_is_told_and_passed_over(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in IMAGES:
        make_image(name=name, tenant=None)
    host = make_host()
    told = {"uuid": str(host.pk), "bmc": "https://127.0.0.1:1"}
    lab = lab_in(place, hosts=[told], bmc_username="admin", bmc_password="secret")
    run(place, lab)
    assert "nobody answers at https://127.0.0.1:1" in capsys.readouterr().out


def test_a_password_is_made_good_again() -> None:
    ensure_user("ada", "first")
    assert ensure_user("ada", "second").check_password("second")
    assert User.objects.count() == 1


def welcomed(place: Place, environment: dict[str, str]) -> str:
    return welcome(
        place,
        12.34,
        address="http://127.0.0.1:8000",
        operator="operator",
        environment=environment,
        worker=4711,
    )


def test_the_welcome_says_where_to_look_and_what_to_try(place: Place) -> None:
    run(place)
    text = welcomed(place, {"LAB_CONTROL": "http://127.0.0.1:18080", "XAPI_URL": "https://x"})
    assert "ready in 12.3 s" in text
    for secret in ("ada-password", "ben-password", "operator-password", "lab-password"):
        assert place.secret(secret) in text
    assert str(furnished(place)["token"]) in text
    assert "http://127.0.0.1:18080/hosts/h3/power" in text
    assert "kill -9 4711" in text


def test_it_says_nothing_of_a_pool_that_is_not_ours(place: Place) -> None:
    run(place)
    text = welcomed(place, {})
    assert "/hosts/" not in text
    assert "lab" not in text
