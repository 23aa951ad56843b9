"""A worker is stopped (SIGSTOP) beyond its leases, another takes its jobs, the first wakes up: it may write nothing."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import arqestra
from arqestra.embedded import EmbeddedRedis
from tests.chaos.fleet import Fleet, WorkerProcess
from tests.support.wait import wait_until

from .conftest import Tell
from .ledger import Ledger

LEASE_S = 1.0
ENDINGS = ("return", "retry", "raise")
LOST = ("lost its lease", "its lease was lost")


@dataclass
class Harness:
    """A zombie, stopped beyond its leases, and the heir, which runs all of its jobs."""

    fleet: Fleet
    pool: arqestra.Pool
    gates: Path
    zombie: WorkerProcess
    heir: WorkerProcess
    ids: dict[str, str]  # job id -> how its first attempt ends

    def open_gate(self, worker: WorkerProcess) -> None:
        """Let the jobs of a worker end."""
        (self.gates / str(worker.pid)).touch()

    async def until_lost(self, zombie: WorkerProcess) -> None:
        """Wait until the log of the zombie says of each job that its lease is lost."""

        def lost() -> set[str]:
            lines = [line for line in zombie.output.splitlines() if any(text in line for text in LOST)]
            return {job_id for job_id in self.ids if any(job_id in line for line in lines)}

        await wait_until(lambda: lost() == set(self.ids), lambda: f"lost leases in the log:\n{zombie.output}")


@pytest.fixture(params=[2, pytest.param(20, marks=[pytest.mark.slow])], ids=["short", "long"])
async def harness(
    request: pytest.FixtureRequest, tmp_path: Path, server: EmbeddedRedis, pool: arqestra.Pool
) -> AsyncIterator[Harness]:
    gates = tmp_path / "gates"
    gates.mkdir()
    kinds = ENDINGS * request.param
    with Fleet(tmp_path, server.url, max_jobs=len(kinds), lease=LEASE_S) as fleet:
        [zombie] = fleet.start()
        ids = {f"{ending}-{number}": ending for number, ending in enumerate(kinds)}
        for job_id, ending in ids.items():
            assert await pool.enqueue_job("pass_gate", str(gates), ending, _job_id=job_id)
        await wait_until(lambda: fleet.log.started(zombie.pid) == set(ids), "all jobs to start")
        await zombie.freeze()
        [heir] = fleet.start()
        await wait_until(lambda: fleet.log.started(heir.pid) == set(ids), lambda: f"a takeover:\n{heir.output}")
        yield Harness(fleet, pool, gates, zombie, heir, ids)


async def test_a_zombie_whose_jobs_end_while_the_heir_runs_them_writes_nothing(
    harness: Harness, ledger: Ledger, tell: Tell
) -> None:
    heirs_tokens = {job_id: await ledger.lease_holder(job_id) for job_id in harness.ids}
    harness.open_gate(harness.zombie)
    harness.zombie.signal(signal.SIGCONT)
    await harness.until_lost(harness.zombie)
    for job_id in harness.ids:
        assert await ledger.lease_holder(job_id) == heirs_tokens[job_id]
        assert await ledger.attempts(job_id) == 2
    assert set((await ledger.raw_results(list(harness.ids))).values()) == {None}
    assert await ledger.queued() == len(harness.ids)
    harness.open_gate(harness.heir)
    await ledger.until_empty()
    await assert_the_heirs_results(harness, ledger)
    tell(f"{len(harness.ids)} jobs ended by the zombie while another ran them: 0 writes")


async def test_a_zombie_that_wakes_after_the_heir_is_done_writes_nothing(
    harness: Harness, ledger: Ledger, tell: Tell
) -> None:
    harness.open_gate(harness.heir)
    await ledger.until_empty()
    before = await ledger.raw_results(list(harness.ids))
    harness.open_gate(harness.zombie)
    harness.zombie.signal(signal.SIGCONT)
    await harness.until_lost(harness.zombie)
    assert await ledger.raw_results(list(harness.ids)) == before
    await assert_the_heirs_results(harness, ledger)
    tell(f"{len(harness.ids)} jobs ended by the zombie after another had: 0 writes")


async def assert_the_heirs_results(harness: Harness, ledger: Ledger) -> None:
    """Each job ended once, in its second attempt, on the heir; the zombie works on as a member of the fleet."""
    results = await ledger.assert_all_complete(harness.ids)
    assert {(result.result["pid"], result.job_try) for result in results.values()} == {(harness.heir.pid, 2)}
    assert len(harness.fleet.log.of("start")) == 2 * len(harness.ids), "expected no third attempt"
    harness.heir.terminate()
    await harness.heir.wait()
    job = await harness.pool.enqueue_job("nap", 0)
    assert job is not None
    assert (await job.result(timeout=30))["pid"] == harness.zombie.pid
