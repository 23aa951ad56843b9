"""`SyncPool`: what code without asyncio enqueues, waits for and reads; in threads, and beside running event loops."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import pickle
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any, ClassVar

import pytest
import redis
from arq.jobs import JobStatus, ResultNotFound
from redis.exceptions import ConnectionError as RedisConnectionError

from arqestra import (
    ArgumentsError,
    EnqueuedCall,
    JobCancelled,
    JobContext,
    Middleware,
    Pool,
    RedisSettings,
    RemoteTraceback,
    SettingsError,
    SyncPool,
    chord,
    every,
    job,
    schedule,
)
from arqestra.store.link import CALL_LIMIT_S
from tests.support.ports import HOST, free_port
from tests.support.redis_process import redis_process
from tests.support.wait import block_until
from tests.support.workers import worker_running

THREADS, JOBS = 20, 50


@job
async def add(ctx: JobContext, one: int, other: int) -> int:
    ctx.progress(1, 1, "added")
    return one + other


@job
async def total(ctx: JobContext, numbers: list[int]) -> int:
    return sum(numbers)


@job(max_tries=1)
async def fail(ctx: JobContext) -> None:
    raise ValueError("no good")


@job
async def sleep(ctx: JobContext) -> None:
    await asyncio.Event().wait()


FUNCTIONS = (add, total, fail, sleep)


@pytest.fixture
def sync_pool(redis_url: str) -> Iterator[SyncPool]:
    with SyncPool(redis_url) as pool:
        yield pool


@asynccontextmanager
async def working(pool: Pool) -> AsyncIterator[None]:
    async with worker_running(pool, functions=FUNCTIONS, allow_abort_jobs=True):
        yield


def connections(url: str) -> int:
    with redis.Redis.from_url(url) as client:
        return len(client.client_list()) - 1


# -- calls ------------------------------------------------------------------------------------------------------------


async def test_each_way_to_enqueue_gives_handles_that_wait_for_results(pool: Pool, sync_pool: SyncPool) -> None:
    def use() -> None:
        one = sync_pool.enqueue(add, 1, 2)
        assert one is not None
        assert one.result(timeout=30) == 3
        assert one.status() is JobStatus.complete
        info = one.result_info()
        assert info is not None
        assert (info.function, info.result) == ("add", 3)
        named = sync_pool.enqueue_job("add", 3, other=4, _job_id="chosen", _priority=3)
        assert named is not None
        assert named.result(30) == 7
        assert sync_pool.enqueue_job("add", 3, 4, _job_id="chosen") is None
        assert sync_pool.job("chosen").result() == 7
        many = sync_pool.enqueue_many([add.bind(1, number) for number in range(5)])
        assert [each.result(timeout=30) for each in many if each is not None] == [1, 2, 3, 4, 5]
        flow = sync_pool.enqueue_flow(chord([add.s(1, 1), add.s(2, 2)], total.s()))
        assert flow.result(timeout=30) == 6
        assert flow.wait(timeout=30) == "complete"
        assert sync_pool.flow(flow.flow_id).progress().done == 3

    async with working(pool):
        await asyncio.to_thread(use)


async def test_queues_schedules_and_views_are_read_and_changed(pool: Pool, sync_pool: SyncPool) -> None:
    def use() -> None:
        queue = sync_pool.queue()
        assert (queue.pause(), queue.is_paused(), queue.resume()) == (True, True, True)
        sync_pool.schedules.upsert(schedule(every("1h"), add, args=(1, 2), name="hourly"))
        assert [info.name for info in sync_pool.schedules.list()] == ["hourly"]
        assert sync_pool.schedules.run_now("hourly").result(timeout=30) == 3
        assert sync_pool.schedules.remove("hourly")
        block_until(lambda: sync_pool.recent(function="add"), "the job to be listed")
        assert len(sync_pool.workers()) == 1
        assert sync_pool.statistics()[0]["function"] == "add"

    async with working(pool):
        await asyncio.to_thread(use)


async def test_progress_and_events_are_iterated(pool: Pool, sync_pool: SyncPool) -> None:
    def watch() -> list[str]:
        started = sync_pool.enqueue(add, 1, 2)
        assert started is not None
        return [progress.message for progress in started.watch()]

    def hear() -> str:
        for event in sync_pool.events():
            if event.job_id == "heard":
                return event.kind
        raise AssertionError("the events ended")

    async with working(pool):
        assert await asyncio.to_thread(watch) == ["added"]
        hearing = asyncio.ensure_future(asyncio.to_thread(hear))
        while not hearing.done():
            await pool.enqueue_job("add", 1, 2, _job_id="heard")
            await asyncio.sleep(0.05)
            await pool.job("heard").result()
            await pool.job("heard").delete()
        assert await hearing


# -- errors -----------------------------------------------------------------------------------------------------------


async def test_what_a_job_raises_is_raised_here(pool: Pool, sync_pool: SyncPool) -> None:
    def use() -> None:
        failed, waits = sync_pool.enqueue(fail), sync_pool.enqueue(sleep)
        assert failed is not None
        assert waits is not None
        with pytest.raises(ValueError, match="no good") as raised:
            failed.result(timeout=30)
        assert isinstance(raised.value.__cause__, RemoteTraceback)
        with pytest.raises(TimeoutError, match="has not ended within"):
            waits.result(timeout=0.05)
        assert waits.abort(timeout=30) is True
        with pytest.raises(JobCancelled, match="aborted"):
            waits.result(timeout=30)
        with pytest.raises(ResultNotFound):
            sync_pool.job("unknown").result()
        assert failed.errors()[0].message == "no good"

    async with working(pool):
        await asyncio.to_thread(use)


def test_mistakes_are_raised_where_they_are_made(sync_pool: SyncPool) -> None:
    with pytest.raises(ArgumentsError, match="missing a required argument"):
        sync_pool.enqueue(add, 1)  # type: ignore[call-arg]
    with pytest.raises(ArgumentsError, match="expected a function made by @job"):
        sync_pool.enqueue("add")  # type: ignore[arg-type]
    with pytest.raises(SettingsError, match="SyncPool: serializer"):
        SyncPool(serializer="xml")
    with pytest.raises(SettingsError, match="SyncPool: expected a URL"):
        SyncPool("localhost")


def test_a_redis_that_is_away_is_an_error_and_the_next_call_tries_again(tmp_path: Any) -> None:
    port = free_port()
    with SyncPool(RedisSettings(HOST, port, conn_retries=0)) as pool:
        with pytest.raises(RedisConnectionError):
            pool.enqueue_job("noted")
        with redis_process(tmp_path / "server", port):
            assert pool.enqueue_job("noted") is not None


# -- threads ----------------------------------------------------------------------------------------------------------


def test_threads_share_a_connection_and_round_trips(sync_pool: SyncPool, redis_url: str) -> None:
    begun = threading.Barrier(THREADS)
    with redis.Redis.from_url(redis_url) as client:
        client.config_resetstat()

    def enqueue(who: int) -> list[str]:
        begun.wait()
        jobs = [sync_pool.enqueue_job("noted", who, number) for number in range(JOBS)]
        return [each.job_id for each in jobs if each is not None]

    with ThreadPoolExecutor(THREADS) as executor:
        ids = [job_id for found in executor.map(enqueue, range(THREADS)) for job_id in found]

    assert len(set(ids)) == THREADS * JOBS == sync_pool.queue().depth()
    assert connections(redis_url) <= 2
    with redis.Redis.from_url(redis_url) as client:
        calls: Any = client.info("commandstats")
    assert calls["cmdstat_fcall"]["calls"] < THREADS * JOBS


class Lazy:
    """Knows in which threads it was written."""

    threads: ClassVar[set[int]] = set()

    def __reduce__(self) -> tuple[type, tuple[()]]:
        self.threads.add(threading.get_ident())
        return Lazy, ()


def test_arguments_are_read_and_written_in_the_thread_of_the_caller(sync_pool: SyncPool) -> None:
    """They may depend on it: a lazy object of Django asks the database connection of its thread."""

    def jobs() -> Iterator[tuple[str, tuple[Lazy]]]:
        Lazy.threads.add(threading.get_ident())
        yield "noted", (Lazy(),)

    sync_pool.enqueue_job("noted", Lazy())
    sync_pool.enqueue_many(jobs())

    assert Lazy.threads == {threading.get_ident()}


caller: contextvars.ContextVar[str] = contextvars.ContextVar("caller", default="nobody")


def test_middleware_runs_in_the_context_of_the_caller(redis_url: str) -> None:
    class Headers(Middleware):
        @asynccontextmanager
        async def around_enqueue(self, call: EnqueuedCall) -> AsyncIterator[None]:
            call.headers["caller"] = caller.get()
            yield

    caller.set("view")
    with SyncPool(redis_url, middleware=[Headers()]) as pool:
        assert pool.enqueue_job("noted") is not None
        assert len(pool.enqueue_many([("noted",)] * 2)) == 2
    with redis.Redis.from_url(redis_url) as client:
        payloads = [pickle.loads(client.get(key)) for key in client.scan_iter("arq:job:*")]
    assert [payload["o"]["h"] for payload in payloads] == [{"caller": "view"}] * 3


def test_a_call_out_of_the_background_thread_is_refused_and_does_not_hang(redis_url: str) -> None:
    class Nested(Middleware):
        @asynccontextmanager
        async def around_enqueue(self, call: EnqueuedCall) -> AsyncIterator[None]:
            pool.enqueue_job("another")
            yield

    with SyncPool(redis_url, middleware=[Nested()]) as pool:
        with pytest.raises(RuntimeError, match="it would wait for itself"):
            pool.enqueue_job("noted")
        assert pool.queue().depth() == 0


def test_what_ends_other_loops_does_not_end_this_one(sync_pool: SyncPool, caplog: pytest.LogCaptureFixture) -> None:
    def leave() -> None:
        raise SystemExit(3)

    asyncio_loop = sync_pool._connection.open().loop._loop
    asyncio_loop.call_soon_threadsafe(leave)

    assert sync_pool.enqueue(add, 1, 2) is not None
    assert "an error in the event loop of arqestra, which goes on" in caplog.text


def test_greenlets_in_the_place_of_threads_are_refused(redis_url: str) -> None:
    """gevent's own module is asked; a process of its own, so that no loop has been started."""
    lines = (
        "import sys, types",
        "sys.modules['gevent.monkey'] = types.SimpleNamespace(is_module_patched=lambda name: name == 'threading')",
        "from arqestra import SyncPool",
        f"SyncPool({redis_url!r}).enqueue_job('noted')",
    )
    run = subprocess.run([sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True, check=False)

    assert "RuntimeError: SyncPool: expected threads of the system, gevent has replaced them" in run.stderr


# -- beside event loops -----------------------------------------------------------------------------------------------


async def test_it_can_be_called_in_the_thread_of_a_running_loop(sync_pool: SyncPool) -> None:
    """It holds that loop up meanwhile."""
    enqueued = sync_pool.enqueue(add, 1, 2)

    assert enqueued is not None
    assert enqueued.status() is JobStatus.queued


def test_it_outlives_loops_that_come_and_go(sync_pool: SyncPool) -> None:
    """As in a notebook: code runs within a loop, beside loops, and starts loops."""

    async def within() -> JobStatus:
        enqueued = sync_pool.enqueue(add, 1, 2)
        assert enqueued is not None
        return await asyncio.to_thread(enqueued.status)

    for _ in range(3):
        assert asyncio.run(within()) is JobStatus.queued
        assert sync_pool.enqueue(add, 1, 2) is not None


# -- the end ----------------------------------------------------------------------------------------------------------


def test_closing_ends_what_waits_and_a_later_call_connects_again(redis_url: str) -> None:
    pool = SyncPool(redis_url)
    waits = pool.enqueue(add, 1, 2)
    assert waits is not None
    with ThreadPoolExecutor() as executor:
        waiting = executor.submit(waits.result)
        block_until(lambda: connections(redis_url) >= 3, "the thread to listen")
        pool.close()
        with pytest.raises(RedisConnectionError, match="this SyncPool was closed"):
            waiting.result(timeout=30)
    block_until(lambda: connections(redis_url) == 0, "the connections to be closed")

    assert waits.status() is JobStatus.queued
    pool.close()
    pool.close()


def test_a_pool_that_is_dropped_closes_itself_and_says_so(redis_url: str) -> None:
    gc.collect()
    gc.disable()
    try:
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            pool = SyncPool(redis_url)
            kept = pool.enqueue(add, 1, 2)
            del pool
            assert not said  # the handle has it still
            del kept
        block_until(lambda: connections(redis_url) == 0, "the connections to be closed")
    finally:
        gc.enable()

    assert [str(each.message) for each in said] == ["a SyncPool was dropped without `pool.close()`"]
    assert said[0].category is ResourceWarning


def test_a_pool_that_was_closed_or_never_used_warns_of_nothing(redis_url: str) -> None:
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        with SyncPool(redis_url) as pool:
            pool.enqueue(add, 1, 2)
        del pool
        SyncPool(redis_url)

    assert not said


def test_an_enqueue_has_a_limit(tmp_path: Any) -> None:
    port = free_port()
    with SyncPool(f"redis://{HOST}:{port}") as pool:
        with redis_process(tmp_path / "server", port):
            pool.enqueue(add, 1, 2)
        began = time.monotonic()
        with pytest.raises(RedisConnectionError):
            pool.enqueue(add, 3, 4)
        assert time.monotonic() - began < CALL_LIMIT_S
        with redis_process(tmp_path / "another", port):
            assert pool.enqueue(add, 5, 6) is not None
