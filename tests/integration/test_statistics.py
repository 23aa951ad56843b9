"""`Pool.statistics()` over a real worker's counts: by the minute, by the hour, in whole hours."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import arqestra
from arqestra import SettingsError


async def nap(ctx: dict[Any, Any], seconds: float) -> None:
    await asyncio.sleep(seconds)


async def fail(ctx: dict[Any, Any]) -> None:
    raise ValueError("as it was told")


async def test_counts_and_percentiles_are_the_same_by_minutes_and_by_hours(redis_url: str) -> None:
    pool = await arqestra.create_pool(redis_url)
    for seconds in (0.0, 0.0, 0.03, 0.2):
        await pool.enqueue_job("nap", seconds)
    await pool.enqueue_job("fail")
    worker = arqestra.Worker([nap, fail], redis_settings=redis_url, burst=True, handle_signals=False)
    await worker.main()
    await worker.close()

    rows = {hours: await pool.statistics(hours) for hours in (1, 25, 26, 720)}
    hourly = await pool.statistics(720, by_hour=True)
    minutely = await pool.statistics(1, by_hour=True)
    await pool.aclose()

    failed, napped = rows[720]
    assert (failed["function"], failed["failed"], napped["function"], napped["complete"]) == ("fail", 1, "nap", 4)
    assert napped["run_ms_p50"] <= 5 < napped["run_ms_p95"] <= napped["run_ms_max"]
    assert napped["wait_ms_p50"] is not None
    assert all(each == rows[720] for each in rows.values())
    assert sum(row["complete"] for row in hourly) == sum(row["complete"] for row in minutely) == 4
    assert all(row["hour"] % 3600 == 0 for row in hourly + minutely)


@pytest.mark.parametrize("hours", [0, -1, 721, True])
async def test_hours_out_of_range_are_refused(redis_url: str, hours: int) -> None:
    pool = await arqestra.create_pool(redis_url)
    with pytest.raises(SettingsError, match=f"expected 1 to 720, got {hours}"):
        await pool.statistics(hours)
    await pool.aclose()
