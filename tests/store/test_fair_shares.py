"""Jobs that wait for limits: round robin between tenants, wait lists of their own, fair shares of a claim."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from tests.store.limits import RATE, of_tenant
from tests.support.store_harness import KEYS, QUEUE, StoreHarness, extra, worker_subscriber


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
            lanes |= {key for key in await harness.keys() if key.startswith(KEYS.limit_group(QUEUE, ""))}
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
    lane = next(key for key in await harness.keys() if key.startswith(KEYS.limit_group(QUEUE, "")))
    assert len(lane) < 300

    for _ in range(2):
        await worker.finish(await worker.claim_one(), ttl_ms=-1)
        harness.clock.advance(1000)

    assert {key.partition(":r:")[0] for key in await harness.keys()} == {"arqestra:rate"}


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
    assert not claimed.left_jobs_for_others
