"""Statistics over a random load with SIGKILLs: they add up, but for what a killed worker had not yet written."""

from __future__ import annotations

import asyncio
import random
import signal
import time
from collections import Counter
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
# Counts are written once a second, and on a busy machine a little later; the ends' clock is the workers'.
UNWRITTEN_MS = 2_000


@dataclass(frozen=True)
class Load:
    """The size of a run."""

    jobs: int
    workers: int
    least_kills: int
    limit_s: float = 100


SHORT = Load(jobs=3_000, workers=4, least_kills=6)
LONG = Load(jobs=40_000, workers=6, least_kills=60, limit_s=600)


@pytest.mark.parametrize("size", [SHORT, pytest.param(LONG, marks=[pytest.mark.slow])], ids=["short", "long"])
async def test_what_was_counted_is_what_became_of_the_jobs(
    tmp_path: Path,
    server: EmbeddedRedis,
    pool: arqestra.Pool,
    ledger: Ledger,
    rng: random.Random,
    tell: Tell,
    size: Load,
) -> None:
    kinds = rng.choices(["nap", "fail_after"], weights=[4, 1], k=size.jobs)
    jobs = await pool.enqueue_many([(kind, (rng.uniform(0.01, 0.08),)) for kind in kinds])
    ids = [job.job_id for job in jobs if job is not None]
    killed_ms: dict[int, float] = {}
    settings = {"max_jobs": 10, "lease": LEASE_S, "max_crashes": 1_000, "max_tries": 1_000}
    with Fleet(tmp_path, server.url, **settings) as fleet:
        fleet.start(size.workers)
        deadline = time.monotonic() + size.limit_s
        while queued := await ledger.queued():
            assert time.monotonic() < deadline, f"expected the jobs to end in {size.limit_s} s, {queued} are queued"
            await asyncio.sleep(KILL_EVERY_S)
            victim = rng.choice(fleet.running)
            victim.kill()
            killed_at_ms = time.time() * 1000
            if await victim.wait() == -signal.SIGKILL:
                killed_ms[victim.pid] = killed_at_ms
            fleet.replace_ended()
        for member in fleet.running:
            member.terminate()
            await member.wait()
    results = await ledger.results(ids)
    assert len(results) == size.jobs
    seen = Counter("complete" if result.success else "failed" for result in results.values())
    counted: Counter[str] = Counter()
    recovered = 0
    for row in await pool.totals():
        counted.update({"complete": row["complete"], "failed": row["failed"]})
        recovered += row["recovered"]
    # Ends that a worker which was then killed may not have told of: those in its last moments.
    unwritten = Counter(
        "complete" if result.success else "failed"
        for result in results.values()
        if (pid := _pid_of(result.result)) in killed_ms
        and result.finish_time.timestamp() * 1000 > killed_ms[pid] - UNWRITTEN_MS
    )
    missing = seen - counted
    tell(
        f"{size.jobs} jobs, {len(killed_ms)} kills: seen {dict(seen)}, counted {dict(counted)}, missing "
        f"{sum(missing.values())} of {sum(unwritten.values())} that killed workers ended in their last "
        f"{UNWRITTEN_MS / 1000} s; {recovered} recoveries counted"
    )
    assert len(killed_ms) >= size.least_kills
    assert counted["complete"] <= seen["complete"], "nothing is counted twice"
    assert counted["failed"] <= seen["failed"]
    assert missing["complete"] <= unwritten["complete"]
    assert missing["failed"] <= unwritten["failed"]
    assert recovered > 0
    enqueued = sum([row["enqueued"] for row in await pool.totals()])
    assert enqueued == size.jobs


def _pid_of(value: object) -> int | None:
    """The process in which a job ended, by its result or its error."""
    if isinstance(value, dict):
        return int(value["pid"])
    return int(str(value).rsplit(" ", 1)[1])
