"""The abort of a job that waits for its parents: until it is recorded, the job goes on waiting for them."""

from __future__ import annotations

from tests.store.scene import LEASE_MS, QUEUE, Scene


async def test_a_job_that_waits_for_its_parents_is_not_run_by_whom_aborts_are_not_allowed(scene: Scene) -> None:
    """The worker that was to record its abort died; or it was stopped."""
    await scene.enqueue("parent", when="+100000")
    await scene.enqueue("child", parents=("parent",))
    await scene.stock_abort("child")
    await scene.worker("dying").claim_one(aborts=True)
    scene.clock.advance(LEASE_MS)

    assert await scene.worker("w2").claim_ids() == []
    stopped = scene.worker("stopped")
    await stopped.finish(await stopped.claim_one(aborts=True), "retry")
    assert await scene.worker("w2").claim_ids() == []


async def test_a_child_whose_abort_was_not_recorded_starts_when_its_parents_ended_meanwhile(scene: Scene) -> None:
    await scene.enqueue("parent")
    await scene.enqueue("child", parents=("parent",))
    worker = scene.worker("w1")
    parent = await worker.claim_one()
    await scene.store.abort("child", QUEUE)
    stopped = scene.worker("stopped")
    child = await stopped.claim_one(aborts=True)
    await worker.finish(parent)
    await stopped.finish(child, "retry")

    assert await worker.claim_ids() == ["child"]
