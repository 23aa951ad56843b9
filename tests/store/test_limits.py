"""Limits of the fleet: rates and caps hold whoever claims, and give back what ends."""

from __future__ import annotations

import pytest

from arqestra.definitions.limits import encode_limit_spec
from tests.store.limits import BURSTY, RATE, TWO_AT_ONCE, of_tenant
from tests.support.store_harness import KEYS, LEASE_MS, QUEUE, StoreHarness, extra, worker_subscriber


async def test_jobs_under_a_rate_start_one_by_one(harness: StoreHarness) -> None:
    await harness.enqueue("a", "b", "c", extra=extra(RATE))
    worker = harness.worker()

    starts = []
    for _ in range(40):
        starts += [(job_id, harness.clock()) for job_id in await worker.claim_ids(10)]
        harness.clock.advance(100)

    first = starts[0][1]
    assert [(job_id, at - first) for job_id, at in starts] == [("a", 0), ("b", 1000), ("c", 2000)]


async def test_a_claim_says_when_the_next_may_start(harness: StoreHarness) -> None:
    await harness.enqueue("a", "b", extra=extra(RATE))

    claimed = await harness.worker().claim(10, wait=True)

    assert [job.id for job in claimed.jobs] == ["a"]
    assert claimed.next_due_in_ms == 1000


async def test_a_burst_starts_at_once_and_no_window_has_more_than_limit_and_burst(harness: StoreHarness) -> None:
    await harness.enqueue(*(f"j{number:03}" for number in range(40)), extra=extra(BURSTY))
    worker = harness.worker()

    starts = []
    for _ in range(200):
        starts += [harness.clock()] * len(await worker.claim_ids(100))
        harness.clock.advance(100)

    assert starts.count(starts[0]) == 5
    windows = [sum(at <= other < at + 10_000 for other in starts) for at in starts]
    assert max(windows) <= 10 + 5
    assert len(starts) >= 0.95 * 20


async def test_a_backlog_does_not_burst_through_the_limit_after_nobody_worked(harness: StoreHarness) -> None:
    await harness.enqueue(*(f"j{number}" for number in range(20)), extra=extra(RATE))
    worker = harness.worker()
    await worker.claim_ids(10)

    harness.clock.advance(3_600_000)

    assert len(await worker.claim_ids(10)) == 1


async def test_jobs_held_by_a_limit_do_not_hide_the_others(harness: StoreHarness) -> None:
    await harness.enqueue(*(f"limited{number:05}" for number in range(6_000)), extra=extra(RATE))
    await harness.enqueue("free")

    assert await harness.worker().claim_ids(10) == ["limited00000", "free"]


async def test_a_held_job_is_deferred_to_whoever_asks_and_has_no_lease_and_no_attempt(harness: StoreHarness) -> None:
    await harness.enqueue("a", "b", extra=extra(RATE))
    await harness.worker().claim_ids(10)

    assert await harness.lease("b") is None
    assert await harness.attempts("b") == 0
    snapshot = await harness.store.peek("b", QUEUE)
    assert snapshot.score is not None
    assert snapshot.score > snapshot.now_ms


async def test_a_cap_is_never_exceeded_and_a_place_that_is_given_back_goes_to_the_next(harness: StoreHarness) -> None:
    await harness.enqueue("a", "b", "c", "d", extra=extra(TWO_AT_ONCE))
    one, other = harness.worker("w1"), harness.worker("w2")
    first = (await one.claim(10)).jobs
    assert [job.id for job in first] == ["a", "b"]
    assert await other.claim_ids(10) == []

    await one.finish(first[0])

    assert await other.claim_ids(10) == ["c"]
    assert await other.claim_ids(10) == []


async def test_a_place_that_is_given_back_wakes_a_worker(harness: StoreHarness) -> None:
    await harness.enqueue("a", "b", extra=extra(of_tenant("t")))
    one, other = harness.worker("w1"), harness.worker("w2")
    held = (await one.claim(1)).jobs[0]
    async with worker_subscriber(harness.redis, "w2") as subscriber:
        await other.claim(10, wait=True)
        await one.finish(held)
        assert "wake" in (await subscriber.heard())[KEYS.worker_channel("w2")]


@pytest.mark.parametrize("kind", ["end", "dead", "retry", "release"])
async def test_every_way_to_end_an_attempt_gives_the_place_back(harness: StoreHarness, kind: str) -> None:
    await harness.enqueue("a", "b", extra=extra(of_tenant("t")))
    worker = harness.worker()

    await worker.finish(await worker.claim_one(), kind, 0 if kind in ("end", "dead") else 60_000)  # type: ignore[arg-type]

    assert await worker.claim_ids(10) == ["b"]


async def test_the_places_of_a_dead_worker_are_free_within_a_lease(harness: StoreHarness) -> None:
    await harness.enqueue("a", "b", extra=extra(of_tenant("t")))
    await harness.worker("w1").claim_ids(1)
    other = harness.worker("w2")
    assert await other.claim_ids(10) == []

    harness.clock.advance(LEASE_MS + 1)

    assert len(await other.claim_ids(10)) == 1
    assert await harness.redis.zcard(KEYS.holders("c:f:t")) == 1


async def test_a_place_whose_job_vanished_is_free_within_a_lease(harness: StoreHarness) -> None:
    await harness.enqueue("a", "b", extra=extra(of_tenant("t")))
    await harness.worker("w1").claim_ids(1)
    other = harness.worker("w2")
    assert await other.claim_ids(10) == []
    await harness.stock_finish("a")

    harness.clock.advance(LEASE_MS + 1)

    assert await other.claim_ids(10) == ["b"]


async def test_a_cap_holds_while_leases_are_renewed(harness: StoreHarness) -> None:
    await harness.enqueue("a", "b", extra=extra(of_tenant("t")))
    one, other = harness.worker("w1"), harness.worker("w2")
    held = (await one.claim(1)).jobs[0]
    for _ in range(10):
        harness.clock.advance(LEASE_MS // 2)
        await one.renew(held)
        assert await other.claim_ids(10) == []


async def test_a_crashed_job_that_waits_for_its_rate_is_not_its_old_workers_any_more(harness: StoreHarness) -> None:
    await harness.enqueue("a", extra=extra(("r", "r:f:", 4.0 * LEASE_MS, 1)))
    old, new = harness.worker("w1"), harness.worker("w2")
    job = await old.claim_one()
    harness.clock.advance(LEASE_MS + 1)
    assert await new.claim_ids(10) == []

    assert (await old.renew(job)).lost == ["a"]
    assert not await old.finish(job)
    assert not await old.finish(job, "release")
    assert await harness.score("a") == 8639999999999000

    harness.clock.advance(3 * LEASE_MS)
    again = await new.claim_one()
    assert (again.id, again.crashes) == ("a", 1)


async def test_a_worker_that_lost_its_place_to_another_cannot_have_it_back(harness: StoreHarness) -> None:
    await harness.enqueue("a", "b", extra=extra(of_tenant("t")))
    old, new = harness.worker("w1"), harness.worker("w2")
    job = await old.claim_one()
    harness.clock.advance(LEASE_MS + 1)
    other = await new.claim_one()

    renewed = await old.renew(job)

    assert renewed.lost == [job.id]
    assert not await old.finish(job)
    assert (await new.renew(other)).lost == []
    await new.finish(other)
    again = await new.claim_one()
    assert {again.id, other.id} == {"a", "b"}
    await new.finish(again, ttl_ms=-1)
    assert await harness.keys() == {KEYS.result(other.id)}


async def test_the_crashes_of_a_held_job_are_remembered_however_long_it_waits(harness: StoreHarness) -> None:
    hour_ms = 3_600_000
    await harness.enqueue("a", extra=extra(("r", "r:f:", 1.0 * hour_ms, 1)))
    worker = harness.worker()
    await worker.claim_one()
    harness.clock.advance(LEASE_MS + 1)

    claimed = await worker.claim(10)

    assert claimed.jobs == []
    assert await harness.redis.pttl(KEYS.lease("a")) > hour_ms


async def test_a_held_suspect_waits_for_a_worker_without_one(harness: StoreHarness) -> None:
    await harness.enqueue("a", extra=extra(RATE))
    worker = harness.worker()
    for _ in range(2):
        await worker.claim_one()
        harness.clock.advance(LEASE_MS + 1)
    await harness.enqueue("b", extra=extra(RATE))
    await worker.claim_one()
    await worker.claim(10)
    harness.clock.advance(1000)

    assert (await worker.claim(10, holds_suspect=True)).jobs == []

    harness.clock.advance(1000)
    assert (await worker.claim_one()).crashes == 2


async def test_one_limit_holds_across_queues(harness: StoreHarness) -> None:
    await harness.enqueue("a", extra=extra(of_tenant("t")), queue="q1")
    await harness.enqueue("b", extra=extra(of_tenant("t")), queue="q2")
    one, two = harness.worker("w1", queue="q1"), harness.worker("w2", queue="q2")
    held = (await one.claim(1)).jobs[0]
    assert await two.claim_ids(10) == []

    await one.finish(held)

    assert await two.claim_ids(10) == ["b"]


async def test_limits_that_a_worker_knows_and_the_producer_did_not(harness: StoreHarness) -> None:
    await harness.enqueue("a", "b")
    worker = harness.worker()
    jobs = (await worker.claim(10)).jobs
    spec = encode_limit_spec([of_tenant("t")])

    for job in jobs:
        await worker.finish(job, "limit", result=spec)

    claimed = (await worker.claim(10)).jobs
    assert [(job.id, job.spec, job.attempt) for job in claimed] == [("a", spec, 1)]
    await worker.finish(claimed[0])
    assert [job.id for job in (await worker.claim(10)).jobs] == ["b"]


async def test_a_deferred_job_is_judged_when_it_is_due(harness: StoreHarness) -> None:
    await harness.enqueue("a", "b", when="+500", extra=extra(of_tenant("t")))
    worker = harness.worker()
    assert await worker.claim_ids(10) == []

    harness.clock.advance(500)

    assert await worker.claim_ids(10) == ["a"]
