"""Jobs that end or go back without a start take nothing of a rate."""

from __future__ import annotations

import random
from typing import Any

import pytest

from arqestra.definitions.limits import encode_limit_spec
from tests.store.limits import RATE, of_tenant
from tests.support.store_harness import KEYS, StoreHarness, extra, worker_subscriber


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
