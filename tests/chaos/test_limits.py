"""Limits of the fleet while workers are killed: never exceeded, reached, and regained within a lease."""

from __future__ import annotations

import asyncio
import random
import time
from pathlib import Path

import pytest

import arqestra
from arqestra.embedded import EmbeddedRedis
from tests.chaos.fleet import Fleet
from tests.support.run_log import Event
from tests.support.wait import wait_until

from .chaos_jobs import capped, rated
from .conftest import Tell
from .ledger import Ledger

LEASE_S = 2
RATE_PER_S, BURST = 100, 5
CAP = 8
SETTINGS = {"max_jobs": 20, "lease": LEASE_S, "max_crashes": 1_000, "max_tries": 1_000}


@pytest.mark.alone  # it is to reach its rate
@pytest.mark.parametrize(
    "kill_every_s", [pytest.param(None, id="calm", marks=[pytest.mark.slow]), pytest.param(1.5, id="kills")]
)
async def test_no_second_has_more_starts_than_the_rate_and_its_burst(
    tmp_path: Path,
    server: EmbeddedRedis,
    pool: arqestra.Pool,
    ledger: Ledger,
    rng: random.Random,
    tell: Tell,
    kill_every_s: float | None,
) -> None:
    jobs = [job for job in await pool.enqueue_many([rated.bind()] * (10 * RATE_PER_S)) if job is not None]
    with Fleet(tmp_path, server.url, **SETTINGS) as fleet:
        fleet.start(4)
        started, kills = time.monotonic(), 0
        while await ledger.queued():
            assert time.monotonic() - started < 60
            await asyncio.sleep(kill_every_s or 0.2)
            if kill_every_s is not None:
                victim = rng.choice(fleet.running)
                victim.kill()
                await victim.wait()
                kills += 1
                fleet.replace_ended()
        # When Redis let them start: on a busy machine the first line of a job comes some ms later.
        starts = [event.at_ns / 1e9 for event in fleet.log.of("claim")]
        lost = fleet.log.summary([job.job_id for job in jobs]).lost
    fullest = max(sum(at <= other < at + 1 for other in starts) for at in starts)
    reached = (len(starts) - 1) / (max(starts) - min(starts)) / RATE_PER_S
    tell(f"{len(starts)} starts, {kills} kills, fullest second {fullest}, {reached:.0%} of the rate")
    assert lost == ()
    assert fullest <= RATE_PER_S + BURST
    if kill_every_s is None:
        assert reached >= 0.95


@pytest.mark.parametrize("jobs", [1_500, pytest.param(10_000, marks=[pytest.mark.slow])])
async def test_a_cap_is_never_exceeded_and_regained_within_a_lease(
    tmp_path: Path,
    server: EmbeddedRedis,
    pool: arqestra.Pool,
    ledger: Ledger,
    rng: random.Random,
    tell: Tell,
    jobs: int,
) -> None:
    handles = [job for job in await pool.enqueue_many([capped.bind(0.02)] * jobs) if job is not None]
    with Fleet(tmp_path, server.url, **SETTINGS) as fleet:
        fleet.start(4)
        started, kills, ended_ns = time.monotonic(), 0, {}
        while await ledger.queued():
            assert time.monotonic() - started < 300
            await asyncio.sleep(1.0)
            victim = rng.choice(fleet.running)
            ended_ns[victim.pid] = time.time_ns()
            victim.kill()
            await victim.wait()
            kills += 1
            fleet.replace_ended()
        events = list(fleet.log.events)
        lost = fleet.log.summary([job.job_id for job in handles]).lost
    most = _most_at_once(events, ended_ns)
    tell(f"{jobs} jobs under a cap of {CAP}, {kills} kills: {most} at once")
    assert lost == ()
    assert most <= CAP


def _most_at_once(events: list[Event], ended_ns: dict[int, int]) -> int:
    """Runs at the same time. A killed process ends its runs when it is killed."""
    changes = []
    running: dict[tuple[str, int], int] = {}
    for event in events:
        if event.kind == "start":
            running[event.job_id, event.pid] = event.at_ns
        else:
            changes += [(running.pop((event.job_id, event.pid)), 1), (event.at_ns, -1)]
    changes += [change for (_, pid), at_ns in running.items() for change in ((at_ns, 1), (ended_ns[pid], -1))]
    most = now = 0
    for _, step in sorted(changes, key=lambda change: (change[0], change[1])):
        now += step
        most = max(most, now)
    return most


async def test_the_places_of_a_killed_worker_are_free_within_a_lease(
    tmp_path: Path, server: EmbeddedRedis, pool: arqestra.Pool, tell: Tell
) -> None:
    await pool.enqueue_many([capped.bind(600.0)] * CAP)
    await pool.enqueue_many([capped.bind(0.01)] * 20)
    with Fleet(tmp_path, server.url, **SETTINGS) as fleet:
        [victim] = fleet.start(1)
        await wait_until(lambda: len(fleet.log.started()) == CAP, "the cap to be taken")
        fleet.start(1)
        killed_ns = time.time_ns()
        victim.kill()
        await wait_until(lambda: len(fleet.log.of("start")) > CAP, "a place to become free")
        regained_s = (fleet.log.of("start")[CAP].at_ns - killed_ns) / 1e9
    tell(f"a place was free {regained_s:.1f} s after the kill, lease {LEASE_S} s")
    assert regained_s <= 3 * LEASE_S  # a lease, and the patience of a busy machine
