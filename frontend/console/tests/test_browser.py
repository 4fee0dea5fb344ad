"""The operators' pages in a real browser (Chromium; skipped with a reason where there is none)."""

import os
import shutil
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import redis
import uvicorn
from axe_playwright_python.sync_playwright import Axe
from django.conf import settings
from django.contrib.staticfiles.handlers import ASGIStaticFilesHandler
from django.db.models.functions import Now
from django.urls import reverse
from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright

from frontend.console.tests.worlds import Fleet
from hosting.alarms.services import open_alarm
from hosting.asgi import application
from hosting.compute.models import Instance
from hosting.fleet.models import Pool
from hosting.fleet.notices import channel_of
from hosting.fleet.tests.makers import GIB, make_host, make_pool, make_vm
from hosting.operations.models import Operation
from tenants.models import User

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
PASSWORD = "correct horse battery"
QUIET = [
    "--no-sandbox",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
]

pytestmark = [
    pytest.mark.alone,
    pytest.mark.slow,
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: sudo apt-get install chromium"),
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    # Playwright's synchronous face runs a loop of its own in this thread; Django's ORM is called
    # from here on purpose.
    os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "true"
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield launched
        launched.close()
    del os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"]


@pytest.fixture
def site(servers: None, transactional_db: None) -> Iterator[str]:
    """The web process, as uvicorn runs it, on a free port."""
    config = uvicorn.Config(
        ASGIStaticFilesHandler(application), port=0, log_config=None, lifespan="off"
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        thread.join(0.01)
        assert thread.is_alive(), "the web process did not start"
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join(20)


@pytest.fixture
def complaints() -> list[str]:
    """What the browser complained of: errors, and whatever the security policy forbade."""
    return []


@pytest.fixture
def pool() -> Pool:
    pool = make_pool(name="frankfurt")
    host = make_host(pool, name="xen-1", memory_free_bytes=3 * GIB)
    make_vm(pool, name="web-1", resident_on=host)
    return pool


@pytest.fixture
def page(browser: Browser, site: str, complaints: list[str]) -> Iterator[Page]:
    """Signed in as an operator, through the form."""
    User.objects.create_user("olga", password=PASSWORD, is_staff=True)
    with browser.new_context(base_url=site) as context:
        page = context.new_page()
        page.on(
            "console", lambda said: complaints.append(said.text) if said.type == "error" else None
        )
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(reverse("login"))
        page.get_by_label("Name").fill("olga")
        page.get_by_label("Password").fill(PASSWORD)
        page.get_by_role("button", name="Sign in").click()
        yield page


def notice(pool: Pool) -> None:
    """What the follower says after a commit."""
    with redis.Redis.from_url(settings.REDIS_URL, socket_timeout=5) as client:
        while not client.publish(channel_of(pool.pk), ""):
            pass  # until the page listens


def test_a_vm_that_appears_in_the_pool_appears_on_the_open_page(
    pool: Pool, page: Page, complaints: list[str]
) -> None:
    page.goto(reverse("console:pool", args=[pool.pk]))
    expect(page.get_by_text("web-1")).to_be_visible()
    make_vm(pool, name="arrived-later")
    notice(pool)
    expect(page.get_by_text("arrived-later")).to_be_visible()
    assert complaints == []


def test_what_an_operator_is_typing_is_not_taken_away_by_a_change(pool: Pool, page: Page) -> None:
    page.goto(reverse("console:pool", args=[pool.pk]))
    search = page.get_by_label("Name or UUID")
    search.fill("web")
    make_vm(pool, name="arrived-later")
    notice(pool)
    page.get_by_role("heading", name="Storage").click()  # the field loses the focus
    expect(page.get_by_text("arrived-later")).to_be_visible()
    expect(search).to_have_value("web")


def test_nothing_scrolls_sideways_on_a_phone(fleet: Fleet, page: Page) -> None:
    page.set_viewport_size({"width": 360, "height": 740})
    for address in addresses(fleet):
        page.goto(address)
        assert page.evaluate("document.documentElement.scrollWidth") <= 360, address


def addresses(fleet: Fleet) -> list[str]:
    """Every page of the console, with something on each."""
    return [
        reverse("console:pool", args=[fleet.pool.pk]),
        *(reverse("console:host", args=[fleet.pool.pk, host.pk]) for host in fleet.hosts),
        reverse("console:host-drain", args=[fleet.accepting.pk]),
        reverse("console:host-confirm-off", args=[fleet.silent.pk]),
        reverse("console:vm-is-gone", args=[fleet.instances[0].pk]),
        reverse("console:operations"),
        reverse("console:operation", args=[fleet.drain.pk]),
        reverse("console:operation", args=[fleet.broken.pk]),
        reverse("console:alarms"),
        reverse("console:runbook", args=["host-not-fenced"]),
        reverse("console:tenants"),
        reverse("console:new-tenant"),
        reverse("console:tenant", args=["acme"]),
        reverse("console:containers"),
    ]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_page_keeps_the_rules_of_accessibility(
    fleet: Fleet, page: Page, complaints: list[str], scheme: Any
) -> None:
    page.emulate_media(color_scheme=scheme)
    rules = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]}
    for address in addresses(fleet):
        page.goto(address)
        results = Axe().run(page, options=rules)
        assert results.violations_count == 0, f"{address}\n{results.generate_report()}"
    assert complaints == []


def test_the_console_is_used_with_the_keyboard_alone(pool: Pool, page: Page) -> None:
    page.goto(reverse("console:pool", args=[pool.pk]))
    page.keyboard.press("Tab")
    expect(page.get_by_text("Skip to content")).to_be_focused()
    page.keyboard.press("Enter")
    assert page.url.endswith("#main")


def press_tab_until(page: Page, target: Locator) -> None:
    for _ in range(60):
        page.keyboard.press("Tab")
        if target.evaluate("element => element === document.activeElement"):
            return
    raise AssertionError("the keyboard does not get there")


def test_a_host_is_drained_with_the_keyboard_alone(fleet: Fleet, page: Page) -> None:
    host = fleet.accepting
    page.goto(reverse("console:pool", args=[fleet.pool.pk]))
    press_tab_until(page, page.get_by_role("link", name=f"Drain … {host.name}"))
    page.keyboard.press("Enter")
    press_tab_until(page, page.get_by_role("button", name=f"Drain {host.name}"))
    page.keyboard.press("Enter")
    expect(page.get_by_role("status")).to_have_text(f"{host.name} is being drained.")
    expect(page.get_by_role("button", name="Call the draining off")).to_be_visible()


def test_how_far_a_draining_is_changes_on_the_open_page(fleet: Fleet, page: Page) -> None:
    page.goto(reverse("console:host", args=[fleet.pool.pk, fleet.draining.pk]))
    expect(page.get_by_text("1 of 3 instances have moved")).to_be_visible()
    moving = Operation.objects.get(parent=fleet.drain, step="await_arrival")
    assert moving.instance is not None
    Instance.objects.all().settle_on(moving.instance, fleet.accepting.pk)
    Operation.objects.filter(pk=moving.pk).update(state="succeeded", ended_at=Now())
    expect(page.get_by_text("2 of 3 instances have moved")).to_be_visible(timeout=10_000)


def test_an_alarm_that_opens_is_counted_on_the_open_page(fleet: Fleet, page: Page) -> None:
    page.goto(reverse("console:operations"))
    expect(page.get_by_role("link", name="Alarms 2")).to_be_visible()
    open_alarm("pool-unfollowed:x", title="Nobody follows it")
    expect(page.get_by_role("link", name="Alarms 3")).to_be_visible(timeout=10_000)


def test_the_focus_stays_where_it_is_when_the_page_changes(fleet: Fleet, page: Page) -> None:
    page.goto(reverse("console:operation", args=[fleet.drain.pk]))
    button = page.get_by_role("button", name="Run now")
    button.focus()
    fleet.drain.events.create(what="waiting", message="Something new.")
    expect(page.get_by_text("Something new.")).to_be_visible(timeout=10_000)
    expect(button).to_be_focused()


def test_what_an_operator_has_opened_stays_open(fleet: Fleet, page: Page) -> None:
    page.goto(reverse("console:operation", args=[fleet.broken.pk]))
    page.get_by_text("For operators").click()
    page.get_by_role("heading", name="Facts").click()
    page.evaluate("document.activeElement.blur()")
    fleet.broken.events.create(what="waiting", message="Something new.")
    expect(page.get_by_text("Something new.")).to_be_visible(timeout=10_000)
    expect(page.get_by_text("KeyError: grace")).to_be_visible()
