"""`run_now`: a deferred job becomes due at once; every other one is left alone."""

from __future__ import annotations

from arqestra.store.run_now import run_now
from tests.support.store_harness import KEYS, LEASE_MS, QUEUE, Scene, extra, worker_ear


async def test_a_deferred_job_becomes_due_and_a_waiting_worker_is_woken(scene: Scene) -> None:
    worker = scene.worker()
    await worker.claim(wait=True)
    async with worker_ear(scene.redis, "w1") as ear:
        await scene.enqueue("later", when="+60000")
        assert await run_now(scene.store, "later", QUEUE) == "queued"
        assert "wake" in str(await ear.heard())
    assert await worker.claim_ids() == ["later"]


async def test_its_priority_stays(scene: Scene) -> None:
    await scene.enqueue("plain")
    await scene.enqueue("urgent", when="+60000", extra=extra(priority=5))
    assert await run_now(scene.store, "urgent", QUEUE) == "queued"
    assert await scene.redis.exists(KEYS.promote(QUEUE)) == 0
    assert await scene.worker().claim_ids() == ["urgent", "plain"]


async def test_a_job_that_waits_to_be_retried_runs_again(scene: Scene) -> None:
    await scene.enqueue("a")
    worker = scene.worker()
    await worker.finish(await worker.claim_one(), "retry", 60_000)
    assert await run_now(scene.store, "a", QUEUE) == "queued"
    assert (await worker.claim_one()).attempt == 2


async def test_calling_it_twice_changes_nothing_more(scene: Scene) -> None:
    await scene.enqueue("a", when="+60000")
    assert await run_now(scene.store, "a", QUEUE) == "queued"
    before = await scene.score("a")
    scene.clock.advance(5)
    assert await run_now(scene.store, "a", QUEUE) == "queued"
    assert await scene.score("a") == before, "it does not go to the end of the queue"


async def test_a_running_job_is_left_alone(scene: Scene) -> None:
    await scene.enqueue("a")
    await scene.worker().claim_one()
    before = await scene.score("a")
    assert await run_now(scene.store, "a", QUEUE) == "running"
    assert await scene.score("a") == before
    scene.clock.advance(LEASE_MS)
    assert await run_now(scene.store, "a", QUEUE) == "queued"


async def test_a_job_that_waits_for_a_limit_is_left_alone(scene: Scene) -> None:
    limits = extra(("c", "one", 1))
    await scene.enqueue("first", "second", extra=limits)
    assert await scene.worker().claim_ids() == ["first"]
    assert await run_now(scene.store, "second", QUEUE) == "held"
    assert await scene.worker("w2").claim_ids() == []


async def test_what_is_not_there(scene: Scene) -> None:
    assert await run_now(scene.store, "nobody", QUEUE) == "missing"
    assert await scene.keys() == set()
