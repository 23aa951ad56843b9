from __future__ import annotations

import asyncio
from typing import Any

import pytest

from arqestra import Pool, Retry, Snooze, Cancel, job, workflow, chain
from arqestra.testing import assert_enqueued, drain, perform, refute_enqueued, inline, Clock
from arqestra.testing import *  # noqa


@job(max_tries=3)
async def add(ctx: dict[Any, Any], a: int, b: int = 0) -> int:
    return a + b


async def flaky(ctx: dict[Any, Any]) -> str:
    if ctx["job_try"] < 3:
        raise Retry(defer=3600)
    return "ok"


async def test_perform() -> None:
    out = await perform(add, 1, b=2)
    assert (out.state, out.value) == ("complete", 3)
    out = await perform(flaky)
    assert (out.state, out.delay_s) == ("retry", 3600)
    assert (await perform(flaky, job_try=3)).value == "ok"


async def test_drain(arqestra_pool: Pool) -> None:
    j = await arqestra_pool.enqueue_job("flaky")
    await assert_enqueued(arqestra_pool, flaky, count=1)
    done = await drain(arqestra_pool, [flaky])
    assert done.retried == 2 and done.complete == 1
    assert await j.result(timeout=1) == "ok"


@workflow
async def week(flow: Any) -> int:
    n = 0
    for _ in range(7):
        await flow.sleep(86400)
        n += 1
    return n


async def test_week(arqestra_pool: Pool) -> None:
    import time

    t = time.perf_counter()
    j = await arqestra_pool.enqueue(week)
    done = await drain(arqestra_pool, [week])
    print(done, time.perf_counter() - t)
    assert done.of(week)[-1].value == 7


async def test_travel(arqestra_pool: Pool, arqestra_clock: Clock, arqestra_worker: Any) -> None:
    w = arqestra_worker([add])
    await arqestra_pool.enqueue_job("add", 1, _defer_by=7200)
    async with w.running():
        arqestra_clock.travel(hours=3)
        async with asyncio.timeout(5):
            while w.jobs_complete < 1:
                await asyncio.sleep(0.01)


async def test_inline(arqestra_pool: Pool) -> None:
    async with inline([add, flaky], arqestra_pool) as pool:
        j = await pool.enqueue(add, 1, 2)
        assert await j.result(timeout=0.1) == 3
        h = await pool.enqueue_flow(chain(add.s(1, 2), add.s(3)))
        assert await h.result(timeout=0.1) == 6
