"""`arqestra worker --metrics-port`: what several processes count adds up, and never goes down."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
from pathlib import Path
from typing import Any

import pytest

from arqestra import Pool
from arqestra.embedded import EmbeddedRedis
from arqestra.worker.processes.ipc import SupervisorLink, decoded
from arqestra.worker.telemetry.metrics_port import FiguresLine, told_figures
from tests.observe.presences import PRESENCE
from tests.support.proxies.swallowing import SwallowingProxy
from tests.support.scrape import Scraped, scrape
from tests.support.supervised import Supervise, Supervised, supervising
from tests.support.supervised_jobs import nap
from tests.support.wait import wait_until

SETTINGS = "tests.observe.metered_settings"


class Watched:
    """A supervisor's port; each scrape is checked against all that were before it."""

    def __init__(self, supervised: Supervised, url: str) -> None:
        self._supervised = supervised
        self.url = url
        self._highest: dict[Any, float] = {}

    @classmethod
    async def of(cls, supervised: Supervised) -> Watched:
        found: list[str] = []

        def said() -> bool:
            found[:] = re.findall(r"metrics at (http\S+)", supervised.output)
            return bool(found)

        await wait_until(said, lambda: supervised.output)
        return cls(supervised, found[0])

    async def look(self) -> Scraped:
        scraped = await scrape(self.url)
        values = dict(scraped.counters())
        fallen = {key: (high, values.get(key)) for key, high in self._highest.items() if values.get(key, -1) < high}
        assert fallen == {}
        self._highest = values
        return scraped

    async def until(self, name: str, value: float, **labels: str) -> Scraped:
        found: list[Scraped] = []

        async def there() -> bool:
            found[:] = [await self.look()]
            return found[0].sum(name, **labels) == value

        await wait_until(
            there, lambda: f"{name} {value}, got {found and found[0].of(name)}:\n{self._supervised.output[-3000:]}"
        )
        return found[0]


async def run(pool: Pool, count: int, seconds: float = 0.0) -> set[int]:
    """The processes that ran so many jobs."""
    jobs = await pool.enqueue_many([nap.bind(seconds)] * count)
    return {(await job.result(timeout=60))["pid"] for job in jobs if job is not None}


async def test_processes_add_up_and_a_killed_one_takes_nothing_along(supervise: Supervise, plain_pool: Pool) -> None:
    supervised = supervise("--processes", "3", "--metrics-port", "0", "--shutdown-timeout", "10")
    watched = await Watched.of(supervised)
    await watched.until("arqestra_worker_up", 3)
    assert len(await run(plain_pool, 60, 0.1)) == 3
    before = await watched.until("arqestra_jobs_finished_total", 60, outcome="complete", function="nap")
    assert before.one("arqestra_job_duration_seconds_count") == 60
    assert before.sum("arqestra_worker_slots") == 30
    pids = {sample.labels["pid"] for sample in before.of("arqestra_worker_info")}
    assert pids == {str(pid) for pid in supervised.pids}

    victim = supervised.pids[0]
    os.kill(victim, signal.SIGKILL)

    async def replaced() -> bool:
        now = {sample.labels["pid"] for sample in (await watched.look()).of("arqestra_worker_info")}
        return len(now) == 3 and str(victim) not in now

    await wait_until(replaced, lambda: supervised.output)
    await run(plain_pool, 40)
    after = await watched.until("arqestra_jobs_finished_total", 100, outcome="complete", function="nap")
    assert after.one("arqestra_job_duration_seconds_count") == 100
    assert {sample.labels["worker"] for sample in after.of("arqestra_worker_up")} == {"0", "1", "2"}
    assert after.sum("arqestra_worker_cpu_seconds_total") > before.sum("arqestra_worker_cpu_seconds_total")


async def test_recycled_processes_tell_their_last_counts(supervise: Supervise, plain_pool: Pool) -> None:
    supervised = supervise(
        "--processes", "2", "--metrics-port", "0", "--max-jobs-per-child", "40", "--shutdown-timeout", "10"
    )
    watched = await Watched.of(supervised)
    await run(plain_pool, 240, 0.02)

    await watched.until("arqestra_jobs_finished_total", 240, outcome="complete", function="nap")
    assert len(supervised.pids) >= 4
    await wait_until(lambda: len(supervised.alive) == 2, lambda: supervised.output)
    await watched.until("arqestra_jobs_finished_total", 240, outcome="complete", function="nap")


async def test_processes_that_are_cut_off_say_so(redis_server: EmbeddedRedis, redis_url: str, tmp_path: Path) -> None:
    async with SwallowingProxy(redis_server.port) as proxy:
        with supervising(proxy.url, tmp_path) as start:
            supervised = start("--processes", "2", "--metrics-port", "0")
            watched = await Watched.of(supervised)
            await watched.until("arqestra_worker_up", 2)
            assert (await watched.look()).sum("arqestra_worker_cut_off_seconds") == 0

            proxy.fall_silent("handshake")  # what there is of connections is cut, and no other is made

            async def told() -> bool:
                return all(each.value > 1 for each in (await watched.look()).of("arqestra_worker_cut_off_seconds"))

            await wait_until(told, "both to be cut off")
            assert (await watched.look()).sum("arqestra_worker_up") == 2
            proxy.heal()
            await watched.until("arqestra_worker_cut_off_seconds", 0)


async def test_a_vacant_place_is_down(supervise: Supervise, plain_pool: Pool) -> None:
    supervised = supervise("--metrics-port", "0")
    watched = await Watched.of(supervised)
    await watched.until("arqestra_worker_up", 1)
    os.kill(supervised.pids[0], signal.SIGSTOP)  # it tells nothing, and its loop is as late as that

    async def late() -> bool:
        return (await watched.look()).one("arqestra_worker_loop_lag_seconds") > 0.5

    await wait_until(late, "a late loop")
    os.kill(supervised.pids[0], signal.SIGKILL)
    await watched.until("arqestra_worker_up", 0)
    await watched.until("arqestra_worker_up", 1)


async def test_the_port_of_the_settings_is_bound_once_for_all_processes(supervise: Supervise, plain_pool: Pool) -> None:
    supervised = supervise("--processes", "2", settings=f"{SETTINGS}.Metered")
    watched = await Watched.of(supervised)
    scraped = await watched.until("arqestra_worker_up", 2)
    assert scraped.sum("arqestra_worker_slots") == 2 * 10
    assert supervised.output.count("metrics at") == 1


async def test_processes_whose_own_settings_name_no_port_are_counted_too(
    supervise: Supervise, plain_pool: Pool
) -> None:
    supervised = supervise(f"{SETTINGS}.Metered", settings=f"{SETTINGS}.Everything")
    watched = await Watched.of(supervised)
    scraped = await watched.until("arqestra_worker_up", 2)
    assert {sample.labels["pid"] for sample in scraped.of("arqestra_worker_info")} == set(map(str, supervised.pids))


async def test_the_supervisor_tells_until_its_processes_have_ended(supervise: Supervise, plain_pool: Pool) -> None:
    supervised = supervise("--metrics-port", "0", "--shutdown-timeout", "30")
    watched = await Watched.of(supervised)
    job = await plain_pool.enqueue(nap, 2.0)
    assert job is not None
    await wait_until(lambda: job.job_id in supervised.log.started(), lambda: supervised.output)
    supervised.process.terminate()

    await watched.until("arqestra_worker_draining", 1)
    assert await supervised.ended() == 0
    with pytest.raises(OSError, match="Connect call failed"):
        await scrape(watched.url)


async def test_a_process_that_ends_before_the_others_in_a_stop_is_not_down(
    supervise: Supervise, plain_pool: Pool
) -> None:
    supervised = supervise("--processes", "2", "--metrics-port", "0", "--shutdown-timeout", "30")
    watched = await Watched.of(supervised)
    await watched.until("arqestra_worker_up", 2)
    job = await plain_pool.enqueue(nap, 6.0)
    assert job is not None
    await wait_until(lambda: job.job_id in supervised.log.started(), lambda: supervised.output)
    supervised.process.terminate()
    await wait_until(lambda: len(supervised.alive) == 1, lambda: supervised.output)

    async def one_is_left() -> bool:
        scraped = await watched.look()
        return len(scraped.of("arqestra_worker_info")) == 1

    await wait_until(one_is_left, lambda: supervised.output)
    left = await watched.look()
    assert [sample.value for sample in left.of("arqestra_worker_up")] == [1]
    assert await supervised.ended() == 0


async def test_a_supervisor_that_is_stopped_blocks_no_worker(supervise: Supervise, plain_pool: Pool) -> None:
    supervised = supervise("--metrics-port", "0")
    watched = await Watched.of(supervised)
    await watched.until("arqestra_worker_up", 1)
    supervised.process.send_signal(signal.SIGSTOP)
    try:
        assert await run(plain_pool, 20, 0.1) == set(supervised.pids)
    finally:
        supervised.process.send_signal(signal.SIGCONT)
    await watched.until("arqestra_jobs_finished_total", 20, outcome="complete", function="nap")


async def test_a_port_that_is_in_use_ends_the_supervisor(supervise: Supervise) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        supervised = supervise("--metrics-port", str(port))

        assert await supervised.ended() == 2
    words = " ".join(re.sub("[│╭╮╰╯─]", " ", supervised.output).split())
    assert f"--metrics-port: cannot listen at 127.0.0.1 port {port}: Address already in use" in words
    assert supervised.pids == []


async def test_nothing_is_served_unless_asked(supervise: Supervise, plain_pool: Pool) -> None:
    supervised = supervise()
    await run(plain_pool, 1)
    assert "metrics at" not in supervised.output


async def test_a_worker_that_outruns_the_line_catches_up(redis_url: str) -> None:
    """What the line has no room for is told later."""

    class Books:
        def figures(self) -> Any:
            return {f"{'q' * 60}|f{i}|complete": 1 for i in range(3000)}, PRESENCE

    ours, theirs = socket.socketpair()
    job_options = SupervisorLink(theirs.detach())
    line = FiguresLine(Books().figures, job_options)
    line.wanted = True
    await line.start()
    reader, writer = await asyncio.open_connection(sock=ours, limit=2**20)
    heard: dict[str, int] = {}
    async with asyncio.timeout(30):
        while len(heard) < 3000:
            heard.update(told_figures(decoded(await reader.readline()))[0])
    await line.stop()
    job_options.close()
    writer.close()
    await writer.wait_closed()
