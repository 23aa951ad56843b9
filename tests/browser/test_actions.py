"""What people do with the dashboard, in Chromium: by mouse and by keyboard, on a live service."""

from __future__ import annotations

import http.server
import re
import threading
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from arqestra import Pool, ResultNotFound
from tests.browser.places import PLACES, at
from tests.browser.shop import BROKEN_FLOW, CHECKOUT, MEDIA, Shop
from tests.support.dashboard_process import served
from tests.support.hostile_text import EVIL
from tests.support.wait import wait_until

FLASH = ".flash.good"


def press(page: Page, name: str) -> None:
    page.get_by_role("button", name=name, exact=True).first.click()


def confirmed(page: Page, name: str) -> None:
    """Press a button, and again on the page that asks."""
    press(page, name)
    expect(page.locator(".lone h1")).to_contain_text(name)
    page.locator(".lone button").first.click()


def test_a_failed_job_is_found_and_retried_in_two_clicks(page: Page) -> None:
    page.goto("/")
    page.locator(".problems a", has_text="sync_stock fails").click()
    expect(page.locator("h1")).to_have_text("Errors")
    page.get_by_role("link", name="stock-3").click()
    expect(page.locator(".traceback").first).to_contain_text("warehouse north: connection reset by peer")
    confirmed(page, "Retry")
    expect(page.locator(FLASH)).to_contain_text("1 job queued again")
    expect(page.locator("h1")).to_contain_text("sync_stock")


@pytest.mark.slow
def test_many_by_filter_and_some_by_hand(page: Page) -> None:
    page.goto(at("/jobs", state="failed"))
    page.get_by_label("Id has").fill("charge-")
    press(page, "Filter")
    expect(page.locator("[data-row]")).to_have_count(6)
    page.get_by_role("link", name="Retry all that match").click()
    expect(page.locator("h1")).to_have_text("Retry 6 jobs?")
    page.get_by_role("button", name="Retry 6 jobs").click()
    expect(page.locator(FLASH)).to_contain_text("6 jobs queued again")

    page.goto(at("/jobs", state="deferred"))
    for job in ("later-1", "later-2"):
        page.get_by_label(f"Select {job}").check()
    press(page, "Run now selected")
    page.get_by_role("button", name="Run now 2 jobs").click()
    expect(page.locator(FLASH)).to_contain_text("2 jobs made due")
    expect(page.get_by_role("link", name="later-1")).to_have_count(0)

    page.get_by_label("all on this page").check()
    press(page, "Delete selected")
    page.get_by_role("link", name="Go back").click()
    expect(page.locator("[data-row]")).to_have_count(4)


@pytest.mark.slow
def test_errors_are_retried_as_a_group(page: Page) -> None:
    page.goto("/errors")
    row = page.locator("tr", has_text="CardDeclined")
    row.get_by_role("link", name="Retry all").click()
    page.locator(".lone button").first.click()
    expect(page.locator(FLASH)).to_contain_text("queued again")


@pytest.mark.slow
def test_abort_and_delete(page: Page, shop: Shop) -> None:
    shop.do(lambda pool: pool.enqueue_job("render_catalogue", 5000, _job_id="endless", _queue_name=MEDIA))
    page.goto(at("/job", id="endless", queue=MEDIA))
    expect(page.locator("h1 .s-running")).to_be_visible()
    expect(page.locator(".log p").first).to_contain_text("products")
    confirmed(page, "Abort")
    expect(page.locator(FLASH)).to_contain_text("1 job being aborted")
    expect(page.locator("h1 .s-aborted")).to_be_visible()
    confirmed(page, "Delete")
    expect(page.locator(FLASH)).to_contain_text("1 job deleted")
    assert shop.do(lambda pool: pool.job("endless", queue=MEDIA).info()) is None


@pytest.mark.slow
def test_queues(page: Page, shop: Shop) -> None:
    page.goto("/queues")
    row = page.locator("tr", has_text="shop:search")
    row.get_by_role("button", name="Pause").click()
    expect(page.locator(FLASH)).to_contain_text("Queue shop:search is paused")
    row.get_by_role("link", name="shop:search").click()
    expect(page.locator("h1 .s-paused")).to_be_visible()
    press(page, "Resume")
    expect(page.locator("h1 .s-paused")).to_have_count(0)
    shop.do(lambda pool: pool.enqueue_job("nobody", _queue_name="shop:scrap"))
    page.goto(at("/queue", name="shop:scrap"))
    confirmed(page, "Purge")
    expect(page.locator(FLASH)).to_contain_text("1 job of queue shop:scrap deleted")
    page.goto(at("/queue", name=CHECKOUT))
    expect(page.locator("[data-region=limits]")).to_contain_text("rate")


@pytest.mark.slow
def test_workers(page: Page) -> None:
    page.goto("/workers")
    press(page, "Drain")
    expect(page.locator(".worker .s-draining")).to_be_visible()
    press(page, "Resume")
    expect(page.locator(".worker .s-draining")).to_have_count(0)


@pytest.mark.slow
def test_schedules(page: Page) -> None:
    page.goto("/schedules")
    page.get_by_role("link", name="nightly-stock").click()
    press(page, "Pause")
    expect(page.locator("h1 .s-paused")).to_be_visible()
    press(page, "Resume")
    press(page, "Run now")
    expect(page.locator(FLASH)).to_contain_text("is queued")
    expect(page.locator("[data-region=runs] .s-complete").first).to_be_visible()
    page.get_by_label("When").fill("*/20 * * * *")
    page.get_by_label("Time zone").fill("Asia/Seoul")
    press(page, "Save")
    expect(page.locator(FLASH)).to_contain_text("every 20 minutes, Asia/Seoul")
    page.get_by_label("When").fill("never")
    press(page, "Save")
    expect(page.locator(".flash.bad")).to_be_visible()


@pytest.mark.slow
def test_workflows(page: Page, shop: Shop) -> None:
    page.goto(at("/workflow", id=BROKEN_FLOW))
    expect(page.locator(".graph .s-failed").first).to_be_visible()
    press(page, "Retry")
    expect(page.locator(FLASH)).to_contain_text("run again")
    expect(page.locator("h1 .s-failed")).to_be_visible()

    shop.do(lambda pool: pool.enqueue_job("fulfil_order", 7, _job_id="order-7"))
    shop.do(lambda pool: wait_until(lambda: _begun(pool)))
    page.goto(at("/workflow", id="order-7"))
    expect(page.locator(".graph [data-node]")).to_have_count(2)
    expect(page.locator("[data-region=nodes]")).to_contain_text("step ended")
    confirmed(page, "Cancel")
    expect(page.locator("h1 .s-cancelled")).to_be_visible()


async def _begun(pool: Pool) -> bool:
    try:
        return (await pool.flow("order-7").progress()).done == 2
    except ResultNotFound:
        return False


def test_the_page_is_live_and_rests_while_it_is_hidden(page: Page, shop: Shop) -> None:
    page.goto(at("/jobs", state="deferred", queue="shop:live"))
    expect(page.locator("[data-live-state=on]")).to_be_visible()
    shop.do(lambda pool: pool.enqueue_job("later", _queue_name="shop:live", _defer_by=999, _job_id="seen-live"))
    expect(page.get_by_role("link", name="seen-live")).to_be_visible()

    page.evaluate("Object.defineProperty(document, 'hidden', {value: true, configurable: true})")
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    expect(page.locator("[data-live-state=off]")).to_be_visible()
    requests: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    shop.do(lambda pool: pool.job("seen-live", queue="shop:live").delete())
    page.wait_for_timeout(2_500)  # two readings would have come
    assert requests == []
    page.evaluate("Object.defineProperty(document, 'hidden', {value: false, configurable: true})")
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    expect(page.get_by_role("link", name="seen-live")).to_have_count(0)


@pytest.mark.slow
def test_charts_are_live(page: Page, shop: Shop) -> None:
    page.goto(at("/", range="15m"))
    expect(page.locator("[data-charts][data-updated]")).to_be_attached()
    output = page.locator("[data-chart=throughput] output")
    before = output.inner_text()
    many = [("send_receipt", (number, "bob@example.org")) for number in range(900)]
    shop.do(lambda pool: pool.enqueue_many(many))
    expect(output).not_to_have_text(before)


def test_the_keyboard(page: Page) -> None:
    page.goto("/")
    page.keyboard.press("/")
    expect(page.locator("#q")).to_be_focused()
    page.keyboard.type("'charge-9'")
    page.keyboard.press("Enter")
    expect(page.locator("h1")).to_contain_text("charge_card")
    page.keyboard.press("g")
    page.keyboard.press("j")
    expect(page.locator("h1")).to_have_text("Jobs")
    page.goto(at("/jobs", state="failed"))
    for _ in range(3):
        page.keyboard.press("j")
    page.keyboard.press("k")
    page.keyboard.press("x")
    second = page.locator("[data-row]").nth(1)
    expect(second.locator("input")).to_be_checked()
    job = second.locator("a").inner_text()
    page.keyboard.press("Enter")
    expect(page.locator(".ids .id").first).to_have_text(job)
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_be_visible()
    page.keyboard.press("Escape")
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.keyboard.press("t")
    assert page.evaluate("getComputedStyle(document.documentElement).backgroundColor") != dark
    page.reload()
    assert page.evaluate("document.documentElement.dataset.theme") == "dark", "it is remembered"


def test_times_are_in_the_readers_zone(page: Page) -> None:
    page.goto(PLACES["job"])
    time = page.locator(".facts time").first
    expect(time).to_have_text(re.compile("ago|now"))
    expect(time).to_have_attribute("title", re.compile("CET|CEST|GMT[+]1|GMT[+]2"))


def test_pages_work_without_scripts(chromium: Browser, shop: Shop) -> None:
    context = chromium.new_context(base_url=shop.address, java_script_enabled=False)
    page = context.new_page()
    page.goto("/")
    page.get_by_role("link", name="Queues", exact=True).click()
    page.locator("tr", has_text="shop:search").get_by_role("button", name="Pause").click()
    expect(page.locator(FLASH)).to_contain_text("is paused")
    page.locator("tr", has_text="shop:search").get_by_role("button", name="Resume").click()
    page.goto(PLACES["job"])
    expect(page.locator(".facts time").first).to_contain_text("UTC")
    context.close()


def test_a_viewer_is_offered_nothing(chromium: Browser, shop: Shop, tmp_path_factory: pytest.TempPathFactory) -> None:
    tokens = tmp_path_factory.mktemp("auth") / "tokens"
    tokens.write_text("vera:viewer:a-token-of-a-viewer\n")
    with served(shop.redis_url, "--tokens", str(tokens)) as address:
        context = chromium.new_context(base_url=address)
        page = context.new_page()
        page.goto(PLACES["job"])
        page.get_by_label("Token").fill("a-token-of-a-viewer")
        press(page, "Log in")
        page.goto(PLACES["job"])
        expect(page.locator(".traceback").first).to_be_visible()
        expect(page.get_by_role("button", name="Retry")).to_have_count(0)
        for path in ("/queues", "/workers", "/schedules", "/errors", at("/jobs", state="failed")):
            page.goto(path)
            expect(page.locator(".act, .bulk, main .danger")).to_have_count(0)
        press(page, "Log out")
        expect(page.get_by_label("Token")).to_be_visible()
        context.close()


@pytest.fixture
def other_site() -> Iterator[str]:
    """A site that posts to the dashboard as soon as it is opened."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            form = f"<form method=post action='{self.path[1:]}'><input name=name value=shop:search></form>"
            self.wfile.write(f"{form}<script>document.forms[0].submit()</script>".encode())

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://localhost:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_form_of_another_site_is_refused(context: BrowserContext, shop: Shop, other_site: str) -> None:
    page = context.new_page()
    page.goto(f"{shop.address}/queues")  # so that the browser has our cookies
    page.goto(f"{other_site}/{shop.address}/actions/queues/pause")
    expect(page.locator("body")).to_contain_text("comes from another site")
    assert not shop.do(lambda pool: pool.queue("shop:search").is_paused())


def test_nothing_hostile_runs(page: Page) -> None:
    for path in (PLACES["hostile"], PLACES["broken-workflow"], "/errors", at("/search", q=EVIL)):
        page.goto(path)
        expect(page.locator("main")).to_contain_text("<script>document.title")
        assert "pwned" not in page.title()
        assert page.locator("img[src=x]").count() == 0
