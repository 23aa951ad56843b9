"""`renew`: leases are extended, lost ones and requests to abort are reported."""

from __future__ import annotations

from tests.support.store_harness import KEYS, LEASE_MS, MARGIN_MS, QUEUE, Lease, Scene


async def test_a_renewed_lease_lasts_from_now_on(scene: Scene) -> None:
    await scene.enqueue("a")
    due_ms = scene.clock.now_ms
    worker = scene.worker()
    job = await worker.claim_one()
    scene.clock.advance(LEASE_MS - 1)

    renewal = await worker.renew(job)

    assert (renewal.lost, renewal.aborted) == ([], [])
    lease_end = scene.clock.now_ms + LEASE_MS
    assert await scene.lease("a") == Lease("w1.1", lease_end, due_ms, 0)
    assert await scene.score("a") == lease_end
    scene.clock.advance(LEASE_MS - 1)
    assert await scene.worker("w2").claim_ids() == []


async def test_the_record_of_a_renewed_lease_outlives_it_by_the_margin(scene: Scene) -> None:
    await scene.enqueue("a")
    worker = scene.worker()
    job = await worker.claim_one()
    await scene.redis.pexpire(KEYS.lease("a"), 1000)

    await worker.renew(job)

    assert LEASE_MS + MARGIN_MS - 60_000 < await scene.redis.pttl(KEYS.lease("a")) <= LEASE_MS + MARGIN_MS


async def test_a_lease_that_ran_out_while_redis_was_away_is_renewed_if_nobody_took_it(scene: Scene) -> None:
    await scene.enqueue("a")
    worker = scene.worker()
    job = await worker.claim_one()
    scene.clock.advance(LEASE_MS + 60_000)

    assert (await worker.renew(job)).lost == []
    assert await scene.worker("w2").claim_ids() == []


async def test_a_lease_that_was_taken_is_lost_and_untouched(scene: Scene) -> None:
    await scene.enqueue("a")
    zombie = await scene.worker("zombie").claim_one()
    scene.clock.advance(LEASE_MS)
    await scene.worker("w2").claim_one()
    record, score = await scene.lease("a"), await scene.score("a")
    scene.clock.advance(100)

    assert (await scene.worker("zombie").renew(zombie)).lost == ["a"]
    assert (await scene.lease("a"), await scene.score("a")) == (record, score)


async def test_the_lease_of_a_job_that_a_stock_worker_finished_is_lost(scene: Scene) -> None:
    await scene.enqueue("a")
    worker = scene.worker()
    job = await worker.claim_one()
    await scene.stock_finish("a")

    assert (await worker.renew(job)).lost == ["a"]
    assert await scene.keys() == {"arq:result:a"}


async def test_a_lost_lease_among_others_is_told_apart(scene: Scene) -> None:
    await scene.enqueue("a", "b", "c")
    worker = scene.worker()
    jobs = (await worker.claim()).jobs
    await worker.finish(jobs[1])

    assert (await worker.renew(*jobs)).lost == ["b"]


async def test_the_crashes_survive_a_renewal(scene: Scene) -> None:
    await scene.enqueue("a")
    await scene.worker("dying").claim_one()
    scene.clock.advance(LEASE_MS)
    worker = scene.worker()
    await worker.renew(await worker.claim_one())
    scene.clock.advance(LEASE_MS)

    assert (await worker.claim_one()).crashes == 2


async def test_a_request_to_abort_is_reported_to_workers_that_ask(scene: Scene) -> None:
    await scene.enqueue("a", "b")
    worker = scene.worker()
    jobs = (await worker.claim()).jobs
    await scene.store.abort("b", QUEUE)

    assert (await worker.renew(*jobs, aborts=True)).aborted == ["b"]
    assert (await worker.renew(*jobs, aborts=False)).aborted == []


async def test_the_abort_of_a_stock_client_is_reported_and_the_score_repaired(scene: Scene) -> None:
    await scene.enqueue("a")
    worker = scene.worker()
    job = await worker.claim_one()
    await scene.stock_abort("a")
    assert await scene.score("a") == 1

    assert (await worker.renew(job)).aborted == ["a"]
    assert await scene.score("a") == scene.clock.now_ms + LEASE_MS


async def test_leases_of_several_queues_are_renewed_in_one_call(scene: Scene) -> None:
    await scene.enqueue("a", queue="q1")
    await scene.enqueue("b", queue="q2")
    first = await scene.worker(queue="q1").claim_one()
    second = await scene.worker(queue="q2").claim_one()
    scene.clock.advance(1000)

    await scene.worker().renew(first, second)

    assert await scene.score("a", "q1") == await scene.score("b", "q2") == scene.clock.now_ms + LEASE_MS


async def test_no_leases_are_no_call(scene: Scene) -> None:
    assert (await scene.worker().renew()) == ([], [])
