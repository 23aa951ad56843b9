"""`requeue`: a job that ended runs once more, if its result is still the one that was read."""

from __future__ import annotations

import pytest

from tests.support.store_harness import KEYS, QUEUE, Kind, StoreHarness, worker_subscriber


@pytest.mark.parametrize("kind", ["end", "dead"])
async def test_an_ended_job_is_queued_as_if_it_were_new(harness: StoreHarness, kind: Kind) -> None:
    await harness.enqueue("a")
    worker = harness.worker()
    await worker.finish(await worker.claim_one(), "retry")
    await worker.finish(await worker.claim_one(), kind, result=b"failed")
    harness.clock.advance(1000)

    assert await harness.store.requeue("a", QUEUE, b"failed", b"payload again") == "queued"

    assert await harness.keys() == {QUEUE, "arq:job:a"}
    job = await worker.claim_one()
    assert (job.attempt, job.payload, job.due_ms) == (1, b"payload again", harness.clock.now_ms)


async def test_an_ended_job_keeps_its_priority(harness: StoreHarness) -> None:
    await harness.redis.set(KEYS.result("a"), b"failed")
    await harness.enqueue("b")

    await harness.store.requeue("a", QUEUE, b"failed", b"payload again", 5)

    assert await harness.worker().claim_ids(1) == ["a"]


async def test_another_result_is_not_overwritten(harness: StoreHarness) -> None:
    await harness.redis.set(KEYS.result("a"), b"newer")

    assert await harness.store.requeue("a", QUEUE, b"failed", b"payload") == "changed"
    assert await harness.store.requeue("never was", QUEUE, b"failed", b"payload") == "changed"
    assert await harness.keys() == {"arq:result:a"}


async def test_a_job_that_runs_again_already_is_left_alone(harness: StoreHarness) -> None:
    await harness.enqueue("a", payload=b"the other's")

    assert await harness.store.requeue("a", QUEUE, b"failed", b"payload") == "exists"
    assert await harness.redis.get(KEYS.job("a")) == b"the other's"


async def test_an_earlier_request_to_abort_does_not_count(harness: StoreHarness) -> None:
    await harness.redis.set(KEYS.result("a"), b"aborted")
    await harness.redis.zadd(KEYS.aborts, {"a": harness.clock.now_ms})

    await harness.store.requeue("a", QUEUE, b"aborted", b"payload")

    assert [job.flag for job in (await harness.worker().claim(aborts=True)).jobs] == [""]


async def test_earlier_attempts_do_not_count(harness: StoreHarness) -> None:
    """A stock worker that was killed while it finished the job may have left its count."""
    await harness.redis.set(KEYS.result("a"), b"failed")
    await harness.redis.set(KEYS.attempts("a"), 4)

    await harness.store.requeue("a", QUEUE, b"failed", b"payload")

    assert (await harness.worker().claim_one()).attempt == 1


async def test_a_waiting_worker_is_woken(harness: StoreHarness) -> None:
    await harness.redis.set(KEYS.result("a"), b"failed")
    await harness.worker("w1").claim(wait=True)
    async with worker_subscriber(harness.redis, "w1") as subscriber:
        await harness.store.requeue("a", QUEUE, b"failed", b"payload")
        assert await subscriber.heard() == {KEYS.worker_channel("w1"): ["wake"]}
