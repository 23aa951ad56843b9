"""Five schedulers with wrong clocks, one of which is killed again and again: each tick has one run."""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass

import pytest

import arqestra
from arqestra.embedded import EmbeddedRedis
from arqestra.store.server import redis_time_ms
from tests.support.replies import reply_of
from tests.support.repository import REPOSITORY
from tests.support.wait import wait_until

from .chaos_jobs import SCHEDULED_QUEUE, TICKS, note_tick
from .conftest import Tell
from .skewed_scheduler import SCHEDULES

SCHEDULERS = 5
SKEW_S = 5.0
AHEAD_S = 3  # in which one of them defines the schedules: what was due before that is not made up for


@dataclass(frozen=True)
class Killing:
    """The size of a run: ticks of each of ten schedules, one a second, and how often a scheduler is killed."""

    ticks: int
    every_s: float


class Schedulers:
    """Scheduler processes that are replaced when they are killed."""

    def __init__(self, stack: ExitStack, url: str, ticks: int, rng: random.Random) -> None:
        self._stack, self._rng = stack, rng
        self._url, self._ticks = url, ticks
        self._start_ms = 0
        self.running = [self._start(number) for number in range(SCHEDULERS)]
        self.killed = 0

    def _start(self, number: int) -> subprocess.Popen[bytes]:
        skew_s = SKEW_S * (2 * number / (SCHEDULERS - 1) - 1)
        module = f"{__package__}.skewed_scheduler"
        command = [sys.executable, "-m", module, self._url, str(skew_s), str(self._ticks)]
        process = subprocess.Popen(command, cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._stack.callback(self._end, process)
        if self._start_ms:
            self._tell_start(process)
        return process

    def _tell_start(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdin is not None
        process.stdin.write(b"%d\n" % self._start_ms)
        process.stdin.flush()

    def _end(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.close()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()

    def kill_one(self) -> None:
        """SIGKILL one of them, and start another with the same wrong clock."""
        number = self._rng.randrange(SCHEDULERS)
        self.running[number].kill()
        self.running[number] = self._start(number)
        self.killed += 1

    async def fire(self, pool: arqestra.Pool) -> int:
        """Let all of them fire, once they are up; returns the time (ms) of the first tick."""
        for process in self.running:
            assert process.stdout is not None
            assert await asyncio.to_thread(process.stdout.readline) == b"up\n"
        self._start_ms = (await redis_time_ms(pool) // 1000 + AHEAD_S) * 1000
        for process in self.running:
            self._tell_start(process)
        return self._start_ms


@pytest.mark.parametrize(
    "size",
    [
        pytest.param(Killing(5, 0.4), id="short"),
        pytest.param(Killing(100, 1.0), id="long", marks=[pytest.mark.slow, pytest.mark.timeout(600)]),
    ],
)
async def test_each_tick_has_one_run(
    server: EmbeddedRedis, pool: arqestra.Pool, rng: random.Random, tell: Tell, size: Killing
) -> None:
    expected = SCHEDULES * size.ticks
    worker = arqestra.Worker(
        [note_tick], redis_settings=server.url, queue_name=SCHEDULED_QUEUE, handle_signals=False, scheduler=False
    )
    running = asyncio.create_task(worker.async_run())
    with ExitStack() as stack:
        schedulers = Schedulers(stack, server.url, size.ticks, rng)
        start_ms = await schedulers.fire(pool)
        while await redis_time_ms(pool) < start_ms + (size.ticks - 1) * 1000:
            await asyncio.sleep(size.every_s * rng.uniform(0.5, 1.5))
            schedulers.kill_one()

        async def all_have_run() -> bool:
            return int(await reply_of(pool.llen(TICKS))) >= expected

        await wait_until(all_have_run, lambda: f"{expected} runs")
        await asyncio.sleep(1)  # for a second run of a tick, if there is one
    await worker.close()
    await asyncio.gather(running, return_exceptions=True)

    runs = Counter(line.decode() for line in await reply_of(pool.lrange(TICKS, 0, -1)))
    ticks = {f"s{number} {start_ms + tick * 1000}" for number in range(SCHEDULES) for tick in range(size.ticks)}
    tell(
        f"{len(ticks)} ticks, {SCHEDULERS} schedulers up to {SKEW_S:g} s wrong, {schedulers.killed} killed: "
        f"{sum(runs.values())} runs"
    )
    assert runs == Counter(ticks)
