"""Stock arq 0.28 and arqestra on one queue: workers of both, producers of both, each reading what the other wrote."""

from __future__ import annotations

import asyncio
import math
import os
import signal
from collections import Counter
from collections.abc import AsyncIterator, Awaitable
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import arq.connections
import arq.jobs
import arq.utils
import pytest
import redis.asyncio

import arqestra
from tests.support.repository import REPOSITORY
from tests.support.wait import PATIENCE_S, wait_until

from .arq_process import ArqProcess
from .fleet_jobs import LOG_VARIABLE, URL_VARIABLE

PLAIN, DEFERRED, RETRIED, FAILING = 1_688, 160, 100, 28
# More than either kind of worker has slots, so that both kinds run some.
ABORTED = 24
TOTAL = PLAIN + DEFERRED + RETRIED + FAILING + ABORTED
WORKERS_OF_A_KIND = 2
STRIDE = 997
# Long enough that the slots of one kind do not keep up with the producers, so that both kinds have work.
PAUSE_S = 0.06

pytestmark = pytest.mark.timeout(180)


@dataclass
class Clients:
    """One client of each library on the same server."""

    stock: arq.connections.ArqRedis
    ours: arqestra.Pool

    def producer(self, number: int) -> arq.connections.ArqRedis:
        return self.ours if number % 2 else self.stock

    def both_jobs(self, job_id: str) -> tuple[arq.jobs.Job, arqestra.Job[Any]]:
        """The job as stock arq's Job and as ours."""
        return arq.jobs.Job(job_id, self.stock), arqestra.Job(job_id, self.ours)


@pytest.fixture
async def clients(redis_url: str) -> AsyncIterator[Clients]:
    settings = arq.connections.RedisSettings.from_dsn(redis_url)
    clients = Clients(await arq.connections.create_pool(settings), await arqestra.create_pool(settings))
    assert type(clients.stock) is arq.connections.ArqRedis
    yield clients
    await clients.stock.aclose()
    await clients.ours.aclose()


@dataclass
class Record:
    """What the log outside Redis says."""

    kinds: dict[str, str] = field(default_factory=dict)  # process id -> arq or arqestra
    runs: Counter[str] = field(default_factory=Counter)
    running: set[str] = field(default_factory=set)
    overlaps: list[str] = field(default_factory=list)
    ran_by: dict[str, str] = field(default_factory=dict)  # job id -> process id of the last run

    @classmethod
    def read(cls, log: Path) -> Record:
        record = cls()
        for line in log.read_text(encoding="utf-8").splitlines() if log.exists() else []:
            event, subject, pid = line.split()
            if event == "worker":
                record.kinds[pid] = subject
            elif event == "start":
                if subject in record.running:
                    record.overlaps.append(subject)
                record.running.add(subject)
                record.runs[subject] += 1
                record.ran_by[subject] = pid
            else:
                record.running.discard(subject)
        return record

    def ran_by_kind(self, kind: str) -> list[str]:
        return [job_id for job_id, pid in self.ran_by.items() if self.kinds[pid] == kind]


async def enqueue_all(clients: Clients) -> None:
    """All jobs but the endless ones, in an order that mixes their kinds and their producers."""
    kinds = ["plain"] * PLAIN + ["deferred"] * DEFERRED + ["retried"] * RETRIED + ["failing"] * FAILING
    assert math.gcd(STRIDE, len(kinds)) == 1  # so that each is visited once
    for step in range(len(kinds)):
        number = step * STRIDE % len(kinds)
        kind, producer = kinds[number], clients.producer(step)
        job_id = f"{kind}-{number}"
        if kind == "plain":
            job = await producer.enqueue_job("double", number, pause_s=PAUSE_S, _job_id=job_id)
        elif kind == "deferred":
            delay = timedelta(milliseconds=300 + number % 1_000)
            job = await producer.enqueue_job("double", number, pause_s=PAUSE_S, _job_id=job_id, _defer_by=delay)
        elif kind == "retried":
            job = await producer.enqueue_job("second_time_lucky", number, _job_id=job_id)
        else:
            job = await producer.enqueue_job("fail", number, _job_id=job_id)
        assert job is not None, job_id


async def abort_crosswise(clients: Clients, record: Record) -> list[bool]:
    """Abort each endless job by the other library's client: stock aborts what ours runs, and the other way round."""
    aborts: list[Awaitable[bool]] = []
    aborters: set[type] = set()
    for number in range(ABORTED):
        stock, ours = clients.both_jobs(f"endless-{number}")
        runs_here = record.kinds[record.ran_by[stock.job_id]] == "arqestra"
        aborter = stock if runs_here else ours
        aborters.add(type(aborter))
        aborts.append(aborter.abort(timeout=PATIENCE_S))
    assert aborters == {arq.jobs.Job, arqestra.Job}
    return list(await asyncio.gather(*aborts))


async def start_fleet(stack: ExitStack, redis_url: str, tmp_path: Path, log: Path) -> list[ArqProcess]:
    environment = {URL_VARIABLE: redis_url, LOG_VARIABLE: str(log)}
    fleet = [
        stack.enter_context(
            ArqProcess(
                [f"tests.integration.{settings}"], REPOSITORY, environment, tmp_path / f"{settings}-{number}.log"
            )
        )
        for settings in ("fleet_jobs.StockSettings", "fleet_ours.OurSettings")
        for number in range(WORKERS_OF_A_KIND)
    ]
    for worker in fleet:
        await asyncio.to_thread(worker.wait_for, "redis_version=")
    await wait_until(lambda: len(Record.read(log).kinds) == len(fleet), lambda: f"got {Record.read(log).kinds}")
    assert Counter(Record.read(log).kinds.values()) == {"arq": WORKERS_OF_A_KIND, "arqestra": WORKERS_OF_A_KIND}
    return fleet


def expected_runs() -> dict[str, int]:
    kinds = {"plain": (PLAIN, 1), "deferred": (DEFERRED, 1), "retried": (RETRIED, 2), "failing": (FAILING, 1)}
    runs: dict[str, int] = {}
    for kind, (count, times) in kinds.items():
        runs |= {f"{kind}-{number}": times for number in range(len(runs), len(runs) + count)}
    return runs | {f"endless-{number}": 1 for number in range(ABORTED)}


async def test_two_thousand_jobs_in_a_mixed_fleet(clients: Clients, redis_url: str, tmp_path: Path) -> None:
    log = tmp_path / "runs.log"
    with ExitStack() as stack:
        fleet = await start_fleet(stack, redis_url, tmp_path, log)
        for number in range(ABORTED):
            assert await clients.producer(number).enqueue_job("endless", number, _job_id=f"endless-{number}")
        await wait_until(
            lambda: sum(job_id.startswith("endless") for job_id in Record.read(log).running) == ABORTED,
            lambda: f"{ABORTED} endless jobs to run, got {Record.read(log).running}",
        )
        aborted, _ = await asyncio.gather(abort_crosswise(clients, Record.read(log)), enqueue_all(clients))
        assert aborted == [True] * ABORTED
        await wait_until_drained(clients)
        for worker in fleet:
            worker.send(signal.SIGTERM)
        assert [await asyncio.to_thread(worker.wait) for worker in fleet] == [0] * len(fleet)

    record = Record.read(log)
    assert record.overlaps == []
    assert record.running == set()
    assert record.runs == expected_runs()  # none lost, and none run more often than asked
    assert len(record.runs) == TOTAL
    for kind in ("arq", "arqestra"):
        assert len(record.ran_by_kind(kind)) >= TOTAL // 20, f"not a mixed fleet: {kind} ran next to nothing"
    await assert_results_are_read_by_both(clients, record)
    assert await leftovers(redis_url) == set()


async def wait_until_drained(clients: Clients) -> None:
    """Wait until each job has its result and the queue is empty."""
    async with asyncio.timeout(PATIENCE_S * 3):
        async for _ in arq.utils.poll(0.1):
            results, queued = len(await clients.stock.keys("arq:result:*")), await clients.stock.zcard("arq:queue")
            if results == TOTAL and queued == 0:
                return


async def assert_results_are_read_by_both(clients: Clients, record: Record) -> None:
    """Stock Job reads all that ours ran and ours all that stock ran: status, info and result."""
    for job_id, pid in record.ran_by.items():
        stock, ours = clients.both_jobs(job_id)
        # Who ran it reads it in passing; the other library is the point.
        reader = stock if record.kinds[pid] == "arqestra" else ours
        info = await reader.result_info()
        assert info is not None, job_id
        kind, number = job_id.split("-")
        assert (await reader.status()).value == "complete"
        assert info.args == (int(number),)
        assert info.job_id == job_id
        assert info.queue_name == "arq:queue"
        assert info.job_try == (2 if kind == "retried" else 1)
        assert info.enqueue_time <= info.start_time <= info.finish_time
        await assert_outcome(reader, kind, int(number), info)


async def assert_outcome(reader: arq.jobs.Job, kind: str, number: int, info: arq.jobs.JobResult) -> None:
    if kind == "endless":
        assert info.success is False
        assert isinstance(info.result, asyncio.CancelledError)
        with pytest.raises(asyncio.CancelledError):
            await reader.result(timeout=1)
    elif kind == "failing":
        assert info.success is False
        with pytest.raises(ValueError, match=f"no use for {number}"):
            await reader.result(timeout=1)
    else:
        assert info.success is True
        assert info.result == number * 2
        assert await reader.result(timeout=1) == number * 2


async def leftovers(redis_url: str) -> set[bytes]:
    """Keys that outlive the jobs, apart from results and what has a TTL."""
    async with redis.asyncio.Redis.from_url(redis_url) as client:
        keys = [key for key in await client.keys("*") if not key.startswith(b"arq:result:")]
        return {key for key in keys if await client.ttl(key) == -1}


@pytest.mark.parametrize("producer", ["stock", "ours"])
async def test_a_waiting_job_looks_the_same_to_both(clients: Clients, producer: str) -> None:
    """Before any worker is there: not found, queued and deferred, and what the payload says."""
    pool = clients.stock if producer == "stock" else clients.ours
    await pool.enqueue_job("double", 1, pause_s=0, _job_id="due")
    await pool.enqueue_job("double", 2, pause_s=0, _job_id="later", _defer_by=timedelta(hours=1), _job_try=3)
    for position in (0, 1):
        due, later, missing = (clients.both_jobs(name)[position] for name in ("due", "later", "missing"))
        assert [(await job.status()).value for job in (due, later, missing)] == ["queued", "deferred", "not_found"]
        assert await missing.info() is None
        info = await later.info()
        assert info is not None
        assert (info.function, info.args, info.kwargs, info.job_try) == ("double", (2,), {"pause_s": 0}, 3)
    one, other = [await job.info() for job in clients.both_jobs("later")]
    assert one is not None
    assert other is not None
    assert (one.score, one.enqueue_time) == (other.score, other.enqueue_time)
    assert await clients.stock.enqueue_job("double", 9, pause_s=0, _job_id="due") is None
    assert await clients.ours.enqueue_job("double", 9, pause_s=0, _job_id="due") is None


def test_the_record_finds_overlaps_and_jobs_without_an_end(tmp_path: Path) -> None:
    log = tmp_path / "runs.log"
    log.write_text(
        "start a 1\nstart b 2\nend b 2\nstart b 1\nstart a 2\nend a 1\nend b 1\nstart c 1\n", encoding="utf-8"
    )
    record = Record.read(log)
    assert record.overlaps == ["a"]
    assert record.running == {"c"}
    assert record.runs == {"a": 2, "b": 2, "c": 1}


def test_the_fleets_module_is_plain_arq() -> None:
    """A stock process that imported arqestra would prove nothing."""
    assert "import arqestra" not in (Path(__file__).parent / "fleet_jobs.py").read_text(encoding="utf-8")
    assert os.environ.get(URL_VARIABLE) is None
