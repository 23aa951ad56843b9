"""`abort`: durable, told to whoever can act on it, aimed at this incarnation of the id."""

from __future__ import annotations

from tests.support.store_harness import KEYS, LEASE_MS, QUEUE, StoreHarness, extra, worker_subscriber


async def test_the_worker_that_runs_the_job_is_told_at_once(harness: StoreHarness) -> None:
    await harness.enqueue("a")
    await harness.worker("w1").claim_one()
    async with worker_subscriber(harness.redis, "w1", "w2") as subscriber:
        assert await harness.store.abort("a", QUEUE) == "running"
        assert await subscriber.heard() == {KEYS.worker_channel("w1"): ["abort a"]}


async def test_a_worker_is_woken_to_record_the_abort_of_a_queued_job(harness: StoreHarness) -> None:
    await harness.enqueue("a", when="+100000")
    await harness.worker("w1").claim(wait=True)
    async with worker_subscriber(harness.redis, "w1") as subscriber:
        assert await harness.store.abort("a", QUEUE) == "queued"
        assert await subscriber.heard() == {KEYS.worker_channel("w1"): ["wake"]}


async def test_one_worker_that_rests_is_woken_to_record_an_abort_in_a_paused_queue(harness: StoreHarness) -> None:
    await harness.enqueue("a")
    await harness.store.pause(QUEUE, paused=True)
    for name in ("killed", "w1", "w2"):
        assert (await harness.worker(name).claim(wait=True)).jobs == []
        harness.clock.advance(1)
    async with worker_subscriber(harness.redis, "w1", "w2") as subscriber:
        assert await harness.store.abort("a", QUEUE) == "queued"
        assert await subscriber.heard() == {KEYS.worker_channel("w1"): ["wake"]}

    assert [job.flag for job in (await harness.worker("w1").claim(wait=True, aborts=True)).jobs] == ["abort"]


async def test_a_worker_is_woken_for_a_job_that_crashed_and_waits_in_a_lane(harness: StoreHarness) -> None:
    await harness.enqueue("a", extra=extra(("r", "r:f:", 4.0 * LEASE_MS, 1)))
    await harness.worker("w1").claim_one()
    harness.clock.advance(LEASE_MS + 1)
    async with worker_subscriber(harness.redis, "w1", "w2") as subscriber:
        await harness.worker("w2").claim(wait=True)
        await subscriber.heard()
        assert await harness.store.abort("a", QUEUE) == "queued"
        assert await subscriber.heard() == {KEYS.worker_channel("w2"): ["wake"]}

    assert [job.flag for job in (await harness.worker("w2").claim(aborts=True)).jobs] == ["abort"]


async def test_a_request_lasts_until_a_worker_takes_it(harness: StoreHarness) -> None:
    await harness.enqueue("a", when="+100000")
    await harness.store.abort("a", QUEUE)
    harness.clock.advance(3_600_000)

    assert (await harness.worker().claim(aborts=True)).jobs[0].flag == "abort"


async def test_the_end_of_the_job_clears_the_request(harness: StoreHarness) -> None:
    await harness.enqueue("a")
    worker = harness.worker()
    job = await worker.claim_one()
    await harness.store.abort("a", QUEUE)
    await worker.finish(job, ttl_ms=-1)

    assert await harness.keys() == set()


async def test_a_request_survives_a_retry(harness: StoreHarness) -> None:
    await harness.enqueue("a")
    worker = harness.worker()
    job = await worker.claim_one()
    await harness.store.abort("a", QUEUE)
    await worker.finish(job, "retry", 60_000)

    assert [(job.id, job.flag) for job in (await worker.claim(aborts=True)).jobs] == [("a", "abort")]


async def test_a_job_enqueued_anew_is_not_aborted_by_an_earlier_request(harness: StoreHarness) -> None:
    await harness.enqueue("a", unique=True)
    worker = harness.worker()
    job = await worker.claim_one()
    await harness.store.abort("a", QUEUE)
    await worker.finish(job, ttl_ms=-1)
    await harness.enqueue("a", unique=True)

    assert [job.flag for job in (await worker.claim(aborts=True)).jobs] == [""]


async def test_a_job_that_has_ended_or_never_was_leaves_no_request(harness: StoreHarness) -> None:
    await harness.enqueue("a")
    worker = harness.worker()
    await worker.finish(await worker.claim_one())

    assert await harness.store.abort("a", QUEUE) == "ended"
    assert await harness.store.abort("never was", QUEUE) == "missing"
    assert await harness.keys() == {"arq:result:a"}


async def test_a_stock_workers_job_is_aborted_by_the_stock_set(harness: StoreHarness) -> None:
    await harness.stock_enqueue("a")
    await harness.stock_claim("a")

    assert await harness.store.abort("a", QUEUE) == "running"
    assert await harness.redis.zrange("arq:abort", 0, -1) == [b"a"]
