"""A job that ends its worker process is given up after three; its neighbours on the same worker come to no harm."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest
from arq.worker import JobExecutionFailed

import arqestra
from arqestra.embedded import EmbeddedRedis
from tests.chaos.fleet import Fleet
from tests.support.wait import wait_until

from .conftest import Tell
from .ledger import Ledger

LEASE_S = 1.0
MAX_CRASHES = 3


@dataclass(frozen=True)
class Plague:
    """The size of a run: one after the other so many deadly jobs, each among so many neighbours."""

    deadly: int
    neighbours: int
    workers: int


@pytest.mark.parametrize(
    "size",
    [Plague(1, 9, 1), pytest.param(Plague(4, 18, 2), marks=[pytest.mark.slow])],
    ids=["short", "long"],
)
async def test_a_job_that_ends_its_process_is_dead_after_three_and_its_neighbours_complete(
    tmp_path: Path, server: EmbeddedRedis, pool: arqestra.Pool, ledger: Ledger, tell: Tell, size: Plague
) -> None:
    with Fleet(tmp_path, server.url, max_jobs=10, lease=LEASE_S, max_crashes=MAX_CRASHES) as fleet:
        fleet.start(size.workers)
        for plague in range(size.deadly):
            deadly = f"deadly-{plague}"
            neighbours = [f"neighbour-{plague}-{number}" for number in range(size.neighbours)]
            # The neighbours are in the middle of their work when the process ends.
            for job_id in neighbours:
                assert await pool.enqueue_job("nap", 0.8, _job_id=job_id)
            assert await pool.enqueue_job("die", 0.4, _job_id=deadly)
            replaced = await supervise_until_empty(fleet, ledger)
            starts = Counter(event.job_id for event in fleet.log.of("start"))
            await ledger.assert_all_complete(neighbours)
            end = (await ledger.results([deadly]))[deadly]
            tell(
                f"the deadly job started {starts[deadly]}x and ended {replaced} workers; {size.neighbours} neighbours "
                f"complete after {sum(starts[job_id] for job_id in neighbours)} starts"
            )
            assert starts[deadly] == MAX_CRASHES
            assert replaced == MAX_CRASHES
            assert not end.success
            assert isinstance(end.result, JobExecutionFailed)
            assert "dead set" in str(end.result)
            assert f"{MAX_CRASHES} times" in str(end.result)
            assert sum(starts[job_id] for job_id in neighbours) > size.neighbours, "expected neighbours to be hit"
            # The result says that it is dead, and so does the set; nobody else is in it.
            assert await ledger.dead() == {f"deadly-{number}" for number in range(plague + 1)}


async def supervise_until_empty(fleet: Fleet, ledger: Ledger) -> int:
    """Replace workers as they end, until all jobs have; returns how many were replaced."""
    replaced = 0

    async def is_empty() -> bool:
        nonlocal replaced
        replaced += fleet.replace_ended()
        return await ledger.queued() == 0

    await wait_until(is_empty, lambda: f"all jobs to end; {replaced} workers were replaced", timeout_s=90)
    return replaced + fleet.replace_ended()


@pytest.mark.xfail(strict=True, reason="a suspect does not run alone: a deadly job that joins it ends it for good")
async def test_a_neighbour_that_was_hit_twice_survives_another_deadly_job(
    tmp_path: Path, server: EmbeddedRedis, pool: arqestra.Pool, ledger: Ledger, tell: Tell
) -> None:
    """It has ended nobody: that it ran in a worker that ended for the third time is not its doing."""
    neighbour, deadly = "neighbour", ["deadly-0", "deadly-1"]
    with Fleet(tmp_path, server.url, max_jobs=10, lease=LEASE_S, max_crashes=MAX_CRASHES) as fleet:
        fleet.start()
        assert await pool.enqueue_job("nap", 1.5, _job_id=neighbour)
        assert await pool.enqueue_job("die", 0.4, _job_id=deadly[0])

        def neighbours_starts() -> int:
            fleet.replace_ended()
            return sum(event.job_id == neighbour for event in fleet.log.of("start"))

        await wait_until(lambda: neighbours_starts() == MAX_CRASHES, "the neighbour to be hit twice")
        assert await pool.enqueue_job("die", 0.2, _job_id=deadly[1])
        await supervise_until_empty(fleet, ledger)
    tell(f"the neighbour started {neighbours_starts()}x among two deadly jobs, dead: {sorted(await ledger.dead())}")
    await ledger.assert_all_complete([neighbour])
    assert await ledger.dead() == set(deadly)
