"""Limits, locks, priorities and queues, through pools and workers."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest

from arqestra import (
    ArgumentsError,
    ConcurrencyLimit,
    Debounce,
    JobStatus,
    Pool,
    RateLimit,
    SettingsError,
    Unique,
    Worker,
    job,
)
from tests.support.pools import serializers, url_of
from tests.support.redis_clock import until_too_late
from tests.support.replies import reply_of
from tests.support.wait import wait_until
from tests.support.workers import worker_running

STARTS: list[tuple[str, float]] = []
RUNNING: dict[str, int] = {}
PEAK: dict[str, int] = {}


@contextlib.contextmanager
def counted(what: str) -> Any:
    STARTS.append((what, time.monotonic()))
    RUNNING[what] = RUNNING.get(what, 0) + 1
    PEAK[what] = max(PEAK.get(what, 0), RUNNING[what])
    try:
        yield
    finally:
        RUNNING[what] -= 1


@job(rate_limit=RateLimit("20/s", burst=2))
async def rated(ctx: Any, number: int) -> int:
    with counted("rated"):
        return number


@job(concurrency=ConcurrencyLimit(2, key=lambda tenant, **_: tenant))
async def per_tenant(ctx: Any, tenant: str, *, hold_s: float = 0.02) -> str:
    with counted(tenant):
        await asyncio.sleep(hold_s)
    return tenant


@job
async def free(ctx: Any, name: str) -> str:
    with counted(name):
        return name


@job(unique=Unique(key=lambda user: user, on_conflict="return"))
async def once(ctx: Any, user: int) -> int:
    with counted("once"):
        await ctx["let_go"].wait()
    return user


@job(debounce=Debounce(0.3))
async def settled(ctx: Any, value: int) -> int:
    with counted("settled"):
        return value


@job(rate_limit="1/h")
async def hourly(ctx: Any, what: str) -> str:
    with counted("hourly"):
        return what


@job(rate_limit=RateLimit("1/h", name="hourly"))
async def unknown_to_workers(ctx: Any) -> None: ...


@job(unique=Unique(key=lambda number: "all", until="started"))
async def until_started(ctx: Any, number: int) -> int:
    return number


ALL = [rated, per_tenant, free, once, settled, hourly, until_started]


@pytest.fixture(autouse=True)
def fresh() -> None:
    STARTS.clear()
    RUNNING.clear()
    PEAK.clear()


serializer = serializers("msgpack")


def working(pool: Pool, **settings: Any) -> AbstractAsyncContextManager[Worker]:
    settings = {"functions": ALL, "ctx": {"let_go": asyncio.Event()}, "max_jobs": 20, **settings}
    return worker_running(pool, **settings)


@pytest.mark.parametrize("by_name", [False, True])
async def test_a_rate_holds_over_several_workers_however_the_jobs_were_enqueued(pool: Pool, by_name: bool) -> None:
    async with working(pool), working(pool):
        enqueue = [pool.enqueue_job("rated", n) if by_name else pool.enqueue(rated, n) for n in range(20)]
        jobs = [job for job in await asyncio.gather(*enqueue) if job is not None]
        assert sorted(await asyncio.gather(*(job.result(timeout=20) for job in jobs))) == list(range(20))
        infos = [await job.result_info() for job in jobs]

    assert [info.job_try for info in infos if info is not None] == [1] * 20
    starts = [at for _, at in STARTS]
    assert starts[-1] - starts[0] >= 0.85  # 18 intervals of 50 ms after a burst of 2
    assert all(sum(at <= other < at + 0.5 for other in starts) <= 10 + 2 for at in starts)


@pytest.mark.parametrize("by_name", [False, True])
async def test_a_cap_by_tenant_holds_over_several_workers(pool: Pool, by_name: bool) -> None:
    async with working(pool), working(pool):
        tenants = ["a"] * 20 + ["b"] * 5
        enqueue = [pool.enqueue_job("per_tenant", t) if by_name else pool.enqueue(per_tenant, t) for t in tenants]
        jobs = [job for job in await asyncio.gather(*enqueue) if job is not None]
        await asyncio.gather(*(job.result(timeout=20) for job in jobs))

    assert PEAK == {"a": 2, "b": 2}
    assert max(i for i, (what, _) in enumerate(STARTS) if what == "b") < len(STARTS) - 5


async def test_the_concurrency_of_a_whole_queue(pool: Pool) -> None:
    settings: dict[str, Any] = {"queue_concurrency": {"arq:queue": 3}}
    async with working(pool, **settings), working(pool, **settings):
        jobs = [await pool.enqueue(per_tenant, f"t{n}") for n in range(12)]
        await asyncio.gather(*(job.result(timeout=20) for job in jobs if job))

    running = 0
    for start, end in [(at, at + 0.02) for _, at in STARTS]:
        running = max(running, sum(start <= at < end for _, at in STARTS))
    assert running <= 3


async def test_a_job_that_its_first_claim_sends_back_for_the_limit_of_the_queue_starts_with_the_next(
    pool: Pool,
) -> None:
    job = await pool.enqueue(hourly, "once")
    assert job is not None
    async with working(pool, queue_concurrency={"arq:queue": 3}):
        assert await job.result(timeout=10) == "once"


@pytest.mark.parametrize("why", ["expired", "unknown function", "undecodable", "tries exceeded"])
async def test_jobs_that_never_start_take_nothing_of_a_rate(pool: Pool, why: str) -> None:
    keys = pool.store.keys
    for _ in range(3):
        if why == "unknown function":
            job: Any = await pool.enqueue(unknown_to_workers)
        else:
            job = await pool.enqueue(hourly.options(expires=0.01 if why == "expired" else None), why)
        if why == "expired":
            await until_too_late(pool, job)
        elif why == "undecodable":
            await pool.set(keys.job(job.job_id), b"nonsense")
        elif why == "tries exceeded":
            await pool.set(keys.attempts(job.job_id), 99)
    fresh = await pool.enqueue(hourly, "fresh")
    assert fresh is not None

    async with working(pool):
        assert await fresh.result(timeout=10) == "fresh"


async def test_a_key_function_that_fails_fails_in_the_producer_and_as_a_result(pool: Pool) -> None:
    @job(name="free", rate_limit=RateLimit("1/s", key=lambda nothing: nothing.missing))
    async def broken(ctx: Any, name: str) -> None: ...

    with pytest.raises(ArgumentsError, match="rate limit of free: its key function failed: AttributeError"):
        await pool.enqueue(broken, "x")
    assert await pool.queue().depth() == 0


@pytest.mark.parametrize("calls_alike", [1, 2])
async def test_a_key_function_that_gives_another_value_each_time_fails_its_job_and_harms_no_other(
    pool: Pool, calls_alike: int
) -> None:
    """Also if only the next worker that takes the job sees the difference."""
    calls = itertools.count(1)

    @job(name="unstable", concurrency=ConcurrencyLimit(3, key=lambda: next(calls) // calls_alike))
    async def unstable(ctx: Any) -> None: ...

    failing = await pool.enqueue(unstable)
    assert failing is not None
    async with working(pool, functions=[*ALL, unstable]):
        with pytest.raises(SettingsError, match="limits of unstable: expected key functions that give the same"):
            await failing.result(timeout=10)
        other = await pool.enqueue(free, "other")
        assert other is not None
        assert await other.result(timeout=10) == "other"

    held = [key async for key in pool.scan_iter("arqestra:*") if b"lane" in key or b"specs" in key or b"hold" in key]
    assert held == []


async def test_one_job_of_a_hundred_and_its_handle_for_all(pool: Pool) -> None:
    jobs = await asyncio.gather(*(pool.enqueue(once, 7) for _ in range(100)))
    async with working(pool) as worker:
        worker.ctx["let_go"].set()
        assert {await job.result(timeout=10) for job in jobs if job} == {7}

    assert len({job.job_id for job in jobs if job}) == 1
    assert len(STARTS) == 1


@pytest.mark.parametrize("many", [False, True])
async def test_the_handle_of_a_job_that_stands_for_another_is_of_its_own_queue(pool: Pool, many: bool) -> None:
    first = await pool.enqueue(once.options(queue="low"), 1)
    high = once.options(queue="high")
    assert first is not None
    second = (await pool.enqueue_many([high.bind(1)]))[0] if many else await pool.enqueue(high, 1)
    assert second is not None

    assert second.job_id == first.job_id
    assert await second.status() is JobStatus.queued
    assert await second.delete()
    assert [key async for key in pool.scan_iter()] == []


async def test_a_lock_until_the_start_is_kept_while_the_job_waits_for_the_limit_of_the_queue(pool: Pool) -> None:
    async with working(pool, queue_concurrency={"arq:queue": 1}) as worker:
        blocking = await pool.enqueue(once, 1)
        await wait_until(lambda: _started(1), "the job that fills the queue runs")
        waiting = await pool.enqueue(until_started, 1)
        assert waiting is not None
        keys = pool.store.keys

        async def knows_its_limit() -> bool:
            return b"q:arq:queue" in (await reply_of(pool.hget(keys.specs("arq:queue"), waiting.job_id)) or b"")

        await wait_until(knows_its_limit, "the worker has sent the job back with the limit of the queue")
        assert await pool.enqueue(until_started, 2) is None
        worker.ctx["let_go"].set()
        assert blocking is not None
        await blocking.result(timeout=10)
        assert await waiting.result(timeout=10) == 1


async def test_a_debounce_runs_once_with_the_last_arguments(pool: Pool) -> None:
    async with working(pool):
        jobs = [await pool.enqueue(settled, value) for value in range(5)]
        assert jobs[-1] is not None
        assert await jobs[-1].result(timeout=10) == 4

    assert len(STARTS) == 1


async def test_urgent_jobs_come_before_a_backlog(pool: Pool) -> None:
    await pool.enqueue_many([free.bind(f"plain{n}") for n in range(200)])
    last = await pool.enqueue(free.options(priority=9), "urgent")
    assert last is not None
    async with working(pool, max_jobs=1):
        await last.result(timeout=10)

    assert STARTS[0][0] == "urgent"


async def test_a_critical_job_starts_before_any_low_job_that_was_not_claimed(pool: Pool) -> None:
    await pool.enqueue_many([free.options(queue="low").bind(f"low{n}") for n in range(10_000)])
    async with working(pool, queues=["critical", "low"], max_jobs=10):
        await wait_until(lambda: _started(50), "the backlog is being worked on")
        job = await pool.enqueue(free.options(queue="critical"), "critical")
        claimed = len(STARTS)
        assert job is not None
        await job.result(timeout=10)

    place = next(i for i, (what, _) in enumerate(STARTS) if what == "critical")
    assert place <= claimed + 3 * 10  # a turn that was under way, and its followers in the pipeline


@pytest.mark.parametrize("waiting", ["nothing", "a full limit", "a paused queue"])
async def test_a_burst_does_not_ask_all_the_time_while_a_job_runs(pool: Pool, waiting: str) -> None:
    turns: list[int] = []

    @job(queue="other", concurrency=1)
    async def long(ctx: Any) -> None:
        turns.append(worker.sync.round_trips)
        await asyncio.sleep(0.4)
        turns.append(worker.sync.round_trips)

    await pool.enqueue(long)
    if waiting == "a full limit":
        await pool.enqueue_many([long.bind() for _ in range(2)])
    elif waiting == "a paused queue":
        await pool.queue().pause()
        await pool.enqueue(hourly, "held")
    worker = Worker(
        [long, hourly],
        redis_settings=url_of(pool),
        serializer="msgpack",
        handle_signals=False,
        queues=["arq:queue", "other"],
        burst=True,
        poll_delay=0.1,
    )
    await worker.async_run()
    await worker.close()

    assert worker.jobs_complete == (3 if waiting == "a full limit" else 1)
    assert turns[1] - turns[0] <= 10


async def test_a_job_in_a_paused_queue_is_aborted_at_once(pool: Pool) -> None:
    async with working(pool, poll_delay=30, allow_abort_jobs=True) as worker:
        keys = pool.store.keys
        await pool.queue().pause()
        job = await pool.enqueue(free, "never runs")

        async def rests() -> bool:
            return await pool.zscore(keys.resting("arq:queue"), worker.worker_id) is not None

        await wait_until(rests, "the worker rests while the queue is paused")
        assert job is not None
        assert await job.abort(timeout=10)

    assert STARTS == []


async def _started(count: int) -> bool:
    return len(STARTS) >= count


async def test_weights_share_the_slots(pool: Pool) -> None:
    weights = {"a": 6, "b": 3, "c": 1}
    for queue in weights:
        await pool.enqueue_many([free.options(queue=queue).bind(queue) for _ in range(4_000)])
    async with working(pool, queues=weights, max_jobs=10):
        await wait_until(lambda: _started(3_000), "3,000 jobs have started")

    first = [what for what, _ in STARTS[:3_000]]
    for queue, weight in weights.items():
        assert first.count(queue) == pytest.approx(300 * weight, rel=0.1)


async def test_a_queue_takes_no_more_slots_than_it_may_and_goes_on_when_one_is_free(pool: Pool) -> None:
    slow = per_tenant.options(queue="slow")
    jobs = [await pool.enqueue(slow, f"t{n}", hold_s=0.05) for n in range(6)]
    async with working(pool, queues=["slow", "fast"], queue_slots={"slow": 2}, poll_delay=30):
        await asyncio.gather(*(job.result(timeout=10) for job in jobs if job))

    for at in (at for _, at in STARTS):
        assert sum(at <= other < at + 0.045 for _, other in STARTS) <= 2


async def test_pause_resume_and_purge_of_a_queue_with_waiting_workers(pool: Pool) -> None:
    queue = pool.queue()
    async with working(pool, poll_delay=30), working(pool, poll_delay=30):
        assert await queue.pause()
        assert not await queue.pause()
        assert await queue.is_paused()
        kept = await pool.enqueue(free, "kept")
        assert kept is not None
        with pytest.raises(TimeoutError):
            await kept.result(timeout=0.3)
        assert await queue.resume()
        assert await kept.result(timeout=5) == "kept"
        await queue.pause()
        await pool.enqueue_many([free.bind("purged") for _ in range(500)])
        assert await queue.purge() == 500
        await queue.resume()
        job = await pool.enqueue(free, "after")
        assert job is not None
        assert await job.result(timeout=5) == "after"

    assert [what for what, _ in STARTS] == ["kept", "after"]
