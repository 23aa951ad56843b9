"""A job blocks the event loop for longer than the lease: its worker keeps its leases, unless it is stuck for good."""

from __future__ import annotations

from pathlib import Path

import pytest

import arqestra
from arqestra.embedded import EmbeddedRedis
from tests.chaos.fleet import Fleet
from tests.support.wait import wait_until

from .conftest import Tell
from .ledger import Ledger

LEASE_S = 1.0
STUCK_FOR_S = 6.0
NEIGHBOURS = [f"neighbour-{number}" for number in range(9)]


@pytest.mark.parametrize("leases", [4, pytest.param(30, marks=[pytest.mark.slow])], ids=["short", "long"])
async def test_a_blocked_loop_keeps_its_leases(
    tmp_path: Path, server: EmbeddedRedis, pool: arqestra.Pool, ledger: Ledger, tell: Tell, leases: int
) -> None:
    with Fleet(tmp_path, server.url, max_jobs=10, lease=LEASE_S, job_timeout=None) as fleet:
        [blocked] = fleet.start()
        for job_id in NEIGHBOURS:
            assert await pool.enqueue_job("nap", LEASE_S / 2, _job_id=job_id)
        await wait_until(lambda: fleet.log.started() == set(NEIGHBOURS), "the neighbours to start")
        assert await pool.enqueue_job("block", leases * LEASE_S, _job_id="blocker")
        await wait_until(lambda: "blocker" in fleet.log.started(), "the blocking job to start")
        holders = {job_id: await ledger.lease_holder(job_id) for job_id in (*NEIGHBOURS, "blocker")}
        fleet.start()  # would take what it can
        await wait_until(lambda: bool(fleet.log.of("end")), "the loop to come back")
        starts_while_blocked = len(fleet.log.of("start"))
        await ledger.until_empty()
        results = await ledger.assert_all_complete([*NEIGHBOURS, "blocker"])
    assert all(token is not None for token in holders.values())
    assert {result.result["pid"] for result in results.values()} == {blocked.pid}
    summary = fleet.log.summary(results)
    tell(f"blocked for {leases} leases among {len(NEIGHBOURS)} neighbours: started twice {len(summary.duplicated)}")
    assert summary.duplicated == ()
    assert starts_while_blocked == len(results)


@pytest.mark.parametrize("rounds", [1, pytest.param(5, marks=[pytest.mark.slow])], ids=["short", "long"])
async def test_a_worker_that_is_stuck_is_replaced_and_writes_nothing_afterwards(
    tmp_path: Path, server: EmbeddedRedis, pool: arqestra.Pool, ledger: Ledger, tell: Tell, rounds: int
) -> None:
    settings = {"max_jobs": 10, "lease": LEASE_S, "stuck_after": LEASE_S, "job_timeout": None}
    with Fleet(tmp_path, server.url, **settings) as fleet:
        for number in range(rounds):
            ids = [f"{number}-{job_id}" for job_id in (*NEIGHBOURS, "blocker")]
            await assert_jobs_of_a_stuck_worker_run_elsewhere(fleet, pool, ledger, ids)
            for worker in fleet.running:
                worker.terminate()
                await worker.wait()
    tell(f"{rounds} stuck workers of {len(NEIGHBOURS) + 1} jobs: all ran elsewhere, 0 late writes")


async def assert_jobs_of_a_stuck_worker_run_elsewhere(
    fleet: Fleet, pool: arqestra.Pool, ledger: Ledger, ids: list[str]
) -> None:
    *neighbours, blocker = ids
    [stuck] = fleet.start()
    for job_id in neighbours:
        assert await pool.enqueue_job("nap", LEASE_S / 2, _job_id=job_id)
    await wait_until(lambda: fleet.log.started(stuck.pid) >= set(neighbours), "all to start")
    assert await pool.enqueue_job("block", STUCK_FOR_S, True, _job_id=blocker)
    await wait_until(lambda: blocker in fleet.log.started(stuck.pid), "the blocker to start")
    [heir] = fleet.start()
    await ledger.until_empty()
    assert not fleet.log.of("end", pid=stuck.pid), "expected the stuck worker to be stuck still"
    before = await ledger.raw_results(ids)
    results = await ledger.assert_all_complete(ids)
    assert {(result.result["pid"], result.job_try) for result in results.values()} == {(heir.pid, 2)}
    await wait_until(
        lambda: stuck.output.count("lost its lease") + stuck.output.count("its lease was lost") >= len(ids),
        lambda: f"the stuck worker to find its leases lost:\n{stuck.output}",
    )
    assert "event loop has been blocked" in stuck.output
    assert await ledger.raw_results(ids) == before
    assert not await ledger.leftovers()
    assert sum(event.job_id in ids for event in fleet.log.of("start")) == 2 * len(ids)
