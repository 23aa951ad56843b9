"""The pages of the shop's dashboard, by name."""

from __future__ import annotations

from urllib.parse import urlencode

from tests.browser.shop import BROKEN_FLOW, CHECKOUT, DURABLE, FLOW, MEDIA
from tests.support.hostile_text import EVIL


def at(path: str, **query: str) -> str:
    return f"{path}?{urlencode(query)}" if query else path


PLACES = {
    "overview": "/",
    "jobs": at("/jobs", state="failed"),
    "queued": at("/jobs", state="queued"),
    "job": at("/job", id="charge-9", queue=CHECKOUT),
    "running": at("/job", id="catalogue", queue=MEDIA),
    "errors": "/errors",
    "queues": "/queues",
    "queue": at("/queue", name=CHECKOUT),
    "workers": "/workers",
    "schedules": "/schedules",
    "schedule": at("/schedule", name="nightly-stock"),
    "workflows": at("/workflows", ended="true"),
    "workflow": at("/workflow", id=FLOW),
    "broken-workflow": at("/workflow", id=BROKEN_FLOW),
    "durable-workflow": at("/workflow", id=DURABLE),
    "search": at("/search", q="shop"),
    "audit": "/audit",
    "confirm": at("/confirm", action="jobs/retry", filter='{"state":"failed"}'),
    "hostile": at("/job", id=f"hostile {EVIL}"),
}
