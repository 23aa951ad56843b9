"""Uniqueness: locks taken by an enqueue."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.support.store_harness import KEYS, LEASE_MS, QUEUE, StoreHarness, extra
from tests.support.updates import RawUpdate


def lock(until: str = "finished", on_conflict: str = "reject", ttl_ms: int = 0, max_wait_ms: int = 0) -> bytes:
    return extra(lock=("f:k", until, on_conflict, ttl_ms, max_wait_ms))


async def test_a_hundred_enqueues_at_once_make_one_job(harness: StoreHarness) -> None:
    verdicts = await asyncio.gather(*(harness.enqueue(f"j{number}", extra=lock()) for number in range(100)))

    assert sum(verdict == [True] for verdict in verdicts) == 1
    assert len(await harness.queued()) == 1


@pytest.mark.parametrize("kind", ["end", "dead"])
async def test_the_end_frees_the_lock(harness: StoreHarness, kind: str) -> None:
    await harness.enqueue("a", extra=lock())
    worker = harness.worker()
    job = await worker.claim_one()
    assert await harness.enqueue("b", extra=lock()) == [False]

    await worker.finish(job, kind)  # type: ignore[arg-type]

    assert KEYS.unique("f:k") not in await harness.keys()
    assert await harness.enqueue("b", extra=lock()) == [True]


async def test_a_retry_keeps_the_lock(harness: StoreHarness) -> None:
    await harness.enqueue("a", extra=lock())
    worker = harness.worker()
    await worker.finish(await worker.claim_one(), "retry", 1000)

    assert await harness.enqueue("b", extra=lock()) == [False]


async def test_until_started_the_first_attempt_frees_it(harness: StoreHarness) -> None:
    await harness.enqueue("a", extra=lock("started"))
    assert await harness.enqueue("b", extra=lock("started")) == [False]

    await harness.worker().claim_one()

    assert await harness.enqueue("b", extra=lock("started")) == [True]


@pytest.mark.parametrize("kind", ["limit", "release"])
async def test_until_started_a_job_that_comes_back_without_a_start_holds_it_as_before(
    harness: StoreHarness, kind: Any
) -> None:
    await harness.enqueue("a", extra=lock("started"))
    held = await harness.redis.get(KEYS.unique("f:k"))
    worker = harness.worker()
    harness.clock.advance(50)

    job = await worker.claim_one()
    await worker.finish(job, kind, result=job.spec if kind == "limit" else b"", unstarted=True)

    assert await harness.redis.get(KEYS.unique("f:k")) == held
    assert await harness.redis.pttl(KEYS.unique("f:k")) > 0
    assert await harness.enqueue("b", extra=lock("started")) == [False]


async def test_until_started_a_job_that_comes_back_leaves_the_lock_to_who_took_it_meanwhile(
    harness: StoreHarness,
) -> None:
    await harness.enqueue("a", extra=lock("started"))
    worker = harness.worker()
    job = await worker.claim_one()
    assert await harness.enqueue("b", extra=lock("started")) == [True]

    await worker.finish(job, "limit", result=job.spec)

    assert await harness.enqueue("c", extra=lock("started", "return")) == ["b"]


async def test_until_started_nothing_of_the_lock_is_left_when_the_job_has_ended(harness: StoreHarness) -> None:
    await harness.enqueue("a", extra=lock("started"))
    worker = harness.worker()

    await worker.finish(await worker.claim_one(), ttl_ms=-1)

    assert await harness.keys() == set()


async def test_until_a_time_it_outlives_the_job(harness: StoreHarness) -> None:
    await harness.enqueue("a", extra=lock("", ttl_ms=30_000))
    worker = harness.worker()
    await worker.finish(await worker.claim_one())

    assert await harness.enqueue("b", extra=lock("", ttl_ms=30_000)) == [False]
    assert 0 < await harness.redis.pttl(KEYS.unique("f:k")) <= 30_000


async def test_return_gives_the_job_that_has_the_lock(harness: StoreHarness) -> None:
    await harness.enqueue("a", extra=lock())

    assert await harness.enqueue("b", extra=lock(on_conflict="return")) == ["a"]
    assert await harness.queued() == ["a"]


async def test_replace_gives_the_waiting_job_the_new_payload_and_due_time(harness: StoreHarness) -> None:
    await harness.enqueue("a", payload=b"old", when="+1000", extra=lock())

    assert await harness.enqueue("b", payload=b"new", when="+9000", extra=lock(on_conflict="replace")) == ["a"]

    assert await harness.redis.get(KEYS.job("a")) == b"new"
    assert await harness.score("a") == harness.clock() + 9000
    assert await harness.queued() == ["a"]


async def test_replace_finds_a_job_of_the_same_call(harness: StoreHarness) -> None:
    asks = lock("started", "replace")

    assert await harness.enqueue("a", "b", "c", when="+500", extra=asks) == [True, "a", "a"]
    assert await harness.queued() == ["a"]


async def test_replace_leaves_a_running_job_alone(harness: StoreHarness) -> None:
    await harness.enqueue("a", payload=b"old", extra=lock())
    await harness.worker().claim_one()

    assert await harness.enqueue("b", payload=b"new", extra=lock(on_conflict="replace")) == [False]
    assert await harness.redis.get(KEYS.job("a")) == b"old"


async def test_a_replaced_job_is_as_new(harness: StoreHarness) -> None:
    """Its attempts and their errors were those of other arguments."""
    asks = lock(on_conflict="replace")
    await harness.enqueue("a", payload=b"old", extra=asks)
    worker = harness.worker()
    for _ in range(3):
        job = await worker.claim_one()
        await harness.store.turn([RawUpdate(job.id, job.queue, job.token, "retry", error=b"an error").update()], None)

    assert await harness.enqueue("b", payload=b"new", extra=asks) == ["a"]

    again = await worker.claim_one()
    assert (again.id, again.payload, again.attempt) == ("a", b"new", 1)
    assert (await harness.store.peek("a", QUEUE, payload=True)).errors == ()


async def test_replace_reaches_a_job_that_crashed_and_waits_for_its_turn(harness: StoreHarness) -> None:
    asks = extra(("r", "r:f:", 4.0 * LEASE_MS, 1), lock=("f:k", "finished", "replace", 0, 0))
    await harness.enqueue("a", payload=b"old", extra=asks)
    worker = harness.worker()
    await worker.claim_one()
    harness.clock.advance(LEASE_MS + 1)
    await worker.claim(10)

    assert await harness.enqueue("b", payload=b"new", extra=asks) == ["a"]

    harness.clock.advance(4 * LEASE_MS)
    again = await worker.claim_one()
    assert (again.payload, again.attempt, again.crashes) == (b"new", 1, 0)


@pytest.mark.parametrize("on_conflict", ["reject", "return", "replace"])
@pytest.mark.parametrize("until", ["started", "finished"])
async def test_a_waiting_job_that_is_to_be_aborted_stands_for_no_other(
    harness: StoreHarness, until: str, on_conflict: str
) -> None:
    asks = lock(until, on_conflict)
    await harness.enqueue("a", when="+5000", extra=asks)
    await harness.store.abort("a", QUEUE)

    assert await harness.enqueue("b", when="+5000", extra=asks) == [True]

    worker = harness.worker()
    aborted = (await worker.claim(10, aborts=True)).jobs
    assert [(job.id, job.flag) for job in aborted] == [("a", "abort")]
    await worker.finish(aborted[0])
    assert await harness.enqueue("c", when="+5000", extra=lock(until, "return")) == ["b"]
    harness.clock.advance(5000)
    assert await worker.claim_ids(10) == ["b"]


@pytest.mark.parametrize("on_conflict", ["reject", "return", "replace"])
async def test_while_a_job_that_is_to_be_aborted_runs_there_is_no_other(
    harness: StoreHarness, on_conflict: str
) -> None:
    await harness.enqueue("a", extra=lock())
    worker = harness.worker()
    job = await worker.claim_one()
    await harness.store.abort("a", QUEUE)

    assert await harness.enqueue("b", extra=lock(on_conflict=on_conflict)) == [False]

    await worker.finish(job)
    assert await harness.enqueue("b", extra=lock(on_conflict=on_conflict)) == [True]


async def test_a_debounce_waits_no_longer_than_its_limit(harness: StoreHarness) -> None:
    asks = lock("started", "replace", max_wait_ms=5000)
    first = harness.clock()
    await harness.enqueue("a", when="+2000", extra=asks)
    for _ in range(4):
        harness.clock.advance(1500)
        await harness.enqueue("b", when="+2000", extra=asks)

    assert await harness.score("a") == first + 5000


async def test_the_lock_of_a_job_that_is_gone_is_free(harness: StoreHarness) -> None:
    await harness.enqueue("a", extra=lock())
    await harness.stock_finish("a")

    assert await harness.enqueue("b", extra=lock()) == [True]


async def test_the_job_of_a_killed_worker_keeps_its_lock_until_it_has_ended_elsewhere(harness: StoreHarness) -> None:
    await harness.enqueue("a", extra=lock())
    await harness.worker("w1").claim_one()
    harness.clock.advance(LEASE_MS + 1)
    other = harness.worker("w2")
    await other.finish(await other.claim_one())

    assert await harness.enqueue("b", extra=lock()) == [True]


async def test_deleting_the_job_frees_the_lock(harness: StoreHarness) -> None:
    await harness.enqueue("a", extra=lock())
    await harness.store.delete("a", QUEUE)

    assert await harness.keys() == set()


async def test_an_early_acknowledged_job_is_not_run_again(harness: StoreHarness) -> None:
    await harness.enqueue("a")
    worker = harness.worker()
    assert await worker.finish(await worker.claim_one(), "early")

    harness.clock.advance(LEASE_MS + 1)

    again = await harness.worker("w2").claim_one()
    assert (again.flag, again.crashes) == ("dead", 1001)
