"""The turn of a busy worker: by one plain path (`_turn_plain.lua`), and the same as an end and a claim apart."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from arqestra.store.records import Claimed
from tests.support.replies import reply_of
from tests.support.store_harness import KEYS, QUEUE, StoreHarness, StoreWorker
from tests.support.updates import RawUpdate

SLOTS = 3
AROUND = ("info", "config|resetstat", "fcall", "eval", "evalsha")
Change = Callable[[StoreHarness], Awaitable[Any]]


async def _begin(harness: StoreHarness) -> tuple[StoreWorker, list[RawUpdate]]:
    """A worker with three jobs that have ended, and four more that are due."""
    await harness.enqueue(*(f"job{number}" for number in range(7)))
    harness.clock.advance(10)
    worker = harness.worker("w1")
    jobs = (await worker.claim(SLOTS)).jobs
    updates = [
        RawUpdate(job.id, QUEUE, job.token, "end", ttl_ms=60_000, result=b"of " + job.id.encode()) for job in jobs
    ]
    harness.clock.advance(10)
    return worker, updates


async def _turn(
    harness: StoreHarness, worker: StoreWorker, updates: list[RawUpdate], claims: int
) -> tuple[list[bool | None], Claimed | None]:
    """Send outcomes, and a claim for so many slots, if any."""
    assert worker.request is not None
    request = worker.request._replace(number=2, slots=claims, may_have_offer=False, wait=True) if claims else None
    return await harness.store.turn([update.update() for update in updates], request)


async def _kept(harness: StoreHarness) -> dict[str, tuple[bytes | None, int]]:
    """All keys with their values, and with their TTLs to the nearest 100 s."""
    return {
        key: (await reply_of(harness.redis.dump(key)), round(await harness.redis.pttl(key) / 100_000))
        for key in await harness.keys()
    }


async def test_it_takes_ten_commands_and_a_look_at_the_clock(harness: StoreHarness) -> None:
    worker, updates = await _begin(harness)
    await reply_of(harness.redis.config_resetstat())

    written, claimed = await _turn(harness, worker, updates[:1], claims=1)

    commands = await reply_of(harness.redis.info("commandstats"))
    calls = {name.removeprefix("cmdstat_"): stats["calls"] for name, stats in commands.items()}
    assert sum(calls[name] for name in calls if name not in AROUND) == 10
    assert (written, claimed is not None and [job.id for job in claimed.jobs]) == ([True], ["job3"])


async def _lose_a_lease(harness: StoreHarness) -> None:
    await reply_of(harness.redis.delete(KEYS.lease("job1")))


async def _take_over(harness: StoreHarness) -> None:
    await reply_of(harness.redis.set(KEYS.lease("job1"), "w2.1|2000000000000|1000|0"))


async def _let_leases_run_out(harness: StoreHarness) -> None:
    harness.clock.advance(60_000)


async def _let_others_wait(harness: StoreHarness) -> None:
    await harness.worker("w2", queue="other").claim(wait=True)
    await reply_of(harness.redis.rename(KEYS.waiting("other"), KEYS.waiting(QUEUE)))


async def _leave_a_ghost(harness: StoreHarness) -> None:
    await reply_of(harness.redis.rename(KEYS.job("job4"), KEYS.result("job4")))


async def _limit(harness: StoreHarness) -> None:
    await reply_of(harness.redis.zadd(KEYS.promote(QUEUE), {"job6": harness.clock.now_ms + 1}))


CASES: dict[str, Change] = {
    "plain": lambda harness: harness.enqueue("more"),
    "a-lease-was-lost": _lose_a_lease,
    "another-has-the-job": _take_over,
    "leases-ran-out": _let_leases_run_out,
    "a-stock-worker-runs-one": lambda harness: harness.stock_claim("job3"),
    "attempts-were-made": lambda harness: reply_of(harness.redis.set(KEYS.attempts("job4"), "2")),
    "a-payload-expired": lambda harness: reply_of(harness.redis.delete(KEYS.job("job4"))),
    "a-ghost": _leave_a_ghost,
    "one-is-to-be-aborted": lambda harness: harness.stock_abort("job4"),
    "one-has-a-stock-abort-score": lambda harness: reply_of(harness.redis.zadd(QUEUE, {"job4": 1})),
    "one-has-a-priority": lambda harness: reply_of(harness.redis.zadd(QUEUE, {"job5": -5e13 + 1e12})),
    "fewer-jobs-than-slots": lambda harness: reply_of(harness.redis.zadd(QUEUE, {"job5": 4e12, "job6": 4e12})),
    "the-queue-is-paused": lambda harness: harness.store.pause(QUEUE, paused=True),
    "deferred-jobs-have-priorities": _limit,
    "others-wait": _let_others_wait,
}


@pytest.mark.parametrize("case", CASES)
async def test_it_does_what_an_end_and_a_claim_apart_do(harness: StoreHarness, case: str) -> None:
    outcomes = []
    start_ms = harness.clock.now_ms
    for together in (True, False):
        await reply_of(harness.redis.flushall())
        harness.clock.now_ms = start_ms
        worker, updates = await _begin(harness)
        await CASES[case](harness)
        if together:
            written, claimed = await _turn(harness, worker, updates, claims=SLOTS)
        else:
            written, _ = await _turn(harness, worker, updates, claims=0)
            _, claimed = await _turn(harness, worker, [], claims=SLOTS)
        outcomes.append((written, claimed, await _kept(harness)))

    assert outcomes[0] == outcomes[1]
