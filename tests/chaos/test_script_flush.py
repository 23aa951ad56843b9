"""`SCRIPT FLUSH` under load, again and again: no error reaches anybody, and each job runs once."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

import arqestra
from arqestra.embedded import EmbeddedRedis
from tests.chaos.fleet import Fleet

from .conftest import Tell
from .ledger import Ledger

FLUSH_EVERY_S = 0.005
PRODUCERS = 20


@pytest.mark.parametrize("total", [4_000, pytest.param(60_000, marks=[pytest.mark.slow])], ids=["short", "long"])
async def test_nobody_notices_that_scripts_are_forgotten(
    tmp_path: Path, server: EmbeddedRedis, pool: arqestra.Pool, ledger: Ledger, tell: Tell, total: int
) -> None:
    flushes = 0

    async def flush_scripts() -> None:
        nonlocal flushes
        while True:
            await ledger.client.script_flush()
            await ledger.client.execute_command("FUNCTION", "FLUSH")
            flushes += 1
            await asyncio.sleep(FLUSH_EVERY_S)

    async def produce_and_wait(count: int) -> list[str]:
        """What a user does: enqueue, ask, wait for the result."""
        ids = []
        for _ in range(count):
            job = await pool.enqueue_job("nap", 0)
            assert job is not None
            await job.status()
            assert (await job.result(timeout=60))["job_try"] == 1
            ids.append(job.job_id)
        return ids

    with Fleet(tmp_path, server.url, max_jobs=20) as fleet:
        fleet.start(2)
        flusher = asyncio.create_task(flush_scripts())
        batches = await asyncio.gather(*(produce_and_wait(total // PRODUCERS) for _ in range(PRODUCERS)))
        flusher.cancel()
        await asyncio.gather(flusher, return_exceptions=True)
        ids = [job_id for batch in batches for job_id in batch]
        await ledger.assert_all_complete(ids)
        complaints = [
            line
            for worker in fleet.members
            for line in worker.output.splitlines()
            if any(word in line for word in ("Traceback", "NOSCRIPT", "refused", "does not answer", "WARNING", "ERROR"))
        ]
    summary = fleet.log.summary(ids)
    tell(f"{flushes} flushes under {len(ids)} jobs, lost {len(summary.lost)}, duplicated {len(summary.duplicated)}")
    assert complaints == []
    assert summary.lost == ()
    assert summary.starts == len(ids) == total
    assert flushes > total / 200, "expected flushes throughout the run"
