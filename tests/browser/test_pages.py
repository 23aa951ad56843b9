"""Every page in Chromium: no script fails, no other host is asked, nothing hostile runs, axe finds nothing serious."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import LOOKS, Watched
from tests.browser.places import PLACES
from tests.browser.shop import Shop
from tests.support.repository import REPOSITORY

SERIOUS = ("serious", "critical")
LARGEST_BYTES = 150_000
# Tracebacks tell where this clone is; a picture for everybody need not.
WITHOUT_FOLDER = """folder => {
    for (const each of document.querySelectorAll(".traceback")) {
        each.textContent = each.textContent.replaceAll(folder, "/srv/shop");
    }
}"""
PICTURES = Path(os.environ["SCREENSHOTS"]) if os.environ.get("SCREENSHOTS") else None
SHORT = [("overview", "light"), ("jobs", "dark"), ("job", "light"), ("hostile", "light"), ("broken-workflow", "phone")]
LONG = [(name, look) for name in PLACES for look in LOOKS if (name, look) not in SHORT]


def settle(page: Page, name: str) -> None:
    """Wait until scripts have drawn what they draw, and the page is live."""
    expect(page.locator("[data-live-state=on]")).to_be_visible()
    if page.locator("[data-charts]").count():
        expect(page.locator("[data-charts][data-drawn=yes]")).to_be_attached()
        expect(page.locator(".plot canvas").first).to_be_visible()
    if page.locator("[data-graph]").count():
        expect(page.locator("[data-graph][data-drawn=yes] svg")).to_be_visible()
    if name == "audit":
        expect(page.locator("h1")).to_be_visible()


def serious_of(page: Page, axe: str) -> list[Any]:
    """What axe finds that is serious."""
    page.evaluate(axe)
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    return [
        (each["id"], [node["target"] for node in each["nodes"]][:5])
        for each in found["violations"]
        if each["impact"] in SERIOUS
    ]


def look_at(chromium: Browser, shop: Shop, axe: str, name: str, look: str) -> None:
    options = {**LOOKS[look], "base_url": shop.address, "locale": "en-GB", "timezone_id": "Europe/Paris"}
    context = chromium.new_context(**options)
    try:
        page = context.new_page()
        watched = Watched(page, shop.address)
        answer = page.goto(PLACES[name])
        assert answer is not None
        assert answer.status == 200
        settle(page, name)
        assert "pwned" not in page.title()
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "it is wider than the window"
        assert serious_of(page, axe) == []
        assert watched.problems == []
        if PICTURES is not None:
            keep(page, PICTURES / f"{name}-{look}.webp")
    finally:
        context.close()


def keep(page: Page, path: Path) -> None:
    """A screenshot, as small as it can be and be read."""
    path.parent.mkdir(parents=True, exist_ok=True)
    page.mouse.move(0, 0)
    page.evaluate(WITHOUT_FOLDER, str(REPOSITORY))
    picture = Image.open(io.BytesIO(page.screenshot()))
    picture.convert("RGB").save(path, "WEBP", quality=72, method=6)
    assert path.stat().st_size < LARGEST_BYTES


@pytest.mark.parametrize(("name", "look"), SHORT)
def test_a_page(chromium: Browser, shop: Shop, axe: str, name: str, look: str) -> None:
    look_at(chromium, shop, axe, name, look)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "look"), LONG)
def test_the_other_pages(chromium: Browser, shop: Shop, axe: str, name: str, look: str) -> None:
    look_at(chromium, shop, axe, name, look)
