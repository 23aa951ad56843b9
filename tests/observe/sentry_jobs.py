"""The same jobs for stock arq and for arqestra under sentry-sdk, and settings to start them with.

`ENGINE` says whose they are: "arq" or "arqestra". `INIT` says where Sentry is set up: "first" (before the import of
arqestra), "last" (after the worker's settings) or "startup" (in `on_startup`). What Sentry is told goes to the file
`TOLD`, a line of JSON for each item; nothing leaves the machine.
"""

from __future__ import annotations

import asyncio
import json
import os
from datetime import timedelta
from typing import Any

import sentry_sdk
from sentry_sdk.envelope import Envelope
from sentry_sdk.transport import Transport

OURS = os.environ.get("ENGINE") == "arqestra"
INIT = os.environ.get("INIT", "first")


class ToFile(Transport):
    """Takes the place of the connection to Sentry."""

    def capture_envelope(self, envelope: Envelope) -> None:
        for item in envelope.items:
            told = item.payload.json
            if told is None:  # it is bytes already
                told = json.loads(item.get_bytes())
            with open(os.environ["TOLD"], "a", encoding="utf-8") as file:
                file.write(json.dumps({"item": item.type, **told}, default=str) + "\n")


def init() -> None:
    sentry_sdk.init(
        dsn="https://key@sentry.invalid/1",
        transport=ToFile,
        traces_sample_rate=1.0,
        send_default_pii=os.environ.get("PII") == "1",
    )


if INIT == "first":
    init()

import arq  # noqa: E402
import arq.worker  # noqa: E402
from arq.connections import RedisSettings  # noqa: E402
from arq.worker import JobExecutionFailed, Retry, RetryJob  # noqa: E402

import arqestra  # noqa: E402 # also beside stock arq, whose workers must not be changed by it
from tests.observe.sentry_orders import order  # noqa: E402

cron = arqestra.cron if OURS else arq.cron


async def add(ctx: dict[Any, Any], *numbers: int) -> int:
    return sum(numbers)


async def fail(ctx: dict[Any, Any], why: str) -> None:
    sentry_sdk.add_breadcrumb(message="about to fail")
    raise ValueError(f"no good: {why}")


async def again(ctx: dict[Any, Any]) -> int:
    if ctx["job_try"] == 1:
        raise Retry()
    if ctx["job_try"] == 2:
        raise RetryJob
    return int(ctx["job_try"])


async def refuse(ctx: dict[Any, Any]) -> None:
    raise JobExecutionFailed("told so")


async def parent(ctx: dict[Any, Any]) -> None:
    await ctx["redis"].enqueue_job("add", 1, 2)
    await ctx["redis"].enqueue_job("fail", "child")


async def says(ctx: dict[Any, Any]) -> None:
    sentry_sdk.capture_message("hello")


async def too_slow(ctx: dict[Any, Any]) -> None:
    await asyncio.sleep(60)


async def tick(ctx: dict[Any, Any]) -> None:
    raise LookupError("cron is no good")


async def startup(ctx: dict[Any, Any]) -> None:
    if INIT == "startup":
        init()
    sentry_sdk.set_tag("deployed", "today")


class Settings:
    functions = [  # noqa: RUF012
        add,
        fail,
        again,
        refuse,
        parent,
        says,
        arq.worker.func(too_slow, name="slow", timeout=timedelta(seconds=0.1)),
    ]
    redis_settings = RedisSettings.from_dsn(os.environ.get("REDIS_URL", "redis://"))
    on_startup = startup
    poll_delay = 0.05
    cron_jobs = [cron(tick, run_at_startup=True, hour=0)] if os.environ.get("CRON") == "1" else None


if OURS:
    Settings.unknown_functions = "fail"  # type: ignore[attr-defined] # as arq does
    Settings = arqestra.worker_settings(Settings)  # type: ignore[misc]
if INIT == "last":
    init()


async def send() -> None:
    """Enqueue what the workers are to do, as a request of a web application does."""
    make: Any = arqestra.create_pool if OURS else arq.create_pool
    pool = await make(Settings.redis_settings)
    with sentry_sdk.start_transaction(name="request", op="http.server"):
        await order(pool)
    await pool.aclose()


if __name__ == "__main__":
    asyncio.run(send())
