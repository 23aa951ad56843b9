"""A worker that is told to take no more jobs leaves them to the others at once."""

from __future__ import annotations

import asyncio
import signal

import pytest

from arqestra import Pool, Worker
from arqestra.store.presence import steer_worker
from tests.integration.telling_worker import FUNCTIONS, double, tell, working
from tests.support.wait import wait_until


async def test_a_draining_worker_takes_no_jobs_until_it_is_told_to(pool: Pool, redis_url: str) -> None:
    gate = asyncio.Event()
    async with working(redis_url, ctx={"gate": gate}, max_jobs=2) as worker:
        running = await pool.enqueue(tell, until_gate=True)
        assert running is not None
        await wait_until(lambda: "tell" in [a.payload.function for a in worker.slots.running.values()], "a running job")
        assert await steer_worker(pool.store, worker.worker_id, "drain")

        async def is_draining() -> bool:
            return [each.presence.draining for each in await pool.workers()] == [True]

        await wait_until(is_draining, "that the worker says so")
        waiting = await pool.enqueue(double, 2)
        assert waiting is not None
        gate.set()
        await running.result(timeout=30)
        turns = worker.sync.round_trips
        await wait_until(lambda: worker.sync.round_trips > turns + 3, "looks at the queue")
        assert await waiting.status() == "queued"
        assert await pool.zcard(pool.store.keys.waiting("arq:queue")) == 0
        assert await steer_worker(pool.store, worker.worker_id, "resume")
        assert await waiting.result(timeout=30) == 4
    assert not await steer_worker(pool.store, worker.worker_id, "drain")


async def test_a_draining_worker_leaves_new_jobs_to_the_others_at_once(pool: Pool, redis_url: str) -> None:
    async with working(redis_url) as drained, working(redis_url) as other:
        assert await steer_worker(pool.store, drained.worker_id, "drain")
        await wait_until(lambda: drained.draining, "that it drains")
        made = [await pool.enqueue(double, number) for number in range(20)]
        for each in made:
            assert each is not None
            await each.result(timeout=30)
        assert drained.jobs_complete == 0
        assert other.jobs_complete == 20


async def two_that_wait(redis_url: str, pool: Pool) -> list[Worker]:
    """Two workers that look at the queue only when they are woken; the first is woken next."""
    workers = []
    for count in (1, 2):
        worker = Worker(FUNCTIONS, redis_settings=redis_url, handle_signals=False, poll_delay=30)
        workers.append(worker)
        worker.main_task = asyncio.create_task(worker.main())

        async def waits(count: int = count) -> bool:
            return bool(await pool.zcard(pool.store.keys.waiting("arq:queue")) == count)

        await wait_until(waits, "a worker that waits to be woken")
    return workers


async def test_a_wake_up_that_comes_with_the_order_to_drain_is_passed_on(pool: Pool, redis_url: str) -> None:
    drained, other = await two_that_wait(redis_url, pool)
    made, _ = await asyncio.gather(pool.enqueue(double, 2), steer_worker(pool.store, drained.worker_id, "drain"))
    assert made is not None
    assert await made.result(timeout=15, poll_delay=0.1) == 4
    assert (drained.jobs_complete, other.jobs_complete) == (0, 1)
    await asyncio.gather(drained.close(), other.close())


@pytest.mark.parametrize("wait", [0, 30])
async def test_a_wake_up_that_comes_with_the_order_to_stop_is_passed_on(pool: Pool, redis_url: str, wait: int) -> None:
    stopped, other = await two_that_wait(redis_url, pool)
    gate = asyncio.Event()
    stopped.ctx["gate"] = gate
    if wait:  # something that is to be completed first
        stopped.grant_completion_wait(wait)
        running = await pool.enqueue(tell, until_gate=True)
        assert running is not None
        await wait_until(lambda: bool(stopped.slots.running), "a running job")
        await asyncio.sleep(0)

        async def both_wait() -> bool:
            return bool(await pool.zcard(pool.store.keys.waiting("arq:queue")) == 2)

        await wait_until(both_wait, "that both wait")
        await pool.zadd(pool.store.keys.waiting("arq:queue"), {stopped.worker_id: 1})
    # It is woken, and does not act on it: as if the message had come when it had just stopped to listen.
    stopped.sync.claim_soon = lambda: None  # type: ignore[method-assign]
    stopped.sync.accept = lambda delivery: None  # type: ignore[method-assign]
    made = await pool.enqueue(double, 2)
    assert made is not None
    stopped.handle_sig_wait_for_completion(signal.SIGTERM) if wait else stopped.handle_sig(signal.SIGTERM)
    assert await made.result(timeout=15, poll_delay=0.1) == 4
    assert other.jobs_complete == 1
    gate.set()
    await asyncio.gather(stopped.close(), other.close())
