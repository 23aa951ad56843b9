"""`renew`: leases are extended, lost ones and requests to abort are reported."""

from __future__ import annotations

from tests.support.store_harness import KEYS, LEASE_MS, MARGIN_MS, QUEUE, Lease, StoreHarness


async def test_a_renewed_lease_lasts_from_now_on(harness: StoreHarness) -> None:
    await harness.enqueue("a")
    due_ms = harness.clock.now_ms
    worker = harness.worker()
    job = await worker.claim_one()
    harness.clock.advance(LEASE_MS - 1)

    renewal = await worker.renew(job)

    assert (renewal.lost, renewal.aborted) == ([], [])
    lease_end = harness.clock.now_ms + LEASE_MS
    assert await harness.lease("a") == Lease("w1.1", lease_end, due_ms, 0)
    assert await harness.score("a") == lease_end
    harness.clock.advance(LEASE_MS - 1)
    assert await harness.worker("w2").claim_ids() == []


async def test_the_record_of_a_renewed_lease_outlives_it_by_the_margin(harness: StoreHarness) -> None:
    await harness.enqueue("a")
    worker = harness.worker()
    job = await worker.claim_one()
    await harness.redis.pexpire(KEYS.lease("a"), 1000)

    await worker.renew(job)

    assert LEASE_MS + MARGIN_MS - 60_000 < await harness.redis.pttl(KEYS.lease("a")) <= LEASE_MS + MARGIN_MS


async def test_a_lease_that_ran_out_while_redis_was_away_is_renewed_if_nobody_took_it(harness: StoreHarness) -> None:
    await harness.enqueue("a")
    worker = harness.worker()
    job = await worker.claim_one()
    harness.clock.advance(LEASE_MS + 60_000)

    assert (await worker.renew(job)).lost == []
    assert await harness.worker("w2").claim_ids() == []


async def test_a_lease_that_was_taken_is_lost_and_untouched(harness: StoreHarness) -> None:
    await harness.enqueue("a")
    zombie = await harness.worker("zombie").claim_one()
    harness.clock.advance(LEASE_MS)
    await harness.worker("w2").claim_one()
    record, score = await harness.lease("a"), await harness.score("a")
    harness.clock.advance(100)

    assert (await harness.worker("zombie").renew(zombie)).lost == ["a"]
    assert (await harness.lease("a"), await harness.score("a")) == (record, score)


async def test_the_lease_of_a_job_that_a_stock_worker_finished_is_lost(harness: StoreHarness) -> None:
    await harness.enqueue("a")
    worker = harness.worker()
    job = await worker.claim_one()
    await harness.stock_finish("a")

    assert (await worker.renew(job)).lost == ["a"]
    assert await harness.keys() == {"arq:result:a"}


async def test_a_lost_lease_among_others_is_told_apart(harness: StoreHarness) -> None:
    await harness.enqueue("a", "b", "c")
    worker = harness.worker()
    jobs = (await worker.claim()).jobs
    await worker.finish(jobs[1])

    assert (await worker.renew(*jobs)).lost == ["b"]


async def test_the_crashes_survive_a_renewal(harness: StoreHarness) -> None:
    await harness.enqueue("a")
    await harness.worker("dying").claim_one()
    harness.clock.advance(LEASE_MS)
    worker = harness.worker()
    await worker.renew(await worker.claim_one())
    harness.clock.advance(LEASE_MS)

    assert (await worker.claim_one()).crashes == 2


async def test_a_request_to_abort_is_reported_to_workers_that_ask(harness: StoreHarness) -> None:
    await harness.enqueue("a", "b")
    worker = harness.worker()
    jobs = (await worker.claim()).jobs
    await harness.store.abort("b", QUEUE)

    assert (await worker.renew(*jobs, aborts=True)).aborted == ["b"]
    assert (await worker.renew(*jobs, aborts=False)).aborted == []


async def test_the_abort_of_a_stock_client_is_reported_and_the_score_repaired(harness: StoreHarness) -> None:
    await harness.enqueue("a")
    worker = harness.worker()
    job = await worker.claim_one()
    await harness.stock_abort("a")
    assert await harness.score("a") == 1

    assert (await worker.renew(job)).aborted == ["a"]
    assert await harness.score("a") == harness.clock.now_ms + LEASE_MS


async def test_leases_of_several_queues_are_renewed_in_one_call(harness: StoreHarness) -> None:
    await harness.enqueue("a", queue="q1")
    await harness.enqueue("b", queue="q2")
    first = await harness.worker(queue="q1").claim_one()
    second = await harness.worker(queue="q2").claim_one()
    harness.clock.advance(1000)

    await harness.worker().renew(first, second)

    assert await harness.score("a", "q1") == await harness.score("b", "q2") == harness.clock.now_ms + LEASE_MS


async def test_no_leases_are_no_call(harness: StoreHarness) -> None:
    assert (await harness.worker().renew()) == ([], [])


async def test_a_full_server_still_renews(harness: StoreHarness, functions: bool) -> None:
    """The flag that allows it is a function's: the texts that EVAL gets have none, as Redis 6.2 knows none."""
    await harness.enqueue("a")
    worker = harness.worker()
    job = await worker.claim_one()
    await harness.redis.config_set("maxmemory", "1")
    try:
        if functions:
            assert (await worker.renew(job)).lost == []
    finally:
        await harness.redis.config_set("maxmemory", "0")
    assert await harness.worker("w2").claim_ids() == []
