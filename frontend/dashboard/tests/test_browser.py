"""A tenant's pages in a real browser (Chromium; skipped with a reason where there is none)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from django.db import connection
from django.db.models.functions import Now
from django.urls import reverse
from playwright.sync_api import Browser, Page, expect

from frontend.console.tests.test_browser import CHROMIUM, PASSWORD, browser, complaints, site
from frontend.dashboard.tests.conftest import Forget, Place
from hosting.catalog.tests.makers import make_image
from hosting.compute.models import Container, Instance
from hosting.compute.output import Written, append_lines
from hosting.compute.services import stop_container
from hosting.operations.choices import State
from hosting.operations.models import Operation
from tenants.notices import tell_on_commit

__all__ = ["browser", "complaints", "site"]  # fixtures

pytestmark = [
    pytest.mark.alone,
    pytest.mark.slow,
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: sudo apt-get install chromium"),
]

RULES = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]}


@pytest.fixture
def page(browser: Browser, site: str, complaints: list[str], place: Place) -> Iterator[Page]:
    """Signed in as an owner, through the form, and landed at the tenant."""
    owner = place.tenant.memberships.get(role="owner").user
    owner.set_password(PASSWORD)
    owner.save()
    with browser.new_context(base_url=site) as context:
        page = context.new_page()
        page.on(
            "console", lambda said: complaints.append(said.text) if said.type == "error" else None
        )
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(reverse("login"))
        page.get_by_label("Name").fill(owner.username)
        page.get_by_label("Password").fill(PASSWORD)
        page.get_by_role("button", name="Sign in").click()
        expect(page.get_by_role("heading", name="Containers", exact=True)).to_be_visible()
        yield page


@pytest.fixture
def furnished(place: Place, forget: Forget) -> Container:
    """Something of everything on every page."""
    image = make_image(place.tenant, name="nginx")
    make_image(None, name="debian")
    container = place.add_container(
        name="web", version=image.current, command=["nginx", ""], env={"A": "1"}
    )
    for number in range(9):
        place.add_container("Halted" if number % 2 else "Running", name=f"more-{number}")
    instance = container.instances.get()
    forget(instance)
    append_lines(instance.pk, [Written(f"line {number}") for number in range(60)])
    operation = Operation.objects.create(
        kind="instance.start",
        instance=instance,
        requested_by="user:alice",
        state=State.FAILED,
        error="It was refused.",
        ended_at=Now(),
    )
    operation.events.create(what="requested", message="by user:alice")
    operation.events.create(what="retrying", message="It is busy.")
    operation.events.create(what="ended", message="It was refused.")
    return container


# --------------------------------------------------------------------------------------------------- live


def test_an_open_list_shows_what_is_asked_for_elsewhere(
    place: Place, container: Container, page: Page, complaints: list[str]
) -> None:
    page.goto(place.address("containers"))
    expect(page.locator(".list .state")).to_have_text("running")
    stop_container(container=container, requested_by="user:bob")
    expect(page.locator(".list .state")).to_have_text("stopping")
    assert complaints == []


def test_an_open_container_follows_its_operation_and_keeps_the_keyboards_place(
    place: Place, container: Container, page: Page, complaints: list[str]
) -> None:
    page.goto(place.address("container", uuid=container.pk))
    page.locator("#do-delete").focus()
    stop_container(container=container, requested_by="user:alice")
    expect(page.get_by_text("About to begin")).to_be_visible()
    expect(page.locator("#events")).to_contain_text("Asked for by alice")
    expect(page.locator("#do-stop")).to_have_count(0)
    expect(page.locator("#do-delete")).to_be_focused()
    assert complaints == []


def test_who_looks_at_what_is_deleted_is_led_back_to_the_list(
    place: Place, container: Container, page: Page
) -> None:
    page.goto(place.address("container", uuid=container.pk))
    Container.objects.filter(pk=container.pk).delete_at_last()
    tell_on_commit([place.tenant.pk])
    page.wait_for_url(f"**{place.address('containers')}")
    expect(page.get_by_text("The container is gone, with its disk.")).to_be_visible()


def test_output_appears_by_itself_and_its_end_is_kept_in_sight(
    place: Place, container: Container, page: Page, forget: Forget
) -> None:
    instance = container.instances.get()
    forget(instance)
    page.goto(place.address("container", uuid=container.pk))
    expect(page.get_by_text("It has written nothing yet.")).to_be_visible()
    append_lines(instance.pk, [Written(f"line {number}") for number in range(100)])
    expect(page.get_by_text("line 99")).to_have_count(1)
    lines = page.locator("#output-lines")
    assert lines.evaluate("one => one.scrollHeight - one.scrollTop - one.clientHeight") < 8
    lines.evaluate("one => { one.scrollTop = 0 }")
    append_lines(instance.pk, [Written("the newest")])
    expect(page.get_by_text("the newest")).to_have_count(1)
    assert lines.evaluate("one => one.scrollTop") == 0


def connections() -> dict[int, str]:
    """To this database: the process of each, and what it was last asked."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pid, query FROM pg_stat_activity WHERE datname = current_database()"
            " AND pid <> pg_backend_pid()"
        )
        return dict(cursor.fetchall())


@pytest.fixture
def connected_before(place: Place) -> dict[int, str]:
    """The tests' own, before there is a web process."""
    return connections()


def test_an_open_page_holds_no_connection_to_the_database(
    connected_before: dict[int, str], place: Place, container: Container, page: Page
) -> None:
    def of_pages() -> dict[int, str]:
        return {pid: asked for pid, asked in connections().items() if pid not in connected_before}

    page.goto(place.address("containers"))
    stop_container(container=container, requested_by="user:alice")
    expect(page.locator(".list .state")).to_have_text("stopping")  # so it listens
    for _ in range(100):  # what is being answered at this moment has one for so long
        if not of_pages():
            break
        page.wait_for_timeout(50)
    assert of_pages() == {}


# --------------------------------------------------------------------------------------------- being used


def test_a_container_is_made_stopped_and_deleted_with_the_keyboard_alone(
    place: Place, image: Any, page: Page, complaints: list[str]
) -> None:
    page.goto(place.address("container-new"))
    page.keyboard.type("shop")  # the first field has the cursor
    page.keyboard.press("Tab")
    page.keyboard.type("nginx")
    for _ in range(7):
        page.keyboard.press("Tab")
    expect(page.get_by_role("button", name="Create")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="shop creating")).to_be_visible()
    Operation.objects.update(state=State.SUCCEEDED, ended_at=Now())
    Instance.objects.update(published_at=Now())
    tell_on_commit([place.tenant.pk])
    for button, then in (("do-stop", "stopping"),):
        expect(page.locator(f"#{button}")).to_be_visible()
        page.locator(f"#{button}").press("Enter")
        expect(page.get_by_role("heading", name=f"shop {then}")).to_be_visible()
    page.locator("#do-delete").press("Enter")
    page.get_by_role("button", name="Delete it").press("Enter")
    expect(page.get_by_text("shop is to be deleted")).to_be_visible()
    assert complaints == []


def test_a_button_pressed_twice_asks_once(place: Place, container: Container, page: Page) -> None:
    page.goto(place.address("container", uuid=container.pk))
    page.locator("#do-stop").dblclick()
    expect(page.get_by_role("heading", name="web stopping")).to_be_visible()
    assert Operation.objects.count() == 1


def test_a_wrong_form_has_the_cursor_where_it_is_wrong(
    place: Place, image: Any, page: Page
) -> None:
    page.goto(place.address("container-new"))
    page.get_by_label("Name").fill("shop")
    page.get_by_label("Image").select_option(index=1)
    memory = page.get_by_role("textbox", name="Memory")
    memory.fill("lots")
    page.get_by_role("button", name="Create").click()
    expect(memory).to_be_focused()
    expect(memory).to_have_value("lots")
    expect(memory).to_have_accessible_description(
        "The quota leaves 16 GiB. Write a size such as 512 MiB or 2 GiB."
    )


def test_the_first_key_leads_past_the_head(place: Place, page: Page) -> None:
    page.goto(place.address("containers"))
    page.keyboard.press("Tab")
    expect(page.get_by_text("Skip to content")).to_be_focused()


# ------------------------------------------------------------------------------------- everywhere the same

PAGES = (
    "containers",
    "container",
    "container-new",
    "container-resize",
    "container-delete",
    "images",
    "image-new",
    "activity",
    "quota",
    "people",
    "tokens",
    "token-new",
)


def every_page(place: Place, container: Container, page: Page) -> Iterator[str]:
    for name in PAGES:
        given = {"uuid": container.pk} if name.startswith("container-") else {}
        given = {} if name == "container-new" else given
        given = {"uuid": container.pk} if name == "container" else given
        page.goto(place.address(name, **given))
        yield name


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_page_keeps_the_rules_of_accessibility(
    place: Place, furnished: Container, page: Page, scheme: Any
) -> None:
    page.emulate_media(color_scheme=scheme)
    for name in every_page(place, furnished, page):
        results = Axe().run(page, options=RULES)
        assert results.violations_count == 0, f"{name}: {results.generate_report()}"


def test_empty_pages_and_refusals_keep_the_rules_of_accessibility(place: Place, page: Page) -> None:
    def check() -> None:
        results = Axe().run(page, options=RULES)
        assert results.violations_count == 0, f"{page.url}: {results.generate_report()}"

    for name in ("containers", "container-new", "images", "activity", "quota", "tokens"):
        page.goto(place.address(name))
        check()
    page.goto(place.address("image-new"))
    page.get_by_role("button", name="Import").click()
    expect(page.get_by_role("alert")).to_be_visible()
    check()
    page.goto(place.address("token-new"))
    page.get_by_label("Name").fill("ci")
    page.get_by_role("button", name="Make it").click()
    expect(page.get_by_label("The token")).to_be_focused()
    check()


def test_nothing_scrolls_sideways_on_a_phone(
    place: Place, furnished: Container, page: Page
) -> None:
    page.set_viewport_size({"width": 360, "height": 740})
    for name in every_page(place, furnished, page):
        assert page.evaluate("document.documentElement.scrollWidth") <= 360, name


def test_no_page_makes_the_browser_complain(
    place: Place, furnished: Container, page: Page, complaints: list[str]
) -> None:
    for _ in every_page(place, furnished, page):
        page.wait_for_load_state()
    assert complaints == []
