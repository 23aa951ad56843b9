"""Flows and workflows that are started, and whether they wait."""

from __future__ import annotations

from typing import Any

from arqestra import (
    Job,
    Pool,
)

PARKED_SCORE = 8640000000000000


async def started(pool: Pool, function: Any, *args: Any) -> Job[Any]:
    job: Job[Any] | None = await pool.enqueue(function, *args)
    assert job is not None
    return job


async def is_parked(pool: Pool, job: Job[Any]) -> bool:
    score = await pool.zscore("arq:queue", job.job_id)
    return score is not None and score >= PARKED_SCORE
