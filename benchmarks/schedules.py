"""What firing schedules costs: `make bench-schedules`.

Two measurements, each with one scheduler process and a throw-away server:

- lateness: ten schedules of one tick a second, from a tick's due time to when Redis took its job, on Redis' clock;
- 10,000 schedules of one tick a minute, all due in the same second: when each was fired, and the scheduler's processor
  time over whole minutes.
"""

import argparse
import asyncio
import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import uvloop

from arqestra import Pool, Scheduler, create_pool, every, schedule
from arqestra.embedded import EmbeddedRedis
from arqestra.store.server import redis_time_ms

LATENESS_SCHEDULES = 10
LATENESS_S = 60
READ_EVERY_S = 8  # a schedule keeps its latest 20 runs
MANY = 10_000
MANY_MINUTES = 3
MARK = "firing"


async def _fire(url: str) -> None:
    """What the scheduler process does, until its input closes."""
    pool = await create_pool(url, serializer="msgpack")
    scheduler = Scheduler(pool)
    running = asyncio.create_task(scheduler.run())
    print(MARK, flush=True)
    await asyncio.to_thread(sys.stdin.read)
    scheduler.stop()
    await running
    await pool.aclose()


@contextmanager
def scheduler_process(url: str) -> Iterator[psutil.Process]:
    """One scheduler."""
    command = [sys.executable, "-m", "benchmarks.schedules", "--fire", url]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline().decode().strip() == MARK
            yield psutil.Process(process.pid)
        finally:
            process.communicate()


def processor_s(process: psutil.Process) -> float:
    """Processor time that a process has used."""
    times = process.cpu_times()
    return times.user + times.system


async def lateness_ms(pool: Pool, url: str) -> list[float]:
    """How late each tick of a minute was fired."""
    for number in range(LATENESS_SCHEDULES):
        await pool.schedules.upsert(schedule(every(1), "tick", name=f"s{number}"))
    seen: dict[tuple[str, float], float] = {}
    with scheduler_process(url):
        await asyncio.sleep(2)
        since_ms = await redis_time_ms(pool)
        for _ in range(LATENESS_S // READ_EVERY_S + 1):
            await asyncio.sleep(READ_EVERY_S)
            for number in range(LATENESS_SCHEDULES):
                for run in await pool.schedules.history(f"s{number}"):
                    if run.tick.timestamp() * 1000 > since_ms:
                        seen[f"s{number}", run.tick.timestamp()] = run.lateness_s * 1000
    return sorted(seen.values())


async def many(pool: Pool, url: str) -> tuple[list[float], float, float]:
    """Milliseconds from due to fired of each schedule's last tick of three, shares of a processor: scheduler, Redis."""
    for first in range(0, MANY, 500):
        await asyncio.gather(
            *(
                pool.schedules.upsert(schedule(every(60), "tick", args=[number], name=f"s{number}"))
                for number in range(first, first + 500)
            )
        )
    redis = psutil.Process((await pool.info("server"))["process_id"])
    with scheduler_process(url) as process:
        await asyncio.sleep(5)
        before_s, redis_before_s = processor_s(process), processor_s(redis)
        now_ms = await redis_time_ms(pool)
        ends_ms = (now_ms // 60_000 + MANY_MINUTES) * 60_000 + 10_000
        await asyncio.sleep((ends_ms - now_ms) / 1000)
        minutes_s = MANY_MINUTES * 60
        share = (processor_s(process) - before_s) / minutes_s
        redis_share = (processor_s(redis) - redis_before_s) / minutes_s
        late = [
            run.lateness_s * 1000
            for number in range(MANY)
            for run in (await pool.schedules.history(f"s{number}", queue=pool.default_queue_name))[:MANY_MINUTES]
        ]
    return sorted(late), share, redis_share


async def _measure() -> None:
    with EmbeddedRedis(use_environment=False) as server:
        pool = await create_pool(server.url, serializer="msgpack")
        late = await lateness_ms(pool, server.url)
        quantiles = statistics.quantiles(late, n=100)
        print(
            f"lateness of {len(late)} ticks: p50 {quantiles[49]:.1f} ms, p99 {quantiles[98]:.1f}, most {late[-1]:.1f}"
        )
        await pool.flushall()
        late, share, redis_share = await many(pool, server.url)
        within = sum(1 for ms in late if ms < 1000)
        print(
            f"{MANY:,} schedules at one minute: {within:,} of {len(late):,} fired within their second, "
            f"p50 {late[len(late) // 2]:.0f} ms, last {late[-1]:.0f} ms"
        )
        print(f"processor: scheduler {share:.1%} of a core, Redis {redis_share:.1%}")
        await pool.aclose()


def main() -> None:
    """Measure and print, or be the scheduler process."""
    parser = argparse.ArgumentParser(description="what firing schedules costs")
    parser.add_argument("--fire", metavar="URL", help=argparse.SUPPRESS)
    options = parser.parse_args()
    uvloop.run(_fire(options.fire) if options.fire else _measure())


if __name__ == "__main__":
    main()
