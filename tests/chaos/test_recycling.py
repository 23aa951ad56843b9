"""Processes that are replaced under load: nothing is lost or doubled, and little time."""

from __future__ import annotations

import time

import pytest

from arqestra import Pool
from tests.support.supervised import Supervise
from tests.support.supervised_jobs import nap
from tests.support.wait import wait_until

from .conftest import Tell

NAP_S = 0.02


@pytest.mark.parametrize(
    ("count", "most", "ratio"),
    [
        pytest.param(2_000, 250, None, id="short"),
        pytest.param(20_000, 500, 0.8, id="long", marks=[pytest.mark.slow]),
    ],
)
async def test_recycling_under_load(
    supervise: Supervise,
    pool: Pool,
    tell: Tell,
    count: int,
    most: int,
    ratio: float | None,
) -> None:
    rates = []
    for options in ((), ("--max-jobs-per-child", str(most))):
        jobs = [job for job in await pool.enqueue_many([nap.bind(NAP_S)] * count) if job is not None]
        supervised = supervise("--processes", "2", "--concurrency", "50", "--shutdown-timeout", "10", *options)
        await wait_until(lambda: bool(supervised.log.of("start")), lambda: supervised.output)  # noqa: B023
        started = time.monotonic()
        await wait_until(lambda: len(supervised.log.of("end")) >= count, lambda: supervised.output, timeout_s=300)  # noqa: B023
        rates.append(count / (time.monotonic() - started))
        summary = supervised.log.summary([job.job_id for job in jobs])
        assert (summary.lost, summary.duplicated) == ((), ())
        processes = len(supervised.pids)
        supervised.process.terminate()
        assert await supervised.ended() == 0
    assert processes > 2
    tell(
        f"{count} jobs of {NAP_S * 1000:.0f} ms: {rates[0]:,.0f}/s with 2 processes, {rates[1]:,.0f}/s with "
        f"{processes} ({most} jobs each): {rates[1] / rates[0]:.0%}"
    )
    if ratio is not None:
        assert rates[1] >= ratio * rates[0]
