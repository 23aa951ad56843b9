"""Handles on jobs: of another queue than they say, what `abort()` raises, what `info()` has, few connections."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from typing import Any
from urllib.parse import urlsplit

import arq.jobs
import pydantic
import pytest
from arq.connections import ArqRedis
from redis.exceptions import ConnectionError as RedisConnectionError

from arqestra import ArgumentsError, Job, JobStatus, Pool, create_pool
from tests.integration.engine_worker import working
from tests.support.pools import serializers
from tests.support.replies import reply_of
from tests.support.wait import PATIENCE_S, wait_until

ELSEWHERE = "orders"


serializer = serializers("pickle", "msgpack")


async def enqueued(pool: Pool, name: str, *args: Any, **options: Any) -> Job[Any]:
    job = await pool.enqueue_job(name, *args, **options)
    assert job is not None
    return job


# -- a handle without the queue's name ----------------------------------------------------------------------------


@pytest.mark.parametrize("defer_by_s", [0, 60])
async def test_a_handle_finds_the_queue_of_a_waiting_job(pool: Pool, defer_by_s: float) -> None:
    made = await enqueued(pool, "double", 2, _queue_name=ELSEWHERE, _defer_by=defer_by_s)
    job: Job[Any] = Job(made.job_id, pool)
    expected = JobStatus.deferred if defer_by_s else JobStatus.queued

    assert await job.status() == expected
    info = await Job(made.job_id, pool).info()
    assert info is not None
    assert info.score == await pool.zscore(ELSEWHERE, made.job_id)


async def test_a_handle_finds_a_queue_that_only_stock_arq_used(pool: Pool) -> None:
    stock = ArqRedis(pool.connection_pool, job_serializer=pool.serializer.dumps)
    made = await stock.enqueue_job("double", 2, _queue_name="of-stock")
    assert made is not None

    assert await Job(made.job_id, pool).status() == JobStatus.queued


async def test_a_dead_job_of_another_queue_is_retried(pool: Pool) -> None:
    """Where its result is not kept any more, too."""
    made = await enqueued(pool, "no-such-function", _queue_name=ELSEWHERE)
    async with working(pool, queue_name=ELSEWHERE, unknown_functions="fail", keep_dead=60, keep_result=0):
        await wait_until(lambda: is_dead(pool, made.job_id), "the job is dead")
    assert await Job(made.job_id, pool).result_info() is None

    await Job(made.job_id, pool).retry()
    assert await pool.zscore(ELSEWHERE, made.job_id) is not None


async def is_dead(pool: Pool, job_id: str) -> bool:
    return any(each.job_id == job_id for each in await pool.queue(ELSEWHERE).dead())


async def test_where_no_scan_is_allowed_it_is_said_to_be_elsewhere(pool: Pool) -> None:
    stock = ArqRedis(pool.connection_pool, job_serializer=pool.serializer.dumps)
    made = await stock.enqueue_job("double", 2, _queue_name="of-stock")
    assert made is not None
    await pool.acl_setuser(
        "narrow", enabled=True, passwords=["+p"], keys=["*"], channels=["*"], commands=["+@all", "-scan"]
    )
    address = pool.connection_pool.connection_kwargs
    narrow = Pool(
        host=address["host"], port=address["port"], username="narrow", password="p", serializer=pool.serializer
    )

    with pytest.raises(ArgumentsError, match=r"it is elsewhere; give its queue to the handle"):
        await Job(made.job_id, narrow).abort(timeout=0.1)
    assert await Job("no-such-job", narrow).status() == JobStatus.not_found
    await narrow.aclose()
    await pool.acl_deluser("narrow")


async def test_a_job_that_is_nowhere_is_still_unknown(pool: Pool) -> None:
    job: Job[Any] = Job("no-such-job", pool)

    assert await job.status() == JobStatus.not_found
    assert await job.info() is None
    assert await job.abort() is False
    assert await pool.zcard(pool.store.keys.aborts) == 0


@pytest.mark.parametrize("defer_by_s", [0, 60])
async def test_a_job_of_another_queue_is_aborted(pool: Pool, defer_by_s: float) -> None:
    async with working(pool, queue_name=ELSEWHERE, allow_abort_jobs=True) as worker:
        made = await enqueued(pool, "hold", _queue_name=ELSEWHERE, _defer_by=defer_by_s)
        if not defer_by_s:
            await worker.ctx["started"].wait()
        assert await Job(made.job_id, pool).abort(timeout=PATIENCE_S) is True


async def test_the_result_of_a_job_of_another_queue_is_waited_for(pool: Pool) -> None:
    made = await enqueued(pool, "double", 4, _queue_name=ELSEWHERE)
    waiting = asyncio.ensure_future(Job(made.job_id, pool).result(timeout=PATIENCE_S))
    async with working(pool, queue_name=ELSEWHERE):
        assert await waiting == 8


# -- abort raises what stock raises -------------------------------------------------------------------------------


async def test_abort_raises_what_the_job_raised(pool: Pool) -> None:
    async with working(pool, allow_abort_jobs=True):
        job = await enqueued(pool, "fail", "no stock")
        with pytest.raises(ValueError, match="no stock"):
            await job.result(timeout=PATIENCE_S)
        with pytest.raises(ValueError, match="no stock"):
            await job.abort(timeout=PATIENCE_S)
        if pool.serializer.name == "pickle":
            with pytest.raises(ValueError, match="no stock"):  # and so does arq
                await arq.jobs.Job(job.job_id, pool).abort(timeout=PATIENCE_S)


async def test_abort_of_a_complete_job_is_false(pool: Pool) -> None:
    async with working(pool, allow_abort_jobs=True):
        job = await enqueued(pool, "double", 1)
        await job.result(timeout=PATIENCE_S)
        assert await job.abort(timeout=PATIENCE_S) is False


async def test_abort_raises_when_the_time_is_up(pool: Pool) -> None:
    job = await enqueued(pool, "double", 1)

    with pytest.raises(TimeoutError):
        await job.abort(timeout=0.05)


async def test_abort_raises_what_cannot_be_read(pool: Pool) -> None:
    job = await enqueued(pool, "double", 1)
    await pool.set(pool.store.keys.result(job.job_id), b"\xc1 no result")

    with pytest.raises(arq.jobs.DeserializationError):
        await job.abort(timeout=PATIENCE_S)


async def test_abort_raises_when_redis_does_not_answer() -> None:
    pool = Pool(host="127.0.0.1", port=1)
    with pytest.raises((RedisConnectionError, OSError)):
        await pool.job("any").abort()
    await pool.aclose()


# -- what `info()` has --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["double", "fail"])
async def test_info_has_arqs_fields_and_no_others(pool: Pool, name: str) -> None:
    job = await enqueued(pool, name, 1)
    waiting = await job.info()
    async with working(pool):
        await asyncio.gather(job.result(timeout=PATIENCE_S), return_exceptions=True)
    ended = await job.info()

    for info, kind in ((waiting, arq.jobs.JobDef), (ended, arq.jobs.JobResult)):
        assert type(info) is kind
        fields = {field.name for field in dataclasses.fields(kind)}
        assert set(vars(info)) == fields
        assert set(dataclasses.asdict(info)) == fields
        assert set(pydantic.TypeAdapter(dict[str, Any]).dump_python(vars(info))) == fields
    assert bool(await job.errors()) == (name == "fail")


# -- pools with few connections, or that decode -------------------------------------------------------------------


@pytest.mark.parametrize("options", [{"max_connections": 1}, {"decode_responses": True}, {"protocol": 3}])
async def test_handles_and_lists_work_on_any_pool(redis_url: str, options: dict[str, Any]) -> None:
    address = urlsplit(redis_url)
    pool = Pool(host=address.hostname, port=address.port, serializer="msgpack", **options)
    made = [await enqueued(pool, "double", number) for number in range(20)]
    failing = await enqueued(pool, "fail", "no")
    infos = await asyncio.gather(*(job.info() for job in made))
    assert [info.args for info in infos if info is not None] == [(number,) for number in range(20)]
    assert [each.job_id for each in await pool.queued_jobs()] == [job.job_id for job in (*made, failing)]
    assert await Job(made[0].job_id, pool, "another").status() == JobStatus.queued

    plain = await create_pool(redis_url, serializer="msgpack")
    async with working(plain):
        assert await asyncio.gather(*(job.result(timeout=PATIENCE_S) for job in made)) == list(range(0, 40, 2))
        with pytest.raises(ValueError, match="no"):
            await failing.result(timeout=PATIENCE_S)

        async def is_counted() -> bool:
            return len(await pool.recent()) == 21 and len(await pool.workers()) == 1

        await wait_until(is_counted, "the worker has told")
        assert {row["function"] for row in await pool.statistics()} == {"double", "fail"}
        assert await pool.totals()
    assert len(await pool.all_job_results()) == 21
    queue = pool.queue()
    assert [dead.job_id for dead in await queue.dead()] == [failing.job_id]
    counts = await asyncio.gather(*(queue.depth() for _ in range(5)), *(queue.dead_count() for _ in range(5)))
    assert counts == [0] * 5 + [1] * 5
    assert await pool.used_queues() == ["arq:queue"]
    assert await made[0].progress() is None
    assert await made[0].log() == []
    assert await pool.schedules.list() == []
    await plain.aclose()
    await pool.aclose()


async def test_lists_pass_over_what_cannot_be_read(pool: Pool, caplog: pytest.LogCaptureFixture) -> None:
    made = await enqueued(pool, "double", 1)
    async with working(pool):
        await made.result(timeout=PATIENCE_S)
    await pool.set("arq:result:alien", b"\xc1")
    await pool.set(b"arq:result:\xff", b"\xc1")
    await reply_of(pool.lpush("arq:result:list", b"x"))
    queued = await enqueued(pool, "double", 2)
    await pool.zadd("arq:queue", {b"\xff\xfe": 1, b"without-payload": 2, b"other": 3, b"typed": 4})
    await pool.set("arq:job:other", b"\xc1")
    await reply_of(pool.lpush("arq:job:typed", b"x"))

    with caplog.at_level(logging.WARNING, "arq.connections"):
        assert [info.job_id for info in await pool.all_job_results()] == [made.job_id]
        assert [info.job_id for info in await pool.queued_jobs()] == [queued.job_id]
    assert len([record for record in caplog.records if "is passed over" in record.message]) == 7
