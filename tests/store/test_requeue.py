"""`requeue`: a job that ended runs once more, if its result is still the one that was read."""

from __future__ import annotations

import pytest

from tests.support.store_harness import KEYS, QUEUE, Kind, Scene, worker_ear


@pytest.mark.parametrize("kind", ["end", "dead"])
async def test_an_ended_job_is_queued_as_if_it_were_new(scene: Scene, kind: Kind) -> None:
    await scene.enqueue("a")
    worker = scene.worker()
    await worker.finish(await worker.claim_one(), "retry")
    await worker.finish(await worker.claim_one(), kind, result=b"failed")
    scene.clock.advance(1000)

    assert await scene.store.requeue("a", QUEUE, b"failed", b"payload again") == "queued"

    assert await scene.keys() == {QUEUE, "arq:job:a"}
    job = await worker.claim_one()
    assert (job.attempt, job.payload, job.due_ms) == (1, b"payload again", scene.clock.now_ms)


async def test_an_ended_job_keeps_its_priority(scene: Scene) -> None:
    await scene.redis.set(KEYS.result("a"), b"failed")
    await scene.enqueue("b")

    await scene.store.requeue("a", QUEUE, b"failed", b"payload again", 5)

    assert await scene.worker().claim_ids(1) == ["a"]


async def test_another_result_is_not_overwritten(scene: Scene) -> None:
    await scene.redis.set(KEYS.result("a"), b"newer")

    assert await scene.store.requeue("a", QUEUE, b"failed", b"payload") == "changed"
    assert await scene.store.requeue("never was", QUEUE, b"failed", b"payload") == "changed"
    assert await scene.keys() == {"arq:result:a"}


async def test_a_job_that_runs_again_already_is_left_alone(scene: Scene) -> None:
    await scene.enqueue("a", payload=b"the other's")

    assert await scene.store.requeue("a", QUEUE, b"failed", b"payload") == "exists"
    assert await scene.redis.get(KEYS.job("a")) == b"the other's"


async def test_an_earlier_request_to_abort_does_not_count(scene: Scene) -> None:
    await scene.redis.set(KEYS.result("a"), b"aborted")
    await scene.redis.zadd(KEYS.aborts, {"a": scene.clock.now_ms})

    await scene.store.requeue("a", QUEUE, b"aborted", b"payload")

    assert [job.flag for job in (await scene.worker().claim(aborts=True)).jobs] == [""]


async def test_earlier_attempts_do_not_count(scene: Scene) -> None:
    """A stock worker that was killed while it finished the job may have left its count."""
    await scene.redis.set(KEYS.result("a"), b"failed")
    await scene.redis.set(KEYS.attempts("a"), 4)

    await scene.store.requeue("a", QUEUE, b"failed", b"payload")

    assert (await scene.worker().claim_one()).attempt == 1


async def test_a_waiting_worker_is_woken(scene: Scene) -> None:
    await scene.redis.set(KEYS.result("a"), b"failed")
    await scene.worker("w1").claim(wait=True)
    async with worker_ear(scene.redis, "w1") as ear:
        await scene.store.requeue("a", QUEUE, b"failed", b"payload")
        assert await ear.heard() == {KEYS.worker_channel("w1"): ["wake"]}
