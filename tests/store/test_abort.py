"""`abort`: durable, told to whoever can act on it, aimed at this incarnation of the id."""

from __future__ import annotations

from tests.support.store_harness import KEYS, LEASE_MS, QUEUE, Scene, extra, worker_ear


async def test_the_worker_that_runs_the_job_is_told_at_once(scene: Scene) -> None:
    await scene.enqueue("a")
    await scene.worker("w1").claim_one()
    async with worker_ear(scene.redis, "w1", "w2") as ear:
        assert await scene.store.abort("a", QUEUE) == "running"
        assert await ear.heard() == {KEYS.worker_channel("w1"): ["abort a"]}


async def test_a_worker_is_woken_to_record_the_abort_of_a_queued_job(scene: Scene) -> None:
    await scene.enqueue("a", when="+100000")
    await scene.worker("w1").claim(wait=True)
    async with worker_ear(scene.redis, "w1") as ear:
        assert await scene.store.abort("a", QUEUE) == "queued"
        assert await ear.heard() == {KEYS.worker_channel("w1"): ["wake"]}


async def test_one_worker_that_rests_is_woken_to_record_an_abort_in_a_paused_queue(scene: Scene) -> None:
    await scene.enqueue("a")
    await scene.store.pause(QUEUE, paused=True)
    for name in ("killed", "w1", "w2"):
        assert (await scene.worker(name).claim(wait=True)).jobs == []
        scene.clock.advance(1)
    async with worker_ear(scene.redis, "w1", "w2") as ear:
        assert await scene.store.abort("a", QUEUE) == "queued"
        assert await ear.heard() == {KEYS.worker_channel("w1"): ["wake"]}

    assert [job.flag for job in (await scene.worker("w1").claim(wait=True, aborts=True)).jobs] == ["abort"]


async def test_a_worker_is_woken_for_a_job_that_crashed_and_waits_in_a_lane(scene: Scene) -> None:
    await scene.enqueue("a", extra=extra(("r", "r:f:", 4.0 * LEASE_MS, 1)))
    await scene.worker("w1").claim_one()
    scene.clock.advance(LEASE_MS + 1)
    async with worker_ear(scene.redis, "w1", "w2") as ear:
        await scene.worker("w2").claim(wait=True)
        await ear.heard()
        assert await scene.store.abort("a", QUEUE) == "queued"
        assert await ear.heard() == {KEYS.worker_channel("w2"): ["wake"]}

    assert [job.flag for job in (await scene.worker("w2").claim(aborts=True)).jobs] == ["abort"]


async def test_a_request_lasts_until_a_worker_takes_it(scene: Scene) -> None:
    await scene.enqueue("a", when="+100000")
    await scene.store.abort("a", QUEUE)
    scene.clock.advance(3_600_000)

    assert (await scene.worker().claim(aborts=True)).jobs[0].flag == "abort"


async def test_the_end_of_the_job_clears_the_request(scene: Scene) -> None:
    await scene.enqueue("a")
    worker = scene.worker()
    job = await worker.claim_one()
    await scene.store.abort("a", QUEUE)
    await worker.finish(job, ttl_ms=-1)

    assert await scene.keys() == set()


async def test_a_request_survives_a_retry(scene: Scene) -> None:
    await scene.enqueue("a")
    worker = scene.worker()
    job = await worker.claim_one()
    await scene.store.abort("a", QUEUE)
    await worker.finish(job, "retry", 60_000)

    assert [(job.id, job.flag) for job in (await worker.claim(aborts=True)).jobs] == [("a", "abort")]


async def test_a_job_enqueued_anew_is_not_aborted_by_an_earlier_request(scene: Scene) -> None:
    await scene.enqueue("a", unique=True)
    worker = scene.worker()
    job = await worker.claim_one()
    await scene.store.abort("a", QUEUE)
    await worker.finish(job, ttl_ms=-1)
    await scene.enqueue("a", unique=True)

    assert [job.flag for job in (await worker.claim(aborts=True)).jobs] == [""]


async def test_a_job_that_has_ended_or_never_was_leaves_no_request(scene: Scene) -> None:
    await scene.enqueue("a")
    worker = scene.worker()
    await worker.finish(await worker.claim_one())

    assert await scene.store.abort("a", QUEUE) == "ended"
    assert await scene.store.abort("never was", QUEUE) == "missing"
    assert await scene.keys() == {"arq:result:a"}


async def test_a_stock_workers_job_is_aborted_by_the_stock_set(scene: Scene) -> None:
    await scene.stock_enqueue("a")
    await scene.stock_claim("a")

    assert await scene.store.abort("a", QUEUE) == "running"
    assert await scene.redis.zrange("arq:abort", 0, -1) == [b"a"]
