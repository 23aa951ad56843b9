"""Job functions of these tests."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from arqestra import (
    Backoff,
    Cancel,
    ConcurrencyLimit,
    Flow,
    RateLimit,
    Retry,
    Snooze,
    Unique,
    current_job,
    job,
    workflow,
)

HOUR_S = 3600.0


@dataclass
class Point:
    x: int
    y: int


@job
async def add(ctx: dict[Any, Any], a: int, b: int = 0) -> int:
    return a + b


@job
async def moved(ctx: dict[Any, Any], point: Point, by: timedelta) -> Point:
    assert isinstance(point, Point)
    assert isinstance(by, timedelta)
    return Point(point.x + 1, point.y)


@job(max_tries=3, retry=Backoff(base=60, factor=1, jitter="none"))
async def flaky(ctx: dict[Any, Any]) -> int:
    if ctx["job_try"] < 3:
        raise ConnectionError("down")
    return int(ctx["job_try"])


@job(max_tries=2, retry=Backoff(base=60, jitter="none"))
async def broken(ctx: dict[Any, Any]) -> None:
    raise ValueError("no good")


async def retries(ctx: dict[Any, Any]) -> str:
    if ctx["job_try"] == 1:
        raise Retry(defer=HOUR_S)
    return "done"


@job
async def snoozes(ctx: dict[Any, Any]) -> Any:
    return Snooze(30)


@job
async def gives_up(ctx: dict[Any, Any]) -> Any:
    return Cancel("nothing to do")


@job(timeout=0.05)
async def sleeps(ctx: dict[Any, Any]) -> None:
    await asyncio.sleep(30)


@job(executor="thread")
def in_a_thread(ctx: dict[Any, Any], text: str) -> str:
    running = current_job()
    assert running is not None
    return f"{text} {running.job_try}"


@job(acks="early")
async def at_most_once(ctx: dict[Any, Any]) -> str:
    return "once"


async def uses_redis(ctx: dict[Any, Any]) -> None:
    await ctx["redis"].enqueue_job("add", 1)


@job
async def spreads(ctx: dict[Any, Any], depth: int) -> int:
    if depth:
        await ctx["redis"].enqueue_job("spreads", depth - 1, _queue_name=f"depth-{depth}")
    return depth


@job(rate_limit=RateLimit("1/h"))
async def once_an_hour(ctx: dict[Any, Any], started: int) -> int:
    return started


@job(concurrency=ConcurrencyLimit(1))
async def one_at_a_time(ctx: dict[Any, Any]) -> None:
    await asyncio.sleep(0)


@job(unique=Unique(until=HOUR_S))
async def once(ctx: dict[Any, Any], number: int) -> int:
    return number


@job(queue="mail")
async def send(ctx: dict[Any, Any], to: str) -> str:
    return to


async def tick(ctx: dict[Any, Any]) -> None:
    pass


@workflow
async def week(flow: Flow) -> list[int]:
    """A report on each of seven days."""
    days = []
    for day in range(7):
        await flow.sleep(days=1)
        days.append(await flow.run(add.s(day, 1)))
    return days


@workflow
async def approval(flow: Flow) -> str:
    try:
        return str(await flow.wait_for("approved", timeout=3 * 86_400))
    except TimeoutError:
        return "nobody said yes"


@job
async def total(ctx: dict[Any, Any], numbers: list[int]) -> int:
    return sum(numbers)


@workflow
async def until_somebody_comes(flow: Flow) -> Any:
    return await flow.wait_for("somebody")


@job
async def log_in(ctx: dict[Any, Any], user: str, password: str, token: str = "") -> None:
    """Takes secrets."""
