"""A shop's jobs, for the dashboard to be looked at: most of them are well, some fail, some take their time."""

from __future__ import annotations

import asyncio
import random
from typing import Any

from arqestra import Backoff, Flow, RateLimit, current_job, every, job, schedule, worker_settings, workflow
from tests.support.hostile_text import EVIL

WAYS = random.Random(7)


class CardDeclined(Exception):
    """The bank said no."""


@job
async def send_receipt(ctx: dict[Any, Any], order_id: int, email: str) -> dict[str, Any]:
    await asyncio.sleep(WAYS.random() * 0.02)
    return {"order": order_id, "status": "sent"}


@job(max_tries=2, retry=Backoff(base=0.1))
async def charge_card(ctx: dict[Any, Any], order_id: int, card_token: str, cents: int = 0) -> str:
    told = current_job()
    assert told is not None
    told.log(f"order {order_id}: asking the bank for {cents / 100:.2f} €")
    await asyncio.sleep(WAYS.random() * 0.03)
    if order_id % 9 == 0:
        told.log("the bank declined")
        raise CardDeclined(f"card of order {order_id} was declined: insufficient funds")
    return f"receipt-{order_id}"


@job(max_tries=1)
async def sync_stock(ctx: dict[Any, Any], warehouse: str) -> int:
    if warehouse == "north":
        raise ConnectionError("warehouse north: connection reset by peer")
    return 7


@job(max_tries=1)
async def hostile(ctx: dict[Any, Any], text: str = EVIL) -> None:
    told = current_job()
    assert told is not None
    told.log(text)
    raise ValueError(text)


@job
async def render_catalogue(ctx: dict[Any, Any], pages: int = 600) -> int:
    told = current_job()
    assert told is not None
    for page in range(pages):
        told.progress(page, pages, f"page {page} of {pages}")
        if page % 10 == 0:
            told.log(f"page {page}: {WAYS.randint(3, 30)} products")
        await asyncio.sleep(0.25)
    return pages


@job
async def resize(ctx: dict[Any, Any], picture: str) -> str:
    await asyncio.sleep(0.02)
    return picture


@job
async def publish(ctx: dict[Any, Any], pictures: list[str]) -> int:
    return len(pictures)


@job(max_tries=1)
async def announce(ctx: dict[Any, Any], *_: Any) -> None:
    raise RuntimeError("the newsletter's server does not answer")


@job(rate_limit=RateLimit("1/m"))
async def call_partner(ctx: dict[Any, Any], number: int) -> None:
    """One a minute: the others wait for the limit."""


@workflow
async def fulfil_order(flow: Flow, order_id: int) -> str:
    receipt = await flow.run(charge_card.s(order_id, "tok_4242", 4900))
    await flow.run(send_receipt.s(order_id, "ann@example.org"))
    await flow.wait_for("delivered")
    return receipt


@worker_settings
class WorkerSettings:
    functions = (
        *(send_receipt, charge_card, sync_stock, hostile, render_catalogue, resize, publish, announce),
        *(call_partner, fulfil_order),
    )
    queues = ("shop:checkout", "shop:media", "arq:queue")
    cron_queue = "arq:queue"
    serializer = "msgpack"
    allow_abort_jobs = True
    max_jobs = 12
    job_completion_wait = 0
    schedules = (
        schedule("0 3 * * *", sync_stock, args=("south",), name="nightly-stock", timezone="Europe/Paris"),
        schedule(every("15m"), send_receipt, args=(1, "ops@example.org"), name="heartbeat"),
    )
