"""Rolling deploys: a worker of the old code gives back what only the new code knows."""

from __future__ import annotations

import asyncio
import logging
import sys
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest
from arq.connections import ArqRedis

from arqestra import Job, JobExecutionFailed, Pool, Worker, cron, every, func, job, schedule
from tests.integration import unknown_arguments
from tests.support.pools import url_of
from tests.support.wait import wait_until
from tests.support.workers import worker_running


@job
async def known(ctx: dict[Any, Any]) -> str:
    return "known"


@job
async def fresh(ctx: dict[Any, Any], *arguments: Any) -> int:
    """A function of the new code."""
    return int(ctx["job_try"])


def working(pool: Pool, *functions: Any, **settings: Any) -> AbstractAsyncContextManager[Worker]:
    return worker_running(pool, functions=functions, **settings)


async def until_given_back(pool: Pool, *job_ids: str) -> None:
    async def is_given_back() -> bool:
        for job_id in job_ids:
            noted = await pool.exists(pool.store.keys.unknown(job_id))
            if not noted or await pool.exists(pool.store.keys.lease(job_id)):
                return False
        return True

    await wait_until(is_given_back, f"{job_ids} were given back")


async def test_an_old_worker_gives_back_what_a_new_one_knows(
    pool: Pool, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Plain jobs, nodes of flows, chunks of calls, jobs of schedules, pickled arguments of a class of the new code."""
    plain = await pool.enqueue_job("fresh")
    parcel = await pool.enqueue_job("fresh", unknown_arguments.Parcel())
    flow = await pool.enqueue_flow(known.s() | fresh.s())
    chunks = await pool.enqueue_flow(fresh.chunks([(1,), (2,)], 2))
    assert plain is not None
    assert parcel is not None
    await pool.schedules.upsert(schedule(every(3600), fresh, name="hourly"))
    ticked = await pool.schedules.run_now("hourly")
    with monkeypatch.context() as old:
        old.setitem(sys.modules, unknown_arguments.__name__, None)
        async with working(pool, known) as worker:
            await until_given_back(pool, plain.job_id, parcel.job_id, ticked.job_id)
            assert worker.jobs_failed == 0
    assert await pool.get(pool.store.keys.attempts(plain.job_id)) is None

    async with working(pool, known, fresh):
        assert await plain.result(timeout=10) == 1
        assert await parcel.result(timeout=10) == 1
        assert await ticked.result(timeout=10) == 1
        assert await flow.result(timeout=10) == 1
        assert await chunks.result(timeout=10) == [[1, 1]]
    assert f"job {plain.job_id}, function 'fresh' not found; given back to other workers for 1.0 s" in caplog.text
    assert await pool.queue().dead_count() == 0


async def test_a_job_that_nobody_knows_ends_in_the_dead_set(pool: Pool) -> None:
    done = await pool.enqueue_job("missing", _job_id="nobody's")
    assert done is not None
    async with working(pool, known, unknown_functions=0.2):
        with pytest.raises(JobExecutionFailed) as raised:
            await done.result(timeout=10)
    assert str(raised.value).startswith("function 'missing' not found: it was given back 1 times in ")
    assert str(raised.value).endswith("and no worker of the queue knew it")
    assert [each.job_id for each in await pool.queue().dead()] == ["nobody's"]
    assert 0 < await pool.pttl(pool.store.keys.unknown("nobody's")) < 700_000


async def test_it_fails_at_once_as_in_arq_if_that_is_asked_for(pool: Pool) -> None:
    done = await pool.enqueue_job("missing")
    chunks = await pool.enqueue_flow(fresh.chunks([()], 1))
    assert done is not None
    async with working(pool, known, unknown_functions="fail"):
        with pytest.raises(JobExecutionFailed, match=r"^function 'missing' not found$"):
            await done.result(timeout=10)
        with pytest.raises(JobExecutionFailed, match=r"^function 'fresh' not found$"):
            await chunks.result(timeout=10)


@pytest.mark.parametrize("setting", [None, "fail", "release"])
async def test_a_burst_ends_and_fails_it_unless_told_otherwise(pool: Pool, setting: str | None) -> None:
    done = await pool.enqueue_job("missing", _job_id="odd")
    other = await pool.enqueue_job("known")
    assert done is not None
    assert other is not None
    worker = Worker(
        [known], redis_settings=url_of(pool), burst=True, handle_signals=False, unknown_functions=setting, max_jobs=1
    )
    async with asyncio.timeout(10):
        await worker.async_run()
    await worker.close()
    assert await other.result(timeout=1) == "known"
    assert worker.jobs_failed == (0 if setting == "release" else 1)
    assert await pool.zcard("arq:queue") == (1 if setting == "release" else 0)


async def test_a_burst_with_release_still_waits_for_what_it_knows(pool: Pool) -> None:
    await pool.enqueue_job("missing")
    later = await pool.enqueue_job("known", _defer_by=0.4)
    assert later is not None
    worker = Worker([known], redis_settings=url_of(pool), burst=True, handle_signals=False, unknown_functions="release")
    async with asyncio.timeout(10):
        await worker.async_run()
    await worker.close()
    assert await later.result(timeout=1) == "known"


async def test_an_abort_and_an_expiry_come_before_it(pool: Pool) -> None:
    aborted = await pool.enqueue_job("missing")
    assert aborted is not None
    async with working(pool, known, allow_abort_jobs=True):
        await until_given_back(pool, aborted.job_id)
        assert await aborted.abort(timeout=10)


async def test_stock_producers_and_cron_jobs_are_given_back_too(pool: Pool, redis_url: str) -> None:
    stock = ArqRedis.from_url(redis_url)
    done = await stock.enqueue_job("fresh")
    assert done is not None
    starting = [cron(func(fresh, name="startup").coroutine, name="startup", run_at_startup=True, unique=False, hour=0)]
    async with working(pool, known):
        await until_given_back(pool, done.job_id)
    async with working(pool, known, fresh, cron_jobs=starting):
        assert await Job(done.job_id, pool).result(timeout=10) == 1
    await stock.aclose()


async def test_the_delay_grows_and_a_lease_is_counted_once(pool: Pool) -> None:
    counts = [
        (await pool.store.note_unknown("a", enqueued_ms=7, token=token, keep_ms=60_000))[0]
        for token in ("w.1", "w.1", "w.2")
    ]
    anew, since_ms = await pool.store.note_unknown("a", enqueued_ms=8, token="w.3", keep_ms=60_000)

    assert counts == [1, 1, 2]
    assert (anew, since_ms) == (1, 0)
    assert 50_000 < await pool.pttl(pool.store.keys.unknown("a")) <= 60_000


async def test_the_log_says_when_it_fails(pool: Pool, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "arq.worker")
    done = await pool.enqueue_job("missing")
    assert done is not None
    async with working(pool, known):
        await until_given_back(pool, done.job_id)
    assert "it fails in 2700 s if none knows it" in caplog.text
