"""What is in a queue and is no job, or has keys of another kind: the jobs beside it run, and a burst ends."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import pytest
from redis.exceptions import ResponseError

from arqestra import Pool, Worker
from tests.integration import engine_jobs as jobs
from tests.integration.engine_worker import fresh_ctx, working
from tests.support.pools import serializers
from tests.support.wait import PATIENCE_S, wait_until

QUEUE = "arq:queue"


async def _member_with(pool: Pool, put: Callable[[], Any], member: bytes = b"x") -> None:
    await put()
    await pool.zadd(QUEUE, {member: 1})


Make = Callable[[Pool], Any]
ALIENS: dict[str, Make] = {
    "no UTF-8": lambda pool: pool.zadd(QUEUE, {b"\xff\xfe": 1, b"\xc3": 2}),
    "no UTF-8, with a payload": lambda pool: _member_with(pool, lambda: pool.set(b"arq:job:\xff", b"x"), b"\xff"),
    "no UTF-8, deferred": lambda pool: pool.eval(
        "local t = redis.call('TIME'); redis.call('ZADD', KEYS[1], t[1] * 1000 + 300, '\\255')", 1, QUEUE
    ),
    "empty": lambda pool: pool.zadd(QUEUE, {b"": 1}),
    "without payload": lambda pool: pool.zadd(QUEUE, {b"x": 1}),
    "with a payload that is none": lambda pool: _member_with(pool, lambda: pool.set("arq:job:x", b"\xc1")),
    "with a payload of another kind": lambda pool: _member_with(pool, lambda: pool.lpush("arq:job:x", "1")),
    "with a lease of another kind": lambda pool: _member_with(pool, lambda: pool.lpush("arq:in-progress:x", "1")),
    "with attempts of another kind": lambda pool: _member_with(pool, lambda: pool.lpush("arq:retry:x", "1")),
    "with attempts that are no number": lambda pool: _member_with(pool, lambda: pool.set("arq:retry:x", "abc")),
    "with attempts beyond all numbers": lambda pool: _member_with(pool, lambda: pool.set("arq:retry:x", "9" * 400)),
    "with a result of another kind": lambda pool: _member_with(pool, lambda: pool.lpush("arq:result:x", "1")),
    "with a score before all times": lambda pool: pool.zadd(QUEUE, {b"x": "-inf"}),
    "with line feeds and bars": lambda pool: pool.zadd(QUEUE, {b"a\nb|c d": 1}),
}


serializer = serializers("msgpack")


def burst(pool: Pool, redis_url: str, **settings: Any) -> Worker:
    options: dict[str, Any] = {"burst": True, "handle_signals": False, "poll_delay": 0.05, "ctx": fresh_ctx()}
    return Worker(jobs.ALL, redis_settings=redis_url, serializer=pool.serializer, **options | settings)


@pytest.mark.parametrize("alien", ALIENS)
async def test_a_burst_ends_and_the_jobs_beside_it_run(pool: Pool, redis_url: str, alien: str) -> None:
    await ALIENS[alien](pool)
    good = [await pool.enqueue_job("double", number) for number in range(5)]
    worker = burst(pool, redis_url)

    await asyncio.wait_for(worker.async_run(), PATIENCE_S)

    assert [await job.result(timeout=1) for job in good if job is not None] == [0, 2, 4, 6, 8]
    assert await pool.zcard(QUEUE) == 0
    assert await pool.keys("arq:in-progress:*") == []
    await worker.close()


async def test_a_worker_that_goes_on_runs_the_jobs_beside_it(pool: Pool, caplog: pytest.LogCaptureFixture) -> None:
    await pool.zadd(QUEUE, {b"\xff\xfe": 1})
    async with working(pool, max_jobs=1):
        made = await pool.enqueue_job("double", 4)
        assert made is not None
        assert await made.result(timeout=PATIENCE_S) == 8

        async def is_empty() -> bool:
            return await pool.zcard(QUEUE) == 0

        await wait_until(is_empty, "what is no job id is out of the queue")
    assert [record.levelno for record in caplog.records if "is no job id" in record.message] == [logging.ERROR]
    assert await pool.keys(b"arq:*\xff*") == []


async def test_it_is_found_in_each_of_several_queues(pool: Pool, redis_url: str) -> None:
    for queue in ("high", "low"):
        await pool.zadd(queue, {b"\xff" + queue.encode(): 1})
        for number in range(3):
            await pool.enqueue_job("double", number, _queue_name=queue, _job_id=f"{queue}{number}")
    worker = burst(pool, redis_url, queues=["high", "low"])

    await asyncio.wait_for(worker.async_run(), PATIENCE_S)

    assert len(await pool.all_job_results()) == 6
    assert await pool.exists("high", "low") == 0
    await worker.close()


@pytest.mark.parametrize("put", [lambda pool: pool.lpush(QUEUE, "x"), lambda pool: pool.set(QUEUE, "x")])
async def test_a_burst_on_what_is_no_queue_raises(pool: Pool, redis_url: str, put: Make) -> None:
    await put(pool)
    worker = burst(pool, redis_url)

    with pytest.raises(ResponseError, match="WRONGTYPE"):
        await asyncio.wait_for(worker.async_run(), PATIENCE_S)
    await worker.close()
