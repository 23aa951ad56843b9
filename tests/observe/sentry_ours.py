"""What stock arq does not have, under sentry-sdk: `python -m tests.observe.sentry_ours` enqueues it and runs it."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import os
import threading
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import sentry_sdk
from sentry_sdk.integrations.arq import ArqIntegration

import arqestra
from arqestra import Backoff, Cancel, Flow, Middleware, RunningJob, Snooze, chain, cron, group, job, workflow
from tests.observe.sentry_jobs import ToFile
from tests.observe.sentry_orders import HUSHED


@job
async def add(ctx: dict[Any, Any], *numbers: int) -> int:
    return sum(numbers)


@job
async def fail(ctx: dict[Any, Any], why: str = "") -> None:
    raise ValueError(f"no good: {why}")


@job
def in_thread(ctx: dict[Any, Any], password: str) -> None:
    assert threading.current_thread() is not threading.main_thread()
    sentry_sdk.add_breadcrumb(message="in a thread")
    raise ValueError("in a thread")


@job(executor="process")
def in_process(ctx: dict[Any, Any], password: str) -> None:
    raise ValueError("in a process")


@job(soft_timeout=0.05)
async def too_slow_softly(ctx: dict[Any, Any]) -> None:
    await asyncio.sleep(60)


@job(retry=Backoff(on=(ConnectionError,), base=0.01, jitter="none", tries=3))
async def flaky(ctx: dict[Any, Any], password: str) -> None:
    raise ConnectionError(f"attempt {ctx['job_try']}")


@job
async def later(ctx: dict[Any, Any]) -> Snooze:
    if "later" not in ctx["seen"]:
        ctx["seen"].add("later")
        return Snooze(0.01)
    raise Cancel("no purpose")


@job
async def unstorable(ctx: dict[Any, Any], password: str) -> Any:
    return threading.Lock()


@job
async def typed(ctx: dict[Any, Any], when: datetime) -> None:
    raise AssertionError("its argument does not fit")


@job
async def guarded(ctx: dict[Any, Any], password: str) -> None:
    """Its middleware fails."""


@workflow
async def steps(flow: Flow) -> int:
    first = await flow.run(add.s(1, 2))
    await flow.sleep(0.01)
    return sum(await flow.gather(add.s(first, 1), add.s(first, 2)))


@workflow
async def breaks(flow: Flow, password: str) -> None:
    await flow.run(add.s(1))
    raise ValueError("in a workflow")


@workflow
async def broken_by_step(flow: Flow) -> None:
    with contextlib.suppress(ValueError):
        await flow.run(fail.s("a step"))


async def hourly(ctx: dict[Any, Any]) -> None:
    raise LookupError("hourly")


class Guard(Middleware):
    """Fails one job, and swallows nothing."""

    @contextlib.asynccontextmanager
    async def around_run(self, job: RunningJob) -> AsyncIterator[None]:
        if job.function == "guarded":
            raise PermissionError("the guard says no")
        yield


async def job_start(ctx: dict[Any, Any]) -> None:
    if ctx["job_id"] == "not started":
        raise RuntimeError("the start hook is no good")


async def job_end(ctx: dict[Any, Any]) -> None:
    if ctx["job_id"] == "hooked":
        raise RuntimeError("the end hook is no good")


ALONE: list[Any] = [in_thread, in_process, too_slow_softly, flaky, later, unstorable, guarded, breaks, broken_by_step]
FUNCTIONS = [add, fail, *ALONE, typed, steps]


async def main() -> None:
    url = os.environ["REDIS_URL"]
    pool = await arqestra.create_pool(url, serializer="msgpack")
    # After the import of arqestra and the definition of its jobs.
    sentry_sdk.init(
        dsn="https://key@sentry.invalid/1",
        transport=ToFile,
        traces_sample_rate=1.0,
        integrations=[ArqIntegration(monitor_cron_jobs=True)],
    )
    with sentry_sdk.start_transaction(name="request"):
        for each in ALONE:
            secret = (HUSHED,) if "password" in inspect.signature(each).parameters else ()
            await pool.enqueue(each, *secret)
        await pool.enqueue(steps.options(job_id="steps"))
        await pool.enqueue_job("typed", "not a number")
        await pool.enqueue_job("add", _job_id="hooked")
        await pool.enqueue_job("add", _job_id="not started")
        many = await pool.enqueue_many([add.bind(1), ("add", (2,)), ("fail", ("many",))])
        assert [await handle.info() for handle in many if handle]
        await pool.enqueue_flow(chain(group(add.s(1), add.s(2)), fail.si("in a flow")))
        await pool.enqueue_flow(add.map([4, 5]))
    worker = arqestra.Worker(
        FUNCTIONS,
        redis_settings=url,
        serializer="msgpack",
        burst=True,
        handle_signals=False,
        poll_delay=0.05,
        timezone=UTC,
        ctx={"seen": set()},
        cron_jobs=[cron(hourly, run_at_startup=True, hour=3, minute=15)],
        middleware=[Guard()],
        on_job_start=job_start,
        on_job_end=job_end,
    )
    await worker.async_run()
    await worker.close()
    await pool.aclose()


if __name__ == "__main__":
    asyncio.run(main())
