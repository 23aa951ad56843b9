"""A worker whose jobs tell of themselves, and what is listed of the jobs that have ended."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from arq import Retry

from arqestra import JobContext, Pool, Worker, current_job, job
from arqestra.protocol.recent_jobs import EndedJob
from tests.support.wait import wait_until
from tests.support.workers import until_looked, worker_running


@job
async def double(ctx: JobContext, number: int) -> int:
    return 2 * number


@job(max_tries=3)
async def fail_twice(ctx: JobContext) -> int:
    attempt: int = ctx["job_try"]
    if attempt < 3:
        raise Retry(defer=0) from ValueError(f"attempt {attempt}\nand more")
    return attempt


@job
async def fail(ctx: JobContext) -> None:
    raise ValueError("as it was told\nin two lines")


@job
async def tell(ctx: JobContext, until_gate: bool = False) -> None:
    ctx.progress(1, 4, "begun")
    ctx.log("first line")
    running = current_job()
    assert running is not None
    running.progress(2, 4)
    running.log({"second": "line"})
    if until_gate:
        await ctx["gate"].wait()
    ctx.progress(4, 4, "done")


@job(executor="thread")
def tell_in_a_thread(ctx: JobContext) -> str:
    ctx.progress(3)
    ctx.log(threading.current_thread().name)
    return threading.current_thread().name


@job
async def tell_nonsense(ctx: JobContext, what: Any) -> None:
    ctx.progress(what)


FUNCTIONS = [double, fail_twice, fail, tell, tell_in_a_thread, tell_nonsense]


@asynccontextmanager
async def working(redis_url: str, **settings: Any) -> AsyncIterator[Worker]:
    async with worker_running(redis_url, functions=FUNCTIONS, poll_delay=0.05, **settings) as worker:
        await until_looked(worker)
        yield worker


async def recent(pool: Pool, count: int, **wanted: Any) -> list[EndedJob]:
    found: list[EndedJob] = []

    async def are_there() -> bool:
        found[:] = await pool.recent(**wanted)
        return len(found) >= count

    await wait_until(are_there, f"{count} recent jobs")
    return found
