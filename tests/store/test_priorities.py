"""Priorities within one queue."""

from __future__ import annotations

from tests.support.store_harness import KEYS, LEASE_MS, QUEUE, StoreHarness, extra


async def test_the_most_urgent_comes_first_and_equals_are_first_in_first_out(harness: StoreHarness) -> None:
    for number, priority in enumerate((0, 5, 9, 5, 0, 9)):
        await harness.enqueue(f"{number}p{priority}", extra=extra(priority=priority))
        harness.clock.advance(1)

    assert await harness.worker().claim_ids(10) == ["2p9", "5p9", "1p5", "3p5", "0p0", "4p0"]


async def test_a_deferred_job_takes_its_place_when_it_becomes_due(harness: StoreHarness) -> None:
    await harness.enqueue("later", when="+1000", extra=extra(priority=3))
    await harness.enqueue(*(f"plain{number:04}" for number in range(2_000)))
    worker = harness.worker()
    assert await worker.claim_ids(1) == ["plain0000"]

    harness.clock.advance(1000)

    assert await worker.claim_ids(1) == ["later"]


async def test_thousands_that_become_due_at_once_are_in_order_at_once(harness: StoreHarness) -> None:
    await harness.enqueue(*(f"less{number:04}" for number in range(1_500)), when="+5", extra=extra(priority=1))
    await harness.enqueue(*(f"more{number:04}" for number in range(10)), when="+6", extra=extra(priority=9))
    harness.clock.advance(6)

    claimed = await harness.worker().claim_ids(1_000)

    assert claimed == [*(f"more{number:04}" for number in range(10)), *(f"less{number:04}" for number in range(990))]
    assert await harness.redis.exists(KEYS.promote(QUEUE)) == 0


async def test_a_job_that_is_taken_before_it_took_its_place_keeps_its_priority(harness: StoreHarness) -> None:
    await harness.enqueue("urgent", when="+5", extra=extra(priority=9))
    harness.clock.advance(6)
    worker = harness.worker()

    claimed = await worker.claim(only=("urgent",))
    await worker.finish(claimed.jobs[0], "retry")

    await harness.enqueue("plain")
    harness.clock.advance(10)
    assert await worker.claim_ids(1) == ["urgent"]
    lease = await harness.lease("urgent")
    assert lease is not None
    assert lease.due_ms < 0


async def test_a_job_keeps_its_priority_over_a_retry_a_release_and_a_crash(harness: StoreHarness) -> None:
    await harness.enqueue("urgent", extra=extra(priority=9))
    await harness.enqueue("plain")
    worker = harness.worker()

    await worker.finish(await worker.claim_one(), "release")
    await worker.finish(await worker.claim_one(), "retry", 500)
    assert await worker.claim_ids(1) == ["plain"]
    await harness.enqueue("plain too")
    harness.clock.advance(500)
    assert await worker.claim_ids(1) == ["urgent"]
    harness.clock.advance(LEASE_MS + 1)
    assert set(await worker.claim_ids(10)) == {"urgent", "plain", "plain too"}
    lease = await harness.lease("urgent")
    assert lease is not None
    assert lease.due_ms < 0  # the priority is in it


async def test_the_due_time_is_told_without_the_priority(harness: StoreHarness) -> None:
    due = harness.clock()
    await harness.enqueue("urgent", extra=extra(priority=9))

    snapshot = await harness.store.peek("urgent", QUEUE)
    job = await harness.worker().claim_one()

    assert (snapshot.score, job.due_ms) == (due, due)


async def test_to_stock_arq_a_due_job_is_due_and_a_deferred_one_is_not(harness: StoreHarness) -> None:
    await harness.enqueue("due", extra=extra(priority=9))
    await harness.enqueue("deferred", when="+60000", extra=extra(priority=9))

    due = await harness.redis.zrangebyscore(QUEUE, "-inf", harness.clock())

    assert due == [b"due"]
