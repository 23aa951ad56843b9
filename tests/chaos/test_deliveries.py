"""Jobs that come with a wake-up, to workers that stop, freeze or lose their connection just then."""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
import redis.asyncio

import arqestra
from arqestra.embedded import EmbeddedRedis
from tests.chaos.fleet import Fleet
from tests.support.wait import wait_until

from .conftest import Tell
from .ledger import KEYS, Ledger

# Long, so that a job that waited for its lease to run out would be told from one that came back at once.
LEASE_S = 30.0
FROZEN_LEASE_S = 2.0


@dataclass(frozen=True)
class Trickle:
    """The size of a run: jobs that come one at a time, with pauses in which the workers run out of work."""

    jobs: int
    disturbances: int
    longest_pause_s: float = 0.02


SIZES = [
    pytest.param(Trickle(300, 8), id="short"),
    pytest.param(Trickle(6_000, 120), id="long", marks=[pytest.mark.slow]),
]


@dataclass
class Deliveries:
    """Those that were published, as somebody sees them who listens to all channels."""

    count: int = 0
    marks: int = 0


@pytest.fixture
async def deliveries(server: EmbeddedRedis) -> AsyncIterator[Deliveries]:
    seen = Deliveries()

    async def count(tap: redis.asyncio.client.PubSub) -> None:
        async for message in tap.listen():
            if message["type"] == "pmessage":
                seen.count += message["data"].startswith(b"job ")
                seen.marks += message["data"] == b"mark"

    async with redis.asyncio.Redis.from_url(server.url) as client, client.pubsub() as tap:
        await tap.psubscribe(KEYS.worker_channel("*"))
        counting = asyncio.create_task(count(tap))
        yield seen
        counting.cancel()
        await asyncio.gather(counting, return_exceptions=True)


async def enqueue_trickle(pool: arqestra.Pool, rng: random.Random, size: Trickle) -> list[str]:
    ids = []
    for _ in range(size.jobs):
        job = await pool.enqueue_job("nap", 0)
        assert job is not None
        ids.append(job.job_id)
        await asyncio.sleep(rng.uniform(0, size.longest_pause_s))
    return ids


async def assert_each_ran_once(fleet: Fleet, ledger: Ledger, ids: list[str]) -> None:
    """In its first attempt; and none had to wait for a lease to run out."""
    await ledger.until_empty(LEASE_S / 2)
    results = await ledger.assert_all_complete(ids)
    assert {result.job_try for result in results.values()} == {1}
    starts = Counter(event.job_id for event in fleet.log.of("start"))
    assert {job_id: starts[job_id] for job_id in ids} == dict.fromkeys(ids, 1)
    assert await ledger.leftovers() == set()


@pytest.mark.parametrize("size", SIZES)
async def test_connections_are_cut_while_jobs_are_sent(
    tmp_path: Path,
    server: EmbeddedRedis,
    pool: arqestra.Pool,
    ledger: Ledger,
    deliveries: Deliveries,
    rng: random.Random,
    tell: Tell,
    size: Trickle,
) -> None:
    """A message that was lost with its connection comes with the next claim."""
    with Fleet(tmp_path, server.url, max_jobs=5, lease=LEASE_S) as fleet:
        fleet.start(2)
        producer = asyncio.create_task(enqueue_trickle(pool, rng, size))
        cuts = 0
        while not producer.done():
            await asyncio.sleep(rng.uniform(0, 2 * size.jobs * size.longest_pause_s / 2 / size.disturbances))
            clients = await ledger.client.client_list(_type="pubsub")
            workers = [client for client in clients if int(client["sub"]) > 0]
            for client in workers:
                with contextlib.suppress(redis.exceptions.ResponseError):
                    cuts += await ledger.client.client_kill_filter(_id=client["id"]) or 0
        ids = await producer
        await assert_each_ran_once(fleet, ledger, ids)
    tell(f"{deliveries.count} of {len(ids)} jobs were sent, {cuts} connections cut")
    assert deliveries.count > size.jobs / 4
    assert cuts >= size.disturbances / 2


@pytest.mark.parametrize("size", SIZES)
async def test_workers_are_replaced_while_jobs_are_sent(
    tmp_path: Path,
    server: EmbeddedRedis,
    pool: arqestra.Pool,
    ledger: Ledger,
    deliveries: Deliveries,
    rng: random.Random,
    tell: Tell,
    size: Trickle,
) -> None:
    """What comes to a worker that stops is given back at once, and no attempt counts."""
    with Fleet(tmp_path, server.url, max_jobs=5, lease=LEASE_S, job_completion_wait=5) as fleet:
        fleet.start(3)
        producer = asyncio.create_task(enqueue_trickle(pool, rng, size))
        stopped = 0
        while not producer.done():
            leaving = rng.choice(fleet.running)
            fleet.start()
            await asyncio.sleep(rng.uniform(0.2, 0.4))
            leaving.terminate()
            assert await leaving.wait() == 0, leaving.output
            stopped += 1
        ids = await producer
        await assert_each_ran_once(fleet, ledger, ids)
    tell(f"{deliveries.count} of {len(ids)} jobs were sent, {stopped} workers stopped")
    assert deliveries.count > size.jobs / 4


async def test_a_frozen_worker_keeps_one_job_for_one_lease_and_does_not_run_it_later(
    tmp_path: Path, server: EmbeddedRedis, pool: arqestra.Pool, ledger: Ledger, deliveries: Deliveries
) -> None:
    with Fleet(tmp_path, server.url, lease=FROZEN_LEASE_S) as fleet:
        [frozen] = fleet.start()
        warm_up = await pool.enqueue_job("nap", 0)
        assert warm_up is not None
        await warm_up.result(timeout=60)

        marks = 0

        async def offers() -> bool:
            keys = [key async for key in ledger.client.scan_iter(KEYS.offer("*"))]
            return any([b"|" in (await ledger.client.get(key) or b"") for key in keys])

        def has_seen(number: int) -> bool:
            return deliveries.marks == number

        while True:  # until the offer was not over before the worker was stopped
            await wait_until(offers, "an offer")
            before = deliveries.count
            await frozen.freeze()
            job = await pool.enqueue_job("nap", 0)
            assert job is not None
            # A message of ours comes behind it.
            await ledger.client.publish(KEYS.worker_channel("nobody"), b"mark")
            marks += 1
            await wait_until(partial(has_seen, marks), "what was published")
            if deliveries.count > before:
                break
            frozen.signal(signal.SIGCONT)
            await job.result(timeout=60)
        [heir] = fleet.start()
        await job.result(timeout=60)
        frozen.signal(signal.SIGCONT)
        again = [await pool.enqueue_job("nap", 0.2) for _ in range(4)]
        await asyncio.gather(*(each.result(timeout=60) for each in again if each is not None))
        pids = [event.pid for event in fleet.log.of("start") if event.job_id == job.job_id]
        await ledger.until_empty()
    assert pids == [heir.pid]
    assert (await ledger.results([job.job_id]))[job.job_id].job_try == 2
