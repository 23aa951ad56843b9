"""`delete`: every trace of a job goes, unless a worker holds it."""

from __future__ import annotations

from tests.support.store_harness import KEYS, LEASE_MS, QUEUE, StoreHarness, Subscriber


async def test_a_queued_job_leaves_no_trace(harness: StoreHarness) -> None:
    await harness.enqueue("a", attempts=3)
    await harness.store.abort("a", QUEUE)

    assert await harness.store.delete("a", QUEUE) == "deleted"
    assert await harness.keys() == set()


async def test_an_ended_job_leaves_no_trace(harness: StoreHarness) -> None:
    await harness.enqueue("a")
    worker = harness.worker()
    await worker.finish(await worker.claim_one(), "dead")

    assert await harness.store.delete("a", QUEUE) == "deleted"
    assert await harness.keys() == set()


async def test_a_running_job_is_left_alone(harness: StoreHarness) -> None:
    await harness.enqueue("a")
    await harness.worker().claim_one()
    before = await harness.keys()

    assert await harness.store.delete("a", QUEUE) == "running"
    assert await harness.keys() == before


async def test_a_job_of_another_queue_is_left_alone(harness: StoreHarness) -> None:
    await harness.enqueue("running")
    await harness.worker().claim_one()
    await harness.enqueue("queued")
    before = await harness.keys()

    assert await harness.store.delete("running", "another") == "elsewhere"
    assert await harness.store.delete("queued", "another") == "elsewhere"
    assert await harness.keys() == before
    assert await harness.store.delete("queued", QUEUE) == "deleted"


async def test_a_job_that_a_stock_worker_runs_is_left_alone(harness: StoreHarness) -> None:
    await harness.stock_enqueue("a")
    await harness.stock_claim("a")

    assert await harness.store.delete("a", QUEUE) == "running"


async def test_a_job_whose_lease_ran_out_is_deleted_and_its_zombie_writes_nothing(harness: StoreHarness) -> None:
    await harness.enqueue("a")
    worker = harness.worker()
    job = await worker.claim_one()
    harness.clock.advance(LEASE_MS)

    assert await harness.store.delete("a", QUEUE) == "deleted"
    assert not await worker.finish(job)
    assert await harness.keys() == set()


async def test_an_id_that_is_only_kept_taken_is_freed(harness: StoreHarness) -> None:
    await harness.enqueue("a", unique=True)
    worker = harness.worker()
    await worker.finish(await worker.claim_one(), "end", 30_000, ttl_ms=-1)

    assert await harness.store.delete("a", QUEUE) == "deleted"
    assert await harness.keys() == set()


async def test_an_unknown_job_is_missing(harness: StoreHarness) -> None:
    assert await harness.store.delete("never was", QUEUE) == "missing"


async def test_the_deletion_is_announced_to_those_who_wait_for_the_result(harness: StoreHarness) -> None:
    await harness.enqueue("a")
    async with Subscriber(harness.redis, [KEYS.done_channel("a")]) as subscriber:
        await harness.store.delete("a", QUEUE)
        assert await subscriber.heard() == {KEYS.done_channel("a"): [""]}


async def test_only_if_it_has_ended(harness: StoreHarness) -> None:
    await harness.enqueue("a")
    before = await harness.keys()
    assert await harness.store.delete("a", QUEUE, ended=True) == "again"
    assert await harness.keys() == before

    worker = harness.worker()
    await worker.finish(await worker.claim_one(), "dead")
    assert await harness.store.delete("a", QUEUE, ended=True) == "deleted"
    assert await harness.keys() == set()
