"""SIGKILL of one worker in two, at random, under load: nothing is lost, and few jobs run again."""

from __future__ import annotations

import asyncio
import random
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

import arqestra
from arqestra.embedded import EmbeddedRedis
from tests.chaos.fleet import Fleet

from .conftest import Tell
from .ledger import Ledger

LEASE_S = 2
KILL_EVERY_S = 0.5


@dataclass(frozen=True)
class KillLoop:
    """How large a run is, and how often its workers are killed.

    :ivar nap_s: how long a job takes; with the number of slots it sets how long the run takes
    :ivar limit_s: generous; only jobs that never end take so long
    """

    jobs: int
    workers: int
    concurrency: int
    nap_s: float
    least_kills: int
    limit_s: float = 100


SHORT = KillLoop(jobs=5_000, workers=4, concurrency=10, nap_s=0.05, least_kills=12)
LONG = KillLoop(jobs=20_000, workers=6, concurrency=20, nap_s=0.2, least_kills=120, limit_s=600)


@pytest.mark.parametrize("size", [SHORT, pytest.param(LONG, marks=[pytest.mark.slow])], ids=["short", "long"])
async def test_no_job_is_lost_when_half_of_the_workers_die_every_half_second(
    tmp_path: Path,
    server: EmbeddedRedis,
    pool: arqestra.Pool,
    ledger: Ledger,
    rng: random.Random,
    tell: Tell,
    size: KillLoop,
) -> None:
    jobs = await pool.enqueue_many([("nap", (size.nap_s,))] * size.jobs)
    ids = [job.job_id for job in jobs if job is not None]
    assert len(set(ids)) == size.jobs
    # A kill may hit a job any number of times; the dead set is another test's matter.
    settings = {"max_jobs": size.concurrency, "lease": LEASE_S, "max_crashes": 1_000, "max_tries": 1_000}
    with Fleet(tmp_path, server.url, **settings) as fleet:
        fleet.start(size.workers)
        kills = 0
        deadline = time.monotonic() + size.limit_s
        while queued := await ledger.queued():
            assert time.monotonic() < deadline, f"expected the jobs to end in {size.limit_s} s, {queued} are queued"
            await asyncio.sleep(KILL_EVERY_S)
            for victim in rng.sample(fleet.running, len(fleet.running) // 2):
                victim.kill()
                assert await victim.wait() in (-signal.SIGKILL, 0)
                kills += victim.status == -signal.SIGKILL
            fleet.replace_ended()
        summary = fleet.log.summary(ids)
        tell(
            f"{size.jobs} jobs, {kills} kills, lost {len(summary.lost)}, started more than once "
            f"{len(summary.duplicated)} (at most {kills * size.concurrency}), starts {summary.starts}"
        )
        results = await ledger.assert_all_complete(ids)
    assert summary.lost == ()
    assert kills >= size.least_kills, "expected the run to last long enough for its kills"
    assert len(summary.duplicated) <= kills * size.concurrency
    assert summary.starts - size.jobs <= kills * size.concurrency
    ended_by = {(event.job_id, event.pid) for event in fleet.log.of("end")}
    assert all((job_id, result.result["pid"]) in ended_by for job_id, result in results.items())
