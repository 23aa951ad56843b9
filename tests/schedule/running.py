"""Workers and schedulers that run in the test's loop, and what they have fired."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC
from typing import Any

from arqestra import (
    Pool,
    ScheduleNotFound,
    Scheduler,
    Worker,
    every,
)
from tests.schedule import scheduled_jobs as jobs
from tests.support.wait import wait_until
from tests.support.workers import worker_running

FAST = every(0.1)
NEVER = "0 0 1 1 *"


@asynccontextmanager
async def working(pool: Pool, **settings: Any) -> AsyncIterator[Worker]:
    """A worker in this loop."""
    options: dict[str, Any] = {"functions": jobs.ALL, "timezone": UTC, "poll_delay": 0.05, **settings}
    async with worker_running(pool, **options) as worker:
        yield worker
        for gate in jobs.GATES.values():
            gate.set()


@asynccontextmanager
async def scheduler_running(pool: Pool, *schedules: Any, **options: Any) -> AsyncIterator[Scheduler]:
    """A scheduler in this loop, which runs no jobs."""
    scheduler = Scheduler(pool, schedules, **options)
    running = asyncio.ensure_future(scheduler.run())
    try:
        yield scheduler
    finally:
        scheduler.stop()
        await running


async def seen(condition: Callable[[], bool], what: str) -> None:
    async def holds() -> bool:
        return condition()

    await wait_until(holds, what)


async def fired(pool: Pool, name: str, count: int, *, outcome: str | None = None) -> None:
    """Wait until a schedule has had so many runs."""

    async def has_runs() -> bool:
        with contextlib.suppress(ScheduleNotFound):
            runs = await pool.schedules.history(name)
            return sum(outcome is None or run.outcome == outcome for run in runs) >= count
        return False

    await wait_until(has_runs, f"{count} runs of {name}" + (f" that are {outcome}" if outcome else ""))


async def next_hour(pool: Pool, name: str = "note") -> tuple[int, str]:
    """When a schedule at nine is due, in UTC, and in which zone it is said to be."""

    async def is_planned() -> bool:
        [due] = await pool.zmscore("arqestra:schedules:arq:queue", [name])
        return bool(due)

    await wait_until(is_planned, "a scheduler has planned it")
    info = await pool.schedules.get(name)
    assert info.next_run is not None
    assert await pool.schedules.next_runs(name, 1) == [info.next_run]
    assert info.words == f"at 09:00 every day, {info.timezone}"
    return info.next_run.astimezone(UTC).hour, info.timezone


async def pool_is_idle(pool: Pool) -> None:
    async def is_empty() -> bool:
        return await pool.zcard(pool.default_queue_name) == 0

    await wait_until(is_empty, "an empty queue")
