"""Aborts, ghosts and stock workers leave nothing of limits and locks."""

from __future__ import annotations

import pytest

from tests.store.limits import RATE, TWO_AT_ONCE, of_tenant
from tests.support.store_harness import KEYS, LEASE_MS, QUEUE, StoreHarness, extra


async def test_the_abort_of_a_held_job_takes_it_out_of_its_lane(harness: StoreHarness) -> None:
    await harness.enqueue("a", "b", "c", extra=extra(of_tenant("t")))
    worker = harness.worker()
    running = (await worker.claim(1)).jobs[0]
    await harness.store.abort("b", QUEUE)

    aborted = (await worker.claim(10, aborts=True)).jobs
    assert [(job.id, job.flag) for job in aborted] == [("b", "abort")]
    await worker.finish(aborted[0])
    await worker.finish(running)

    assert await worker.claim_ids(10) == ["c"]


async def test_a_stock_abort_of_a_held_job_does_not_let_it_start(harness: StoreHarness) -> None:
    await harness.enqueue("a", "b", extra=extra(of_tenant("t")))
    worker = harness.worker()
    await worker.claim(1)

    await harness.stock_abort("b")

    assert await worker.claim_ids(10) == []
    assert await harness.score("b") == 8639999999999000


@pytest.mark.parametrize("claims", [0, 1])  # a single slot goes to lanes and queue in turns
async def test_a_stock_abort_of_a_held_job_that_crashed_leaves_it_in_its_lane_until_it_starts(
    harness: StoreHarness, claims: int
) -> None:
    await harness.enqueue("a", "b", extra=extra(of_tenant("t")))
    old, new = harness.worker("w1"), harness.worker("w2")
    assert await old.claim_ids(1) == ["a"]
    harness.clock.advance(LEASE_MS + 1)
    other = await new.claim_one()
    assert other.id == "b"
    new.number += claims
    assert (await new.claim(10)).jobs == []
    await new.finish(other)

    await harness.stock_abort("a")

    job = await new.claim_one()
    assert (job.id, job.crashes) == ("a", 1)
    assert await harness.redis.exists(KEYS.throttled(QUEUE), KEYS.retry_at(QUEUE)) == 0


async def test_a_claim_whose_reply_was_lost_gives_the_same_jobs_and_counts_them_once(harness: StoreHarness) -> None:
    await harness.enqueue("a", "b", "c", extra=extra(TWO_AT_ONCE))
    worker = harness.worker()
    first = await worker.claim(10)

    again = await worker.claim_again()

    assert again.jobs == first.jobs
    assert await harness.redis.zcard(KEYS.holders("c:f:")) == 2


async def test_a_ghost_leaves_nothing_of_its_limits_and_locks(harness: StoreHarness) -> None:
    """A stock worker was killed after it wrote the result: only the queue entry stayed."""
    asks = extra(RATE, of_tenant("t"), lock=("f:k", "finished", "reject", 0, 0))
    await harness.enqueue("a", extra=asks)
    await harness.enqueue("b", extra=extra(RATE, of_tenant("t")))
    await harness.stock_finish("a")
    await harness.redis.zadd(QUEUE, {"a": harness.clock()})
    worker = harness.worker()

    assert await worker.claim_ids(1) == []
    job = await worker.claim_one()
    assert job.id == "b"
    await worker.finish(job, ttl_ms=-1)

    assert await harness.keys() == {KEYS.result("a"), KEYS.rate("r:f:")}


async def test_what_stock_workers_leave_of_locks_is_swept_up(harness: StoreHarness) -> None:
    for number in range(50):
        await harness.enqueue(f"j{number}", extra=extra(lock=(f"f:{number}", "finished", "reject", 0, 0)))
        await harness.stock_claim(f"j{number}")
        await harness.stock_finish(f"j{number}")
        await harness.redis.delete(KEYS.result(f"j{number}"))
    await harness.enqueue("waits", extra=extra(lock=("f:k", "finished", "reject", 0, 0)), when="+60000")
    worker = harness.worker()

    for _ in range(200):
        await worker.claim(10)

    assert await harness.redis.hkeys(KEYS.specs(QUEUE)) == [b"waits"]  # type: ignore[misc]
    assert await harness.keys() == {QUEUE, KEYS.job("waits"), KEYS.unique("f:k"), KEYS.specs(QUEUE)}


async def test_a_held_job_that_a_stock_worker_ended_leaves_its_lane_with_its_spec(harness: StoreHarness) -> None:
    """Else a job with a spec would be taken for one without: whether all wait in lanes is told by numbers."""
    slow = ("r", "r:slow:", 3_600_000.0, 1)
    await harness.enqueue("j1", "j2", "j3", extra=extra(slow))
    worker = harness.worker()
    assert await worker.claim_ids(10) == ["j1"]
    await harness.redis.zrem(QUEUE, "j2")  # a stock abort() made it look due, and a stock worker ran it
    await harness.redis.delete(KEYS.job("j2"))

    for _ in range(200):
        await worker.claim(10)

    assert await harness.redis.hkeys(KEYS.throttled(QUEUE)) == [b"j3"]  # type: ignore[misc]
    assert set(await harness.redis.hkeys(KEYS.specs(QUEUE))) == {b"j1", b"j3"}  # type: ignore[misc]


async def test_nothing_is_left_when_all_has_ended(harness: StoreHarness) -> None:
    await harness.enqueue("a", "b", "c", extra=extra(of_tenant("t"), RATE))
    await harness.enqueue("d", "e", when="+10", extra=extra(RATE, priority=5))
    worker = harness.worker()
    await harness.store.delete("c", QUEUE)
    for _ in range(10):
        harness.clock.advance(1000)
        for job in (await worker.claim(10)).jobs:
            await worker.finish(job, ttl_ms=-1)

    assert await harness.keys() == {KEYS.rate("r:f:")}
    assert await harness.redis.pttl(KEYS.rate("r:f:")) > 0
