"""Limits of the fleet: `lua/_limits.lua` through enqueue, claim and finish."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest

from arqestra.definitions.limits import encode_limit_spec
from tests.support.store_harness import KEYS, LEASE_MS, QUEUE, StoreHarness, extra, worker_subscriber

RATE = ("r", "r:f:", 1000.0, 1)
BURSTY = ("r", "r:f:", 1000.0, 5)
TWO_AT_ONCE = ("c", "c:f:", 2)


def of_tenant(tenant: str, jobs: int = 1) -> tuple[object, ...]:
    return ("c", f"c:f:{tenant}", jobs)


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


async def test_tenants_are_served_round_robin(harness: StoreHarness) -> None:
    await harness.enqueue(*(f"big{number:04}" for number in range(2_000)), extra=extra(of_tenant("big", 10)))
    await harness.enqueue(*(f"small{number}" for number in range(10)), extra=extra(of_tenant("small", 10)))
    worker = harness.worker()

    served: list[str] = []
    for _ in range(30):
        job = await worker.claim_one()
        served.append(job.id.rstrip("0123456789"))
        await worker.finish(job)

    assert Counter(served[:20]) == {"big": 10, "small": 10}


async def test_a_job_under_two_limits_needs_both(harness: StoreHarness) -> None:
    await harness.enqueue("a", "b", extra=extra(RATE, of_tenant("t")))
    worker = harness.worker()
    first = await worker.claim_one()
    harness.clock.advance(1000)
    assert await worker.claim_ids(10) == []  # the rate would let it, the tenant's place is taken

    await worker.finish(first)

    assert await worker.claim_ids(10) == ["b"]


async def test_jobs_under_two_limits_wait_in_one_lane_whichever_of_the_two_is_full(harness: StoreHarness) -> None:
    await harness.enqueue(*(f"j{number:02}" for number in range(50)), extra=extra(RATE, of_tenant("t")))
    worker = harness.worker()

    lanes = set()
    for started in range(1, 11):
        job = await worker.claim_one()
        for _ in ("both are full", "the rate would let it, the place is taken"):
            assert await worker.claim_ids(10) == []
            lanes |= {key for key in await harness.keys() if key.startswith(KEYS.lane(QUEUE, ""))}
            assert await harness.redis.zcard(min(lanes)) == 50 - started
            harness.clock.advance(1000)
        await worker.finish(job)

    assert len(lanes) == 1


@pytest.mark.parametrize(
    ("own", "shared"),
    [
        (lambda tenant: ("r", f"r:f:{tenant}", 1.0, 1), ("c", "c:f:", 2)),
        (lambda tenant: ("c", f"c:f:{tenant}", 1), ("c", "q:arq:queue", 2)),
        (lambda tenant: ("c", f"c:f:{tenant}", 5), ("c", "q:arq:queue", 2)),
        (lambda tenant: ("c", f"c:f:{tenant}", 1), ("c", "q:arq:queue", 1)),
    ],
)
async def test_tenants_that_share_a_limit_are_served_round_robin(harness: StoreHarness, own: Any, shared: Any) -> None:
    await harness.enqueue(*(f"big{number:04}" for number in range(1_500)), extra=extra(own("big"), shared))
    await harness.enqueue(*(f"small{number}" for number in range(10)), extra=extra(own("small"), shared))
    worker = harness.worker()

    served, running = [], (await worker.claim(10)).jobs
    for _ in range(30):
        served += [job.id.rstrip("0123456789") for job in running[:1]]
        await worker.finish(running.pop(0))
        harness.clock.advance(1)
        running += (await worker.claim(10)).jobs

    assert Counter(served[:22])["small"] == 10


async def test_a_lane_goes_to_the_limit_that_keeps_it_waiting_and_leaves_room_for_others(harness: StoreHarness) -> None:
    shared = ("c", "c:f:", 3)
    slow, quick = ("r", "r:f:slow", 60_000.0, 1), ("r", "r:f:quick", 1.0, 1)
    await harness.enqueue("slow0", "slow1", "slow2", extra=extra(slow, shared))
    await harness.enqueue("quick0", "quick1", "quick2", extra=extra(quick, shared))
    worker = harness.worker()

    started = []
    for _ in range(4):
        for job in (await worker.claim(10)).jobs:
            started.append(job.id)
            await worker.finish(job)
        harness.clock.advance(1)

    assert sorted(started) == ["quick0", "quick1", "quick2", "slow0"]
    harness.clock.advance(60_000)
    assert await worker.claim_ids(10) == ["slow1"]


async def test_a_lane_of_long_names_has_a_key_of_a_bounded_size(harness: StoreHarness) -> None:
    limits = ("r", "r:" + "f" * 2_000, 1000.0, 1), ("c", "c:" + "f" * 2_000, 1)
    await harness.enqueue("a", "b", extra=extra(*limits))
    worker = harness.worker()
    lane = next(key for key in await harness.keys() if key.startswith(KEYS.lane(QUEUE, "")))
    assert len(lane) < 300

    for _ in range(2):
        await worker.finish(await worker.claim_one(), ttl_ms=-1)
        harness.clock.advance(1000)

    assert {key.partition(":r:")[0] for key in await harness.keys()} == {"arqestra:rate"}


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


async def test_due_jobs_behind_those_that_are_held_are_found_in_the_same_claim(harness: StoreHarness) -> None:
    await harness.enqueue("running", extra=extra(of_tenant("t")))
    worker = harness.worker()
    await worker.claim_one()
    for number in range(600):  # more than two pages, held and free ones in turns of ten
        limited = number // 10 % 2 == 0
        await harness.enqueue(f"j{number:03}", when="+5", extra=extra(of_tenant("t")) if limited else b"")
    harness.clock.advance(5)

    assert await worker.claim_ids(300) == [f"j{number:03}" for number in range(600) if number // 10 % 2]


@pytest.mark.parametrize("limit", [of_tenant("t", 1_000), ("r", "r:f:", 0.001, 1_000), ("r", "r:f:", 1000.0, 60)])
async def test_a_lane_with_room_counts_by_its_jobs_in_the_fair_share(
    harness: StoreHarness, limit: tuple[object, ...]
) -> None:
    await harness.enqueue(*(f"j{number:03}" for number in range(200)), extra=extra(limit))
    for name in ("w2", "w3"):
        await harness.redis.zadd(KEYS.waiting(QUEUE), {name: harness.clock()})

    async with worker_subscriber(harness.redis, "w2", "w3"):
        claimed = await harness.worker().claim(40, wait=True)

    share = 20 if limit[-1] == 60 else 40
    assert len(claimed.jobs) == share


async def test_a_full_lane_counts_as_one_job_in_the_fair_share(harness: StoreHarness) -> None:
    await harness.enqueue(*(f"j{number:03}" for number in range(200)), extra=extra(of_tenant("t", 1)))
    await harness.redis.zadd(KEYS.waiting(QUEUE), {"w2": harness.clock()})

    async with worker_subscriber(harness.redis, "w2") as subscriber:
        claimed = await harness.worker().claim(40, wait=True)
        assert await subscriber.heard() == {}

    assert len(claimed.jobs) == 1
    assert not claimed.shared


async def test_a_deferred_job_is_judged_when_it_is_due(harness: StoreHarness) -> None:
    await harness.enqueue("a", "b", when="+500", extra=extra(of_tenant("t")))
    worker = harness.worker()
    assert await worker.claim_ids(10) == []

    harness.clock.advance(500)

    assert await worker.claim_ids(10) == ["a"]


async def test_the_abort_of_a_held_job_takes_it_out_of_its_lane(harness: StoreHarness) -> None:
    await harness.enqueue("a", "b", "c", extra=extra(of_tenant("t")))
    worker = harness.worker()
    running = (await worker.claim(1)).jobs[0]
    await harness.store.abort("b", QUEUE)

    aborted = (await worker.claim(10, aborts=True)).jobs
    assert [(job.id, job.flag) for job in aborted] == [("b", "abort")]
    await worker.finish(aborted[0])
    await worker.finish(running)

    assert await worker.claim_ids(10) == ["c"]


async def test_a_stock_abort_of_a_held_job_does_not_let_it_start(harness: StoreHarness) -> None:
    await harness.enqueue("a", "b", extra=extra(of_tenant("t")))
    worker = harness.worker()
    await worker.claim(1)

    await harness.stock_abort("b")

    assert await worker.claim_ids(10) == []
    assert await harness.score("b") == 8639999999999000


@pytest.mark.parametrize("claims", [0, 1])  # a single slot goes to lanes and queue in turns
async def test_a_stock_abort_of_a_held_job_that_crashed_leaves_it_in_its_lane_until_it_starts(
    harness: StoreHarness, claims: int
) -> None:
    await harness.enqueue("a", "b", extra=extra(of_tenant("t")))
    old, new = harness.worker("w1"), harness.worker("w2")
    assert await old.claim_ids(1) == ["a"]
    harness.clock.advance(LEASE_MS + 1)
    other = await new.claim_one()
    assert other.id == "b"
    new.number += claims
    assert (await new.claim(10)).jobs == []
    await new.finish(other)

    await harness.stock_abort("a")

    job = await new.claim_one()
    assert (job.id, job.crashes) == ("a", 1)
    assert await harness.redis.exists(KEYS.held(QUEUE), KEYS.gates(QUEUE)) == 0


async def test_a_claim_whose_reply_was_lost_gives_the_same_jobs_and_counts_them_once(harness: StoreHarness) -> None:
    await harness.enqueue("a", "b", "c", extra=extra(TWO_AT_ONCE))
    worker = harness.worker()
    first = await worker.claim(10)

    again = await worker.claim_again()

    assert again.jobs == first.jobs
    assert await harness.redis.zcard(KEYS.holders("c:f:")) == 2


async def test_a_ghost_leaves_nothing_of_its_limits_and_locks(harness: StoreHarness) -> None:
    """A stock worker was killed after it wrote the result: only the queue entry stayed."""
    asks = extra(RATE, of_tenant("t"), lock=("f:k", "finished", "reject", 0, 0))
    await harness.enqueue("a", extra=asks)
    await harness.enqueue("b", extra=extra(RATE, of_tenant("t")))
    await harness.stock_finish("a")
    await harness.redis.zadd(QUEUE, {"a": harness.clock()})
    worker = harness.worker()

    assert await worker.claim_ids(1) == []
    job = await worker.claim_one()
    assert job.id == "b"
    await worker.finish(job, ttl_ms=-1)

    assert await harness.keys() == {KEYS.result("a"), KEYS.rate("r:f:")}


async def test_what_stock_workers_leave_of_locks_is_swept_up(harness: StoreHarness) -> None:
    for number in range(50):
        await harness.enqueue(f"j{number}", extra=extra(lock=(f"f:{number}", "finished", "reject", 0, 0)))
        await harness.stock_claim(f"j{number}")
        await harness.stock_finish(f"j{number}")
        await harness.redis.delete(KEYS.result(f"j{number}"))
    await harness.enqueue("waits", extra=extra(lock=("f:k", "finished", "reject", 0, 0)), when="+60000")
    worker = harness.worker()

    for _ in range(200):
        await worker.claim(10)

    assert await harness.redis.hkeys(KEYS.specs(QUEUE)) == [b"waits"]  # type: ignore[misc]
    assert await harness.keys() == {QUEUE, KEYS.job("waits"), KEYS.unique("f:k"), KEYS.specs(QUEUE)}


async def test_a_held_job_that_a_stock_worker_ended_leaves_its_lane_with_its_spec(harness: StoreHarness) -> None:
    """Else a job with a spec would be taken for one without: whether all wait in lanes is told by numbers."""
    slow = ("r", "r:slow:", 3_600_000.0, 1)
    await harness.enqueue("j1", "j2", "j3", extra=extra(slow))
    worker = harness.worker()
    assert await worker.claim_ids(10) == ["j1"]
    await harness.redis.zrem(QUEUE, "j2")  # a stock abort() made it look due, and a stock worker ran it
    await harness.redis.delete(KEYS.job("j2"))

    for _ in range(200):
        await worker.claim(10)

    assert await harness.redis.hkeys(KEYS.held(QUEUE)) == [b"j3"]  # type: ignore[misc]
    assert set(await harness.redis.hkeys(KEYS.specs(QUEUE))) == {b"j1", b"j3"}  # type: ignore[misc]


async def test_nothing_is_left_when_all_has_ended(harness: StoreHarness) -> None:
    await harness.enqueue("a", "b", "c", extra=extra(of_tenant("t"), RATE))
    await harness.enqueue("d", "e", when="+10", extra=extra(RATE, priority=5))
    worker = harness.worker()
    await harness.store.delete("c", QUEUE)
    for _ in range(10):
        harness.clock.advance(1000)
        for job in (await worker.claim(10)).jobs:
            await worker.finish(job, ttl_ms=-1)

    assert await harness.keys() == {KEYS.rate("r:f:")}
    assert await harness.redis.pttl(KEYS.rate("r:f:")) > 0


async def drain_unstarted(harness: StoreHarness, kind: Any, **ending: Any) -> list[str]:
    """Claim ten jobs, none of which starts, without any time passing."""
    worker, ended = harness.worker(), []
    for _ in range(10):
        job = await worker.claim_one()
        ended.append(job.id)
        await worker.finish(job, kind, **ending)
    return ended


@pytest.mark.parametrize("kind", ["end", "dead"])
async def test_jobs_that_end_without_a_start_take_nothing_of_a_rate(harness: StoreHarness, kind: str) -> None:
    await harness.enqueue(*(f"late{number}" for number in range(10)), "to run", "to wait", extra=extra(RATE))

    ended = await drain_unstarted(harness, kind, unstarted=True, ttl_ms=-1)

    assert ended == [f"late{number}" for number in range(10)]
    worker = harness.worker()
    assert await worker.claim_ids(10) == ["to run"]
    harness.clock.advance(999)
    assert await worker.claim_ids(10) == []


async def test_a_job_that_goes_back_for_other_limits_takes_nothing_of_a_rate(harness: StoreHarness) -> None:
    await harness.enqueue(*(f"j{number}" for number in range(10)), extra=extra(RATE))
    spec = encode_limit_spec([RATE, of_tenant("t", 5)])

    await drain_unstarted(harness, "limit", result=spec)

    worker = harness.worker()
    assert len(await worker.claim_ids(10)) == 1
    harness.clock.advance(999)
    assert await worker.claim_ids(10) == []


async def test_a_start_that_is_taken_back_opens_the_gate_in_every_queue_and_wakes_workers(
    harness: StoreHarness,
) -> None:
    await harness.enqueue("a", extra=extra(RATE))
    await harness.enqueue("b", extra=extra(RATE), queue="other")
    one, other = harness.worker("w1"), harness.worker("w2", queue="other")
    job = await one.claim_one()
    async with worker_subscriber(harness.redis, "w2") as subscriber:
        assert (await other.claim(1, wait=True)).jobs == []
        await subscriber.heard()
        await one.finish(job, unstarted=True)
        assert await subscriber.heard() == {KEYS.worker_channel("w2"): ["wake"]}
    assert await other.claim_ids(1) == ["b"]


async def test_a_start_is_taken_back_as_if_it_had_never_been_counted(harness: StoreHarness) -> None:
    """Also if later claims have started jobs: these keep their distance."""
    await harness.enqueue("a", "b", "c", extra=extra(RATE))
    one, other = harness.worker("w1"), harness.worker("w2")
    late = await one.claim_one()
    harness.clock.advance(1000)
    assert await other.claim_ids(10) == ["b"]
    harness.clock.advance(500)

    await one.finish(late, unstarted=True)

    assert await other.claim_ids(10) == []
    harness.clock.advance(499)
    assert await other.claim_ids(10) == []
    harness.clock.advance(1)
    assert await other.claim_ids(10) == ["c"]


async def test_a_start_that_many_claims_followed_is_not_taken_back(harness: StoreHarness) -> None:
    quick = ("r", "r:f:", 1.0, 1_000)
    await harness.enqueue(*(f"j{number:02}" for number in range(30)), extra=extra(quick))
    first = await harness.worker("w0").claim_one()
    for number in range(1, 20):
        await harness.worker(f"w{number}").claim_one()
    rate = await harness.redis.get(KEYS.rate("r:f:"))

    await harness.worker().finish(first, unstarted=True)

    assert await harness.redis.get(KEYS.rate("r:f:")) == rate
    assert rate is not None
    assert len(rate) < 500


@pytest.mark.parametrize("seed", range(12))
async def test_whatever_is_taken_back_no_window_has_more_starts_than_limit_and_burst(
    harness: StoreHarness, seed: int
) -> None:
    """Jobs that do not start end late, after others have started."""
    dice, burst, interval_ms = random.Random(seed), 1 + seed % 3, 500
    await harness.enqueue(*(f"j{number:03}" for number in range(400)), extra=extra(("r", "r:f:", 500.0, burst)))
    workers = [harness.worker(f"w{number}") for number in range(3)]
    starts, late = [], []
    for _ in range(200):
        harness.clock.advance(dice.choice((0, 0, 1, 100, 499, 500, 2_000)))
        for job in (await dice.choice(workers).claim(dice.randint(1, 3), lease_ms=10_000_000)).jobs:
            if dice.random() < 0.5:
                starts.append(harness.clock())
                await harness.worker().finish(job)
            else:
                late.append(job)
        if late and dice.random() < 0.5:
            await harness.worker().finish(late.pop(dice.randrange(len(late))), unstarted=True)

    assert len(starts) > 30
    for first, at in enumerate(starts):
        for last in range(first, len(starts)):
            assert last - first + 1 <= (starts[last] - at) / interval_ms + burst
