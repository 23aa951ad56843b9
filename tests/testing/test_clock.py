"""Moving the time: what sees it, and what does not."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest

from arqestra import Pool, SettingsError, create_pool, func, schedule
from arqestra.jobs import JobStatus
from arqestra.testing import Clock, TestWorker, drain, travelling
from tests.support.wait import wait_until
from tests.testing import jobs

MakeWorker = Callable[..., TestWorker]


def test_the_time_goes_forward_and_back_at_the_end() -> None:
    real = datetime.now(UTC)
    with travelling() as clock:
        clock.travel(days=1, hours=2, minutes=3, seconds=4)
        assert clock.now() - real > timedelta(days=1, hours=2, minutes=3, seconds=3)
        with travelling() as inner:
            inner.travel(weeks=1)
        assert clock.now() - real < timedelta(days=2)
        clock.travel(to=real + timedelta(days=30))
        assert clock.now() - real < timedelta(days=30, minutes=1)
    with travelling() as clock:
        assert clock.now() - real < timedelta(hours=1)


async def test_travel_may_be_awaited(arqestra_clock: Clock) -> None:
    begin = arqestra_clock.now()
    await arqestra_clock.travel(hours=1)
    assert arqestra_clock.now() - begin >= timedelta(hours=1)


@pytest.mark.parametrize(
    "how",
    [
        {"seconds": -1},
        {"to": datetime(2020, 1, 1, tzinfo=UTC)},
        {"to": datetime(2100, 1, 1)},
        {"to": datetime(2100, 1, 1, tzinfo=UTC), "days": 1},
        {"to": "2100-01-01"},
        {"days": "2"},
        {"weeks": 10**7},
        {"weeks": 10**12},
    ],
    ids=str,
)
def test_what_is_no_way_forward(how: dict[str, Any]) -> None:
    with travelling() as clock, pytest.raises(SettingsError, match=r"^travel: expected .*, got "):
        clock.travel(**how)


async def test_a_running_worker_starts_what_has_become_due(
    arqestra_pool: Pool, arqestra_clock: Clock, arqestra_worker: MakeWorker
) -> None:
    async with arqestra_worker([jobs.add, jobs.retries], poll_delay=60).running():
        later = await arqestra_pool.enqueue_job("add", 1, _defer_by=7200)
        retried = await arqestra_pool.enqueue_job("retries")
        assert later is not None
        assert retried is not None
        await wait_until(lambda: _is_deferred(retried))
        arqestra_clock.travel(minutes=30)
        await asyncio.sleep(0.05)
        assert await later.status() == JobStatus.deferred
        arqestra_clock.travel(hours=3)
        assert await later.result(timeout=10) == 1
        assert await retried.result(timeout=10) == "done"


def _has_run(worker: TestWorker, jobs: int) -> bool:
    return worker.jobs_complete == jobs


async def _is_deferred(job: Any) -> bool:
    return bool(await job.status() == JobStatus.deferred)


async def test_a_job_that_runs_meanwhile_keeps_its_lease(
    arqestra_pool: Pool, arqestra_clock: Clock, arqestra_worker: MakeWorker
) -> None:
    runs, goes_on = list[int](), asyncio.Event()

    async def waits(ctx: dict[Any, Any]) -> str:
        runs.append(ctx["job_try"])
        await goes_on.wait()
        return "done"

    functions = [func(waits, name="waits")]
    handle = await arqestra_pool.enqueue_job("waits")
    assert handle is not None
    async with arqestra_worker(functions).running(), arqestra_worker(functions).running():
        await wait_until(lambda: runs)
        for _ in range(5):
            arqestra_clock.travel(days=1)
            await asyncio.sleep(0.05)
        goes_on.set()
        assert await handle.result(timeout=10) == "done"
    assert runs == [1]


async def test_what_is_kept_for_a_while_expires(arqestra_pool: Pool, arqestra_clock: Clock) -> None:
    handle = await arqestra_pool.enqueue_job("add", 1, _job_id="daily")
    assert handle is not None
    await drain(arqestra_pool, [jobs.add])
    assert await arqestra_pool.enqueue_job("add", 1, _job_id="daily") is None
    arqestra_clock.travel(minutes=59)
    assert await arqestra_pool.enqueue_job("add", 1, _job_id="daily") is None
    arqestra_clock.travel(minutes=2)
    assert await arqestra_pool.enqueue_job("add", 1, _job_id="daily") is not None


async def test_a_lock_for_an_hour_ends_after_an_hour(arqestra_pool: Pool, arqestra_clock: Clock) -> None:
    assert await arqestra_pool.enqueue(jobs.once, 1) is not None
    await drain(arqestra_pool, [jobs.once])
    assert await arqestra_pool.enqueue(jobs.once, 1) is None
    arqestra_clock.travel(hours=1, seconds=1)
    assert await arqestra_pool.enqueue(jobs.once, 1) is not None


async def test_a_job_that_waits_too_long_expires(arqestra_pool: Pool, arqestra_clock: Clock) -> None:
    await arqestra_pool.enqueue_job("add", 1, _expires=3600)
    arqestra_clock.travel(hours=2)
    assert (await drain(arqestra_pool, [jobs.add])).expired == 1


async def test_a_rate_limit(arqestra_pool: Pool, arqestra_clock: Clock, arqestra_worker: MakeWorker) -> None:
    await arqestra_pool.enqueue_many([jobs.once_an_hour.bind(number) for number in range(3)])
    async with arqestra_worker([jobs.once_an_hour]).running() as worker:
        for done in (1, 2, 3):
            await wait_until(partial(_has_run, worker, done))
            await asyncio.sleep(0.05)
            assert worker.jobs_complete == done
            arqestra_clock.travel(hours=1)


@pytest.mark.parametrize("parks", [False, True], ids=["in memory", "parked"])
async def test_a_workflow_that_waits(
    arqestra_pool: Pool, arqestra_clock: Clock, arqestra_worker: MakeWorker, parks: bool
) -> None:
    begin = arqestra_clock.now()
    made = arqestra_worker([jobs.week, jobs.add], keep_result=timedelta(days=30))
    made.workflows.park_at_once = parks
    async with made.running():
        handle = await arqestra_pool.enqueue(jobs.week)
        assert handle is not None

        async def ends_by_and_by() -> bool:
            if await handle.status() == JobStatus.complete:
                return True
            arqestra_clock.travel(hours=6)
            return False

        await wait_until(ends_by_and_by)
        assert await handle.result(timeout=10) == [1, 2, 3, 4, 5, 6, 7]
    assert arqestra_clock.now() - begin >= timedelta(days=7)


async def test_a_schedule(arqestra_pool: Pool, arqestra_clock: Clock, arqestra_worker: MakeWorker) -> None:
    settings = {"functions": [jobs.tick], "schedules": [schedule("0 * * * *", "tick")]}
    async with arqestra_worker(settings).running() as worker:
        await wait_until(lambda: arqestra_pool.schedules.list())
        for done in (1, 2, 3):
            arqestra_clock.travel(hours=1)
            await wait_until(partial(_has_run, worker, done))


async def test_a_pool_that_is_made_later_sees_it_too(arqestra_redis: str, arqestra_clock: Clock) -> None:
    arqestra_clock.travel(days=1)
    async with await create_pool(arqestra_redis) as pool:
        handle = await pool.enqueue_job("add", 1, _defer_by=60)
        assert handle is not None
        info = await handle.info()
        assert info is not None
        assert abs(info.enqueue_time - arqestra_clock.now()) < timedelta(minutes=1)
        assert await handle.status() == JobStatus.deferred
        arqestra_clock.travel(seconds=61)
        assert await handle.status() == JobStatus.queued
