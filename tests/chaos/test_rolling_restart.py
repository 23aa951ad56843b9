"""Rolling restarts by SIGTERM while jobs run: no attempt is consumed, and what was given back starts at once."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

import arqestra
from arqestra.embedded import EmbeddedRedis
from tests.chaos.fleet import Fleet, WorkerProcess
from tests.support.proxies.script_lossy import LossyProxy
from tests.support.run_log import RunLog
from tests.support.wait import wait_until

from .conftest import Tell
from .ledger import Ledger

# Long, so that a job that waited for its lease to run out would be told from one that was given back.
LEASE_S = 30.0
RUNNING_AT_SIGTERM = 8


@dataclass(frozen=True)
class Deploys:
    """The size of a run.

    :ivar grace_s: `job_completion_wait`
    :ivar every_s: pause between two jobs of the producer; with jobs of 1 to 2 s less than two workers can take
    """

    rounds: int
    grace_s: float
    workers: int = 3
    concurrency: int = 20
    every_s: float = 0.05


SIZES = [
    pytest.param(Deploys(2, 0), id="short"),
    pytest.param(Deploys(2, 0.6), id="short-with-grace"),
    pytest.param(Deploys(25, 0), id="long", marks=[pytest.mark.slow]),
    pytest.param(Deploys(25, 0.6), id="long-with-grace", marks=[pytest.mark.slow]),
]


@pytest.mark.parametrize("size", SIZES)
async def test_rolling_restarts_consume_no_attempt(
    tmp_path: Path,
    server: EmbeddedRedis,
    pool: arqestra.Pool,
    ledger: Ledger,
    rng: random.Random,
    tell: Tell,
    size: Deploys,
) -> None:
    settings = {"max_jobs": size.concurrency, "lease": LEASE_S, "job_completion_wait": size.grace_s}
    ids: list[str] = []
    with Fleet(tmp_path, server.url, **settings) as fleet:
        fleet.start(size.workers)
        enough = asyncio.Event()
        producer = asyncio.create_task(enqueue_steadily(pool, ids, rng, size.every_s, enough))
        for _ in range(size.rounds):
            for worker in list(fleet.running):
                await wait_until(
                    partial(has_enough_to_do, fleet, worker),
                    "running jobs",
                )
                [successor] = fleet.start()
                worker.terminate()
                assert await worker.wait() == 0, worker.output
                await wait_until(partial(has_begun, fleet, successor), "the new one to work")
        enough.set()
        await producer
        await ledger.until_empty()
        results = await ledger.assert_all_complete(ids)
    summary = fleet.log.summary(ids)
    waits_ms = waits_for_next_start(fleet.log)
    tell(
        f"{size.rounds * size.workers} restarts under {len(ids)} jobs, {len(waits_ms)} given back, lost "
        f"{len(summary.lost)}, attempts consumed {sum(event.job_try != 1 for event in fleet.log.of('start'))}, "
        f"longest wait for the next start {max(waits_ms)} ms"
    )
    assert summary.lost == ()
    assert {event.job_try for event in fleet.log.of("start")} == {1}
    assert {result.job_try for result in results.values()} == {1}
    # A job starts anew only where it was given back, and ends once.
    assert summary.starts == len(ids) + len(waits_ms)
    assert len(fleet.log.of("end")) == len(ids)
    assert max(waits_ms) < LEASE_S * 1000 / 2


@pytest.mark.parametrize("grace_s", [0, 5], ids=["no-grace", "grace"])
async def test_jobs_that_arrive_during_the_shutdown_are_given_back(
    tmp_path: Path, server: EmbeddedRedis, pool: arqestra.Pool, ledger: Ledger, rng: random.Random, grace_s: float
) -> None:
    """The signal finds a claim under way: Redis has leased the jobs, and the worker has not heard of them yet."""
    delivery = asyncio.Event()

    async def hold() -> None:
        await delivery.wait()

    async with LossyProxy(server.port, {}, rng, mode="late", hold=hold) as proxy:
        with Fleet(tmp_path, server.url, lease=LEASE_S, job_completion_wait=grace_s) as fleet:
            [leaving] = fleet.start(redis_settings=proxy.url)
            warm_up = await pool.enqueue_job("nap", 0)
            assert warm_up is not None
            await warm_up.result(timeout=60)
            proxy.chances["claim"] = 1
            jobs = await pool.enqueue_many([("nap", (0.5,))] * 5)
            ids = [job.job_id for job in jobs if job is not None]
            await wait_until(lambda: proxy.lost["claim"] == 1, "a claim")
            assert all([await ledger.lease_holder(job_id) for job_id in ids])
            leaving.terminate()
            await wait_until(lambda: "shutdown on SIGTERM" in leaving.output, "the signal to be noticed")
            delivery.set()
            fleet.start()
            assert await leaving.wait() == 0, leaving.output
            await ledger.until_empty(LEASE_S / 3)
            await ledger.assert_all_complete(ids)
    # Whether the leaving worker started them or not: they ran to the end once, in their first attempt.
    assert {event.job_try for event in fleet.log.of("start")} == {1}
    assert sorted(event.job_id for event in fleet.log.of("end")) == sorted([*ids, warm_up.job_id])
    waits_for_next_start(fleet.log)


@pytest.mark.parametrize("grace_s", [1, pytest.param(0, marks=[pytest.mark.slow])], ids=["grace", "no-grace"])
async def test_a_worker_ends_although_redis_does_not_answer(
    tmp_path: Path, server: EmbeddedRedis, pool: arqestra.Pool, rng: random.Random, grace_s: float
) -> None:
    """A deploy must not hang on a Redis that has stopped answering."""
    async with LossyProxy(server.port, {}, rng, mode="swallow") as proxy:
        with Fleet(tmp_path, proxy.url, lease=LEASE_S, job_completion_wait=grace_s) as fleet:
            [leaving] = fleet.start()
            warm_up = await pool.enqueue_job("nap", 0)
            assert warm_up is not None
            await warm_up.result(timeout=60)
            proxy.chances["claim"] = 1
            assert await pool.enqueue_job("nap", 0)
            await wait_until(lambda: proxy.lost["claim"] >= 1, "a claim")
            leaving.terminate()
            assert await leaving.wait() == 0, leaving.output


async def enqueue_steadily(
    pool: arqestra.Pool, ids: list[str], rng: random.Random, every_s: float, enough: asyncio.Event
) -> None:
    """Add a job of 1 to 2 s now and then, until it is enough."""
    while not enough.is_set():
        job = await pool.enqueue_job("nap", rng.uniform(1, 2))
        assert job is not None
        ids.append(job.job_id)
        await asyncio.sleep(every_s)


def has_enough_to_do(fleet: Fleet, worker: WorkerProcess) -> bool:
    return len(running_on(fleet.log, worker.pid)) >= RUNNING_AT_SIGTERM


def has_begun(fleet: Fleet, worker: WorkerProcess) -> bool:
    return bool(fleet.log.started(worker.pid))


def running_on(log: RunLog, pid: int) -> set[str]:
    """Ids of the jobs that run in a process."""
    return log.started(pid) - {event.job_id for event in log.events if event.pid == pid and event.kind != "start"}


def waits_for_next_start(log: RunLog) -> list[int]:
    """ms from each cancelled run of a job to its next start."""
    cancelled_ns: dict[str, int] = {}
    waits_ms = []
    for event in log.events:
        if event.kind == "cancelled":
            cancelled_ns[event.job_id] = event.at_ns
        elif event.kind == "start" and event.job_id in cancelled_ns:
            waits_ms.append((event.at_ns - cancelled_ns.pop(event.job_id)) // 1_000_000)
    assert not cancelled_ns, "expected each job that was given back to start again"
    return waits_ms
