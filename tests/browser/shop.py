"""A live service for the browser: a Redis, a worker and the dashboard as processes, and a shop's worth of jobs."""

from __future__ import annotations

import asyncio
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from arqestra import Pool, chord, create_pool, group
from arqestra.embedded import EmbeddedRedis
from arqestra.protocol.histogram import bucket_of
from arqestra.store.statistics import RUN_BUCKET, WAIT_BUCKET
from tests.browser.shop_jobs import announce, fulfil_order, hostile, publish, render_catalogue, resize
from tests.support.dashboard_process import served
from tests.support.hostile_text import EVIL
from tests.support.repository import REPOSITORY
from tests.support.wait import wait_until

CHECKOUT, MEDIA = "shop:checkout", "shop:media"
SETTINGS = "tests.browser.shop_jobs.WorkerSettings"
FLOW, BROKEN_FLOW, DURABLE = "catalogue-2026", "newsletter-48", "order-1047"


@dataclass
class Shop:
    """A running shop.

    :ivar address: of its dashboard
    """

    redis_url: str
    address: str

    def do(self, work: Callable[[Pool], Any]) -> Any:
        """Await what `work` returns for a pool, in a thread: Playwright has a loop in this one."""

        async def run() -> Any:
            pool = await create_pool(self.redis_url, serializer="msgpack")
            try:
                return await work(pool)
            finally:
                await pool.aclose()

        with ThreadPoolExecutor(1) as thread:
            return thread.submit(lambda: asyncio.run(run())).result()


@contextmanager
def open_shop() -> Iterator[Shop]:
    """Everything of it stops at the end."""
    with EmbeddedRedis(use_environment=False) as redis, working(redis.url):
        options = ("--settings", SETTINGS)
        with served(redis.url, *options) as address:
            shop = Shop(redis.url, address)
            shop.do(stock)
            yield shop


@contextmanager
def working(redis_url: str) -> Iterator[None]:
    """A worker process."""
    environment = {**os.environ, "REDIS_URL": redis_url, "PYTHONPATH": str(REPOSITORY)}
    process = subprocess.Popen(
        [sys.executable, "-c", _RUN, SETTINGS, redis_url],
        cwd=REPOSITORY,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(20)
        finally:
            process.kill()


_RUN = """
import sys
from arqestra import run_worker
from arq.utils import import_string
run_worker(import_string(sys.argv[1]), redis_settings=sys.argv[2])
"""


async def stock(pool: Pool) -> None:
    """Fill the shop, and wait until the worker has told of what it did."""
    await _history(pool)
    await pool.enqueue(render_catalogue.options(job_id="catalogue", queue=MEDIA))
    for number in range(1, 61):
        await pool.enqueue_job(
            *("charge_card", number, f"tok_{number}"), cents=4900, _job_id=f"charge-{number}", _queue_name=CHECKOUT
        )
        await pool.enqueue_job("send_receipt", number, "ann@example.org", _queue_name=CHECKOUT)
    for number in range(4):
        await pool.enqueue_job("sync_stock", "north", _job_id=f"stock-{number}", _queue_name="arq:queue")
        await pool.enqueue_job("call_partner", number, _job_id=f"partner-{number}", _queue_name=CHECKOUT)
    for number in range(6):
        await pool.enqueue_job("send_receipt", number, "eve@example.org", _defer_by=3600, _job_id=f"later-{number}")
    for number in range(25):
        await pool.enqueue_job("index_page", number, _job_id=f"index-{number}", _queue_name="shop:search")
    await pool.enqueue(hostile.options(job_id=f"hostile {EVIL}"))
    pictures = chord([resize.s(f"{number}.jpg") for number in range(40)], publish.s())
    flow = await pool.enqueue_flow(pictures, flow_id=FLOW, name="publish catalogue")
    broken = group(resize.s("cover.jpg") | announce.s(), resize.s("back.jpg") | publish.s() | announce.s())
    other = await pool.enqueue_flow(broken, flow_id=BROKEN_FLOW, name=f"newsletter {EVIL}")
    await pool.enqueue(fulfil_order.options(job_id=DURABLE), 1047)
    await flow.wait(30)
    await other.wait(30)
    await wait_until(lambda: _told(pool))


async def _told(pool: Pool) -> bool:
    failed = await pool.recent(state="failed", limit=1000)
    return len(failed) >= 12 and len(await pool.recent(state="complete", limit=1000)) > 100


async def _history(pool: Pool) -> None:
    """What the shop did in the last hour, as its workers would have counted it."""
    now_minute = int(time.time()) // 60
    async with pool.pipeline(transaction=False) as pipe:
        for age in range(1, 60):
            wave = 1.4 + math.sin(age / 8) + 0.15 * math.sin(age * 2.3) + 0.1 * math.sin(age * 5.1)
            for queue, name, rate, run_ms, share in (
                (CHECKOUT, "charge_card", 300, 40, 0.02),
                (CHECKOUT, "send_receipt", 420, 15, 0.0),
                (MEDIA, "resize", 160, 220, 0.004),
            ):
                count = int(rate * wave)
                failed = int(count * share * (4 if 18 < age < 26 else 1))
                figures = {"enqueued": count, "complete": count - failed, "failed": failed, "retried": failed * 2}
                for length_ms, part in ((run_ms, 0.7), (run_ms * 3, 0.25), (run_ms * 9, 0.05)):
                    _add(figures, f"{RUN_BUCKET}{bucket_of(int(length_ms))}", int(count * part))
                for length_ms, part in ((2, 0.8), (9, 0.17), (60 if 18 < age < 26 else 24, 0.03)):
                    _add(figures, f"{WAIT_BUCKET}{bucket_of(length_ms)}", int(count * part))
                fields = {f"{queue}|{name}|{figure}": number for figure, number in figures.items()}
                pipe.hset(pool.store.keys.statistics(now_minute - age), mapping=fields)
        await pipe.execute()


def _add(figures: dict[str, int], name: str, number: int) -> None:
    figures[name] = figures.get(name, 0) + number
