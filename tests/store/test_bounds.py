"""Bounds: what one script call takes on, whatever the queue holds."""

from __future__ import annotations

import statistics
from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from arqestra.store.records import LeaseRef, NewJob
from tests.support.store_harness import KEYS, LEASE_MS, QUEUE, StoreHarness


async def _script_calls(redis: Redis) -> int:
    statistics = await redis.info("commandstats")
    return sum(statistics.get(f"cmdstat_{name}", {"calls": 0})["calls"] for name in ("fcall", "evalsha", "eval"))


async def test_ten_thousand_jobs_go_in_calls_of_a_thousand(harness: StoreHarness) -> None:
    await harness.enqueue("warm-up")
    await harness.redis.config_resetstat()
    jobs = [NewJob(QUEUE, f"job{number:05}", b"payload") for number in range(10_000)]

    assert await harness.store.enqueue(jobs) == [True] * 10_000

    assert await _script_calls(harness.redis) == 10
    assert await harness.redis.zcard(QUEUE) == 10_001


async def test_a_claim_of_more_slots_than_a_chunk_takes_a_chunk(harness: StoreHarness) -> None:
    await harness.enqueue(*(f"job{number:05}" for number in range(3_000)))
    worker = harness.worker()

    assert [len((await worker.claim(5_000)).jobs) for _ in range(4)] == [1000, 1000, 1000, 0]


async def test_a_full_claim_together_with_a_hundred_aborts(harness: StoreHarness) -> None:
    """The greatest number of leases that one call writes."""
    await harness.enqueue(*(f"job{number:05}" for number in range(1_200)))
    for number in range(100):
        await harness.store.abort(f"job{number:05}", QUEUE)

    claimed = await harness.worker().claim(1000, aborts=True)

    flags = [job.flag for job in claimed.jobs]
    assert flags.count("abort") == 100
    assert 900 <= flags.count("") <= 1000


async def test_ten_thousand_leases_are_renewed_in_calls_of_a_thousand(harness: StoreHarness) -> None:
    await harness.enqueue(*(f"job{number:05}" for number in range(10_000)))
    worker = harness.worker()
    held = [LeaseRef(job.id, QUEUE, job.token) for _ in range(10) for job in (await worker.claim(1000)).jobs]
    assert len(held) == 10_000
    await worker.renew()
    await harness.store.renew(held[:1], LEASE_MS, aborts=True)
    await harness.redis.config_resetstat()
    harness.clock.advance(1000)

    renewal = await harness.store.renew(held, LEASE_MS, aborts=True)

    assert (renewal.lost, renewal.aborted) == ([], [])
    assert await _script_calls(harness.redis) == 10
    assert await harness.redis.zcount(QUEUE, "-inf", harness.clock.now_ms + LEASE_MS - 1) == 0


async def test_three_hundred_stock_jobs_at_the_head_do_not_hide_ours(harness: StoreHarness) -> None:
    stock = [f"stock{number:03}" for number in range(300)]
    for job_id in stock:
        await harness.stock_enqueue(job_id)
    await harness.stock_claim(*stock)
    harness.clock.advance(1)
    await harness.enqueue("a", "b")
    before = await harness.redis.zrange(QUEUE, 0, 299, withscores=True)

    assert await harness.worker().claim_ids(1) == ["a"]
    assert await harness.worker().claim_ids(10) == ["b"]
    assert await harness.redis.zrange(QUEUE, 0, 299, withscores=True) == before


async def test_paging_past_stock_jobs_has_a_cap(harness: StoreHarness) -> None:
    """A claim looks at 5,000 entries at most: bounded time goes before completeness."""
    stock = {f"stock{number:04}": 1 for number in range(6_000)}
    await harness.redis.zadd(QUEUE, stock)
    await harness.redis.mset({KEYS.lease(job_id): "1" for job_id in stock})
    await harness.enqueue("a")
    await harness.redis.config_resetstat()

    assert await harness.worker().claim_ids(1) == []
    statistics = await harness.redis.info("commandstats")
    assert statistics["cmdstat_mget"]["calls"] <= 25


@pytest.fixture
async def slow_log(redis: Redis) -> AsyncIterator[None]:
    """Every command is logged with its time."""
    before = {**await redis.config_get("slowlog-log-slower-than"), **await redis.config_get("slowlog-max-len")}
    await redis.config_set("slowlog-log-slower-than", 0)
    await redis.config_set("slowlog-max-len", 2_000)
    yield
    for name, value in before.items():
        await redis.config_set(name, value)
    await redis.slowlog_reset()


@pytest.mark.usefixtures("slow_log")
async def test_a_script_takes_no_longer_on_a_backlog_of_100_000_than_on_1_000(harness: StoreHarness) -> None:
    """Compared with itself in the same run: logarithms pass, anything that walks the queue is 100 times slower."""
    await harness.enqueue(*(f"job{number:06}" for number in range(1_000)))
    short_us = await _median_us(harness)
    await harness.enqueue(*(f"job{number:06}" for number in range(1_000, 100_000)))
    long_us = await _median_us(harness)

    assert long_us < 5 * short_us


async def _median_us(harness: StoreHarness) -> float:
    """Time of a script in Redis: claims, renewals, ends and enqueues of a few jobs, with workers that wait."""
    await harness.redis.slowlog_reset()
    worker = harness.worker("measured")
    await harness.redis.zadd(KEYS.waiting(QUEUE), {"somebody": 1})
    for number in range(40):
        jobs = (await worker.claim(5, wait=True, aborts=True)).jobs
        await worker.renew(*jobs)
        for job in jobs:
            await worker.finish(job, "retry")
        await harness.enqueue(f"new{harness.clock.now_ms}{number}")
    log = await harness.redis.slowlog_get(2_000)
    return statistics.median(entry["duration"] for entry in log if entry["command"].startswith((b"FCALL", b"EVALSHA")))
