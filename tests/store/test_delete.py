"""`delete`: every trace of a job goes, unless a worker holds it."""

from __future__ import annotations

from tests.support.store_harness import KEYS, LEASE_MS, QUEUE, Ear, Scene


async def test_a_queued_job_leaves_no_trace(scene: Scene) -> None:
    await scene.enqueue("a", attempts=3)
    await scene.store.abort("a", QUEUE)

    assert await scene.store.delete("a", QUEUE) == "deleted"
    assert await scene.keys() == set()


async def test_an_ended_job_leaves_no_trace(scene: Scene) -> None:
    await scene.enqueue("a")
    worker = scene.worker()
    await worker.finish(await worker.claim_one(), "dead")

    assert await scene.store.delete("a", QUEUE) == "deleted"
    assert await scene.keys() == set()


async def test_a_running_job_is_left_alone(scene: Scene) -> None:
    await scene.enqueue("a")
    await scene.worker().claim_one()
    before = await scene.keys()

    assert await scene.store.delete("a", QUEUE) == "running"
    assert await scene.keys() == before


async def test_a_job_of_another_queue_is_left_alone(scene: Scene) -> None:
    await scene.enqueue("running")
    await scene.worker().claim_one()
    await scene.enqueue("queued")
    before = await scene.keys()

    assert await scene.store.delete("running", "another") == "elsewhere"
    assert await scene.store.delete("queued", "another") == "elsewhere"
    assert await scene.keys() == before
    assert await scene.store.delete("queued", QUEUE) == "deleted"


async def test_a_job_that_a_stock_worker_runs_is_left_alone(scene: Scene) -> None:
    await scene.stock_enqueue("a")
    await scene.stock_claim("a")

    assert await scene.store.delete("a", QUEUE) == "running"


async def test_a_job_whose_lease_ran_out_is_deleted_and_its_zombie_writes_nothing(scene: Scene) -> None:
    await scene.enqueue("a")
    worker = scene.worker()
    job = await worker.claim_one()
    scene.clock.advance(LEASE_MS)

    assert await scene.store.delete("a", QUEUE) == "deleted"
    assert not await worker.finish(job)
    assert await scene.keys() == set()


async def test_an_id_that_is_only_kept_taken_is_freed(scene: Scene) -> None:
    await scene.enqueue("a", unique=True)
    worker = scene.worker()
    await worker.finish(await worker.claim_one(), "end", 30_000, ttl_ms=-1)

    assert await scene.store.delete("a", QUEUE) == "deleted"
    assert await scene.keys() == set()


async def test_an_unknown_job_is_missing(scene: Scene) -> None:
    assert await scene.store.delete("never was", QUEUE) == "missing"


async def test_the_deletion_is_announced_to_those_who_wait_for_the_result(scene: Scene) -> None:
    await scene.enqueue("a")
    async with Ear(scene.redis, [KEYS.done_channel("a")]) as ear:
        await scene.store.delete("a", QUEUE)
        assert await ear.heard() == {KEYS.done_channel("a"): [""]}


async def test_only_if_it_has_ended(scene: Scene) -> None:
    await scene.enqueue("a")
    before = await scene.keys()
    assert await scene.store.delete("a", QUEUE, ended=True) == "again"
    assert await scene.keys() == before

    worker = scene.worker()
    await worker.finish(await worker.claim_one(), "dead")
    assert await scene.store.delete("a", QUEUE, ended=True) == "deleted"
    assert await scene.keys() == set()
