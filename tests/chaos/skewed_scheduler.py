"""A scheduler process whose clock is wrong: `python -m tests.chaos.skewed_scheduler URL SECONDS TICKS`.

It prints a line when it is up, reads the time (ms) of the first tick, and fires until its input closes.
"""

from __future__ import annotations

import asyncio
import sys
import time
from datetime import UTC, datetime
from typing import Any

import arqestra

from .chaos_jobs import SCHEDULED_QUEUE

SCHEDULES = 10


def put_clock_wrong(by_s: float) -> None:
    """Make this process believe in another time."""
    right, right_ns = time.time, time.time_ns
    time.time = lambda: right() + by_s
    time.time_ns = lambda: right_ns() + round(by_s * 1e9)


def schedules(start_ms: int, ticks: int) -> list[arqestra.Schedule]:
    """Ten schedules of one tick a second, of all kinds, with that many ticks each."""
    start, end = (datetime.fromtimestamp(ms / 1000, UTC) for ms in (start_ms, start_ms + (ticks - 1) * 1000))
    when: list[Any] = [arqestra.every(1), "* * * * * *", arqestra.every("1s"), "*/1 * * * * *", arqestra.every(1)]
    return [
        arqestra.schedule(
            when[number % len(when)],
            "note_tick",
            args=[number],
            name=f"s{number}",
            queue=SCHEDULED_QUEUE,
            timezone="Asia/Seoul",
            start=start,
            end=end,
            missed="all",
        )
        for number in range(SCHEDULES)
    ]


async def fire(url: str, ticks: int) -> None:
    """Fire until the input closes."""
    pool = await arqestra.create_pool(url)
    print("up", flush=True)
    start_ms = int(await asyncio.to_thread(sys.stdin.readline) or 0)
    if start_ms == 0:  # the input was closed
        return await pool.aclose()
    scheduler = arqestra.Scheduler(pool, schedules(start_ms, ticks), home=SCHEDULED_QUEUE)
    running = asyncio.create_task(scheduler.run())
    await asyncio.to_thread(sys.stdin.read)
    scheduler.stop()
    await running
    return await pool.aclose()


if __name__ == "__main__":
    put_clock_wrong(float(sys.argv[2]))
    asyncio.run(fire(sys.argv[1], int(sys.argv[3])))
