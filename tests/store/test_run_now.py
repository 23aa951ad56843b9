"""`run_now`: a deferred job becomes due at once; every other one is left alone."""

from __future__ import annotations

from tests.support.store_harness import KEYS, LEASE_MS, QUEUE, StoreHarness, extra, worker_subscriber


async def test_a_deferred_job_becomes_due_and_a_waiting_worker_is_woken(harness: StoreHarness) -> None:
    worker = harness.worker()
    await worker.claim(wait=True)
    async with worker_subscriber(harness.redis, "w1") as subscriber:
        await harness.enqueue("later", when="+60000")
        assert await harness.store.run_now("later", QUEUE) == "queued"
        assert "wake" in str(await subscriber.heard())
    assert await worker.claim_ids() == ["later"]


async def test_its_priority_stays(harness: StoreHarness) -> None:
    await harness.enqueue("plain")
    await harness.enqueue("urgent", when="+60000", extra=extra(priority=5))
    assert await harness.store.run_now("urgent", QUEUE) == "queued"
    assert await harness.redis.exists(KEYS.promote(QUEUE)) == 0
    assert await harness.worker().claim_ids() == ["urgent", "plain"]


async def test_a_job_that_waits_to_be_retried_runs_again(harness: StoreHarness) -> None:
    await harness.enqueue("a")
    worker = harness.worker()
    await worker.finish(await worker.claim_one(), "retry", 60_000)
    assert await harness.store.run_now("a", QUEUE) == "queued"
    assert (await worker.claim_one()).attempt == 2


async def test_calling_it_twice_changes_nothing_more(harness: StoreHarness) -> None:
    await harness.enqueue("a", when="+60000")
    assert await harness.store.run_now("a", QUEUE) == "queued"
    before = await harness.score("a")
    harness.clock.advance(5)
    assert await harness.store.run_now("a", QUEUE) == "queued"
    assert await harness.score("a") == before, "it does not go to the end of the queue"


async def test_a_running_job_is_left_alone(harness: StoreHarness) -> None:
    await harness.enqueue("a")
    await harness.worker().claim_one()
    before = await harness.score("a")
    assert await harness.store.run_now("a", QUEUE) == "running"
    assert await harness.score("a") == before
    harness.clock.advance(LEASE_MS)
    assert await harness.store.run_now("a", QUEUE) == "queued"


async def test_a_job_that_waits_for_a_limit_is_left_alone(harness: StoreHarness) -> None:
    limits = extra(("c", "one", 1))
    await harness.enqueue("first", "second", extra=limits)
    assert await harness.worker().claim_ids() == ["first"]
    assert await harness.store.run_now("second", QUEUE) == "held"
    assert await harness.worker("w2").claim_ids() == []


async def test_what_is_not_there(harness: StoreHarness) -> None:
    assert await harness.store.run_now("nobody", QUEUE) == "missing"
    assert await harness.keys() == set()
