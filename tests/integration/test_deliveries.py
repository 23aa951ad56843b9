"""A real worker that is sent jobs with its wake-ups."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from arqestra import Pool, Worker, func
from tests.support.wait import wait_until
from tests.support.workers import until_looked, worker_running


async def double(ctx: dict[Any, Any], number: int) -> int:
    return 2 * number


async def slow(ctx: dict[Any, Any]) -> None:
    await asyncio.sleep(0.2)


def taken_by(worker: Worker) -> int:
    """Number of the latest offer on which it has taken in a job."""
    assert worker.redis_session is not None
    return worker.redis_session.claims.last_used_offer


@asynccontextmanager
async def working(redis_url: str, **settings: Any) -> AsyncIterator[Worker]:
    """A worker in this loop that makes offers, as it does in a loop of its own; it has made one."""
    functions = [double, slow, func(double, name="forgotten", keep_result=0)]
    async with worker_running(redis_url, functions=functions, **settings) as worker:
        worker._has_own_loop = True  # private: only `run()` sets it, which makes a loop of its own
        await until_looked(worker)
        yield worker


async def test_each_of_many_jobs_is_sent_and_needs_no_poll(pool: Pool, redis_url: str) -> None:
    async with working(redis_url, poll_delay=5) as worker:
        taken = set()
        for number in range(20):
            job = await pool.enqueue_job("double", number)
            assert job is not None
            assert await job.result(timeout=30, poll_delay=5) == 2 * number
            await wait_until(lambda: worker.sync.idle, "an idle worker")
            taken.add(taken_by(worker))
    assert len(taken) == 20


async def test_a_worker_offers_itself_when_a_job_that_took_its_time_has_ended(pool: Pool, redis_url: str) -> None:
    async with working(redis_url, poll_delay=30) as worker:
        for name in ("slow", "slow", "slow"):
            before = taken_by(worker)
            job = await pool.enqueue_job(name)
            assert job is not None
            await job.result(timeout=30, poll_delay=5)
            await wait_until(lambda: worker.sync.idle, "an idle worker")
            assert taken_by(worker) > before


async def test_it_never_holds_more_jobs_than_slots(pool: Pool, redis_url: str) -> None:
    most = 0
    async with working(redis_url, max_jobs=1) as worker:
        jobs = [await pool.enqueue_job("slow") for _ in range(6)]
        waiting = asyncio.gather(*(job.result(timeout=30) for job in jobs if job is not None))
        while not waiting.done():
            most = max(most, len(worker.slots.running))
            await asyncio.sleep(0.005)
        await waiting
    assert most == 1


async def test_the_next_life_of_an_id_starts_when_the_end_of_the_last_one_is_known(
    pool: Pool, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else that end would be counted nowhere."""
    async with working(redis_url) as worker:
        turn, held, answered = worker.store.turn, asyncio.Event(), asyncio.Event()

        async def answer_late(endings: Any, request: Any, **settings: Any) -> Any:
            reply = await turn(endings, request, **settings)
            if endings and not held.is_set():
                held.set()
                await answered.wait()
            return reply

        monkeypatch.setattr(worker.store, "turn", answer_late)
        assert await pool.enqueue_job("forgotten", 1, _job_id="twice") is not None
        await asyncio.wait_for(held.wait(), 30)
        assert await pool.enqueue_job("forgotten", 2, _job_id="twice") is not None
        offer = pool.store.keys.offer(worker.worker_id)

        async def is_sent() -> bool:
            return b" " in (await pool.get(offer) or b"")

        await wait_until(is_sent, "a job that was sent")
        # Messages come in order: when this one has come, so has the job.
        order: asyncio.Event = asyncio.Event()
        monkeypatch.setattr(worker, "steer", lambda **_: order.set())
        await pool.publish(pool.store.keys.worker_channel(worker.worker_id), "resume")
        await asyncio.wait_for(order.wait(), 30)
        answered.set()
        await wait_until(lambda: worker.jobs_complete == 2, "two jobs")
        await wait_until(lambda: worker.sync.idle, "an idle worker")
        counted = worker.reporter.counters.totals()
    assert worker.slots.leases == {}
    assert [number for field, number in counted.items() if field.endswith("|complete")] == [2], counted


async def test_a_worker_in_an_applications_loop_makes_no_offer(pool: Pool, redis_url: str) -> None:
    worker = Worker([double], redis_settings=redis_url, handle_signals=False)
    running = asyncio.create_task(worker.async_run())
    await until_looked(worker)
    assert await pool.exists(pool.store.keys.offer(worker.worker_id)) == 0
    job = await pool.enqueue_job("double", 1)
    assert job is not None
    assert await job.result(timeout=30) == 2
    assert taken_by(worker) == 0
    await worker.close()
    await asyncio.gather(running, return_exceptions=True)
