"""Metrics of live workers, and of the fleet: they are what the jobs came to."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import timedelta
from functools import partial

import pytest

from arqestra import Pool, create_pool, every, schedule
from arqestra.embedded import EmbeddedRedis
from arqestra.observe.fleet import FleetSnapshot, read_fleet
from arqestra.observe.fleet_exporter import FleetExporter
from arqestra.protocol.presence import Presence
from arqestra.store.presence import write_presence
from arqestra.worker.telemetry.metrics_port import MetricsPort
from tests.observe.metrics_jobs import ALL, fail, hand_on, take, twice, work
from tests.support.replies import accepted
from tests.support.scrape import Scraped, scrape
from tests.support.wait import wait_until
from tests.support.workers import worker_running

working = partial(worker_running, functions=ALL, poll_delay=0.05)


async def fleet_of(pool: Pool) -> Scraped:
    exposition = await FleetExporter(partial(read_fleet, pool)).exposition()
    return Scraped(exposition.body.decode())


def outcomes(scraped: Scraped, function: str) -> dict[str, float]:
    found = scraped.of("arqestra_jobs_finished_total", function=function, queue="arq:queue")
    return {sample.labels["outcome"]: sample.value for sample in found if sample.value}


async def run_some(pool: Pool) -> None:
    """A job of each kind has ended, and the next ones have begun."""
    calls = [work.bind()] * 7 + [fail.bind()] * 3 + [twice.bind()] * 4 + [hand_on.bind()] * 2 + [take.bind(0.02)] * 2
    jobs = await pool.enqueue_many(calls)
    for job in jobs:
        with contextlib.suppress(ValueError):
            await accepted(job).result(timeout=30)
    expired = await pool.enqueue(work.options(expires=timedelta(milliseconds=1), defer_by=0.05))
    assert expired is not None
    with contextlib.suppress(Exception):
        await expired.result(timeout=30)


def check_counts(scraped: Scraped) -> None:
    assert outcomes(scraped, "work") == {"complete": 9, "expired": 1}
    assert outcomes(scraped, "fail") == {"failed": 3}
    assert outcomes(scraped, "twice") == {"complete": 4}
    assert outcomes(scraped, "hand_on") == {"complete": 2}
    assert scraped.one("arqestra_jobs_retried_total", function="twice") == 4
    assert scraped.sum("arqestra_jobs_retried_total") == 4
    for name in ("arqestra_job_duration_seconds", "arqestra_job_wait_seconds"):
        for function in ("work", "fail", "twice", "hand_on", "take"):
            buckets = [sample.value for sample in scraped.of(f"{name}_bucket", function=function)]
            ended = scraped.sum("arqestra_jobs_finished_total", function=function)
            attempts = ended + scraped.one("arqestra_jobs_retried_total", function=function)
            assert buckets == sorted(buckets)
            assert buckets[-1] == scraped.one(f"{name}_count", function=function) == attempts
    slept = scraped.of("arqestra_job_duration_seconds_bucket", function="take")
    assert [sample.value for sample in slept if sample.labels["le"] == "0.01"] == [0]
    assert scraped.one("arqestra_job_duration_seconds_sum", function="take") >= 0.04


def all_counted(scraped: Scraped) -> bool:
    return scraped.sum("arqestra_jobs_finished_total") == 21


async def test_a_worker_without_a_supervisor_serves_its_own(redis_url: str, plain_pool: Pool) -> None:
    async with working(redis_url, metrics_port=0, max_jobs=11) as worker:
        await run_some(plain_pool)
        assert isinstance(worker.metrics, MetricsPort)
        url = worker.metrics.url
        found: list[Scraped] = []

        async def counted() -> bool:
            found[:] = [await scrape(url)]
            return all_counted(found[0])

        await wait_until(counted, lambda: f"{url} to tell of 21 jobs")
        (scraped,) = found

        check_counts(scraped)
        assert scraped.one("arqestra_jobs_enqueued_total", function="work") == 2  # by this process: hand_on
        assert scraped.one("arqestra_worker_up", worker="0") == 1
        assert scraped.one("arqestra_worker_slots", worker="0") == 11
        assert scraped.one("arqestra_worker_resident_memory_bytes", worker="0") > 1_000_000
    with pytest.raises(ConnectionRefusedError):
        await scrape(url)


async def test_the_fleet_as_redis_has_it(redis_url: str, plain_pool: Pool) -> None:
    async with working(redis_url) as worker:
        await run_some(plain_pool)
        found: list[Scraped] = []

        async def counted() -> bool:
            found[:] = [await fleet_of(plain_pool)]
            return (
                all_counted(found[0])
                and found[0].sum("arqestra_jobs_enqueued_total") == 21
                and found[0].sum("arqestra_workers") == 1
            )

        await wait_until(counted, "the fleet to tell of 21 jobs")
        (scraped,) = found

        check_counts(scraped)
        assert scraped.one("arqestra_jobs_enqueued_total", function="work") == 10
        assert scraped.one("arqestra_worker_up", worker=worker.worker_id) == 1
        assert scraped.one("arqestra_queue_workers", queue="arq:queue") == 1
        assert scraped.one("arqestra_queue_jobs", queue="arq:queue", state="dead") == 3


async def test_queues_by_state_and_age(plain_pool: Pool) -> None:
    await plain_pool.enqueue_many([work.bind()] * 3 + [work.options(defer_by=3600).bind()] * 2)
    await plain_pool.queue().pause()
    await wait_until(lambda: plain_pool.used_queues(), "the queue to be known")
    first = await fleet_of(plain_pool)
    states = {sample.labels["state"]: sample.value for sample in first.of("arqestra_queue_jobs", queue="arq:queue")}
    assert states == {"queued": 3, "deferred": 2, "running": 0, "held": 0, "waiting": 0, "dead": 0}
    assert first.one("arqestra_queue_paused") == 1
    assert first.one("arqestra_queue_workers") == 0
    assert first.one("arqestra_workers") == 0

    async def older() -> bool:
        return (await fleet_of(plain_pool)).one("arqestra_queue_oldest_age_seconds") > age_s

    age_s = first.one("arqestra_queue_oldest_age_seconds")
    await wait_until(older, lambda: f"the oldest job to be older than {age_s} s")


async def test_schedules_that_nobody_fires_are_late(plain_pool: Pool) -> None:
    await plain_pool.schedules.upsert(schedule(every(3600), work, name="often"))
    await plain_pool.schedules.upsert(schedule(every(3600), work, name="paused"))
    await plain_pool.schedules.pause("paused")
    key = plain_pool.store.keys.schedules("arq:queue")
    seconds, _ = await plain_pool.time()

    await plain_pool.zadd(key, {"often": (seconds + 600) * 1000})
    planned = await fleet_of(plain_pool)
    assert planned.one("arqestra_schedules", queue="arq:queue") == 2
    assert planned.one("arqestra_schedules_overdue", queue="arq:queue") == 0
    assert planned.one("arqestra_schedule_lateness_seconds", queue="arq:queue") == 0

    await plain_pool.zadd(key, {"often": (seconds - 600) * 1000})
    late = await fleet_of(plain_pool)
    assert late.one("arqestra_schedules_overdue", queue="arq:queue") == 1
    assert 600 <= late.one("arqestra_schedule_lateness_seconds", queue="arq:queue") < 3600


async def test_a_worker_that_was_killed_is_shown_as_down(plain_pool: Pool) -> None:
    presence = Presence("h", 1, "0", 0, ["q"], 1, 0, 0, [], 0, 0, 0, 0, 0.0, 0, False)
    await write_presence(plain_pool.store, "w", presence)
    alive = await fleet_of(plain_pool)
    await plain_pool.zincrby(plain_pool.store.keys.workers, -11_000, "w")
    killed = await fleet_of(plain_pool)

    for scraped, up in ((alive, 1), (killed, 0)):
        assert scraped.one("arqestra_worker_up", worker="w", host="h") == up
        assert scraped.one("arqestra_workers") == up
        assert scraped.one("arqestra_queue_workers", queue="q") == up


async def test_a_key_of_another_program_costs_its_queue_alone(plain_pool: Pool) -> None:
    await plain_pool.enqueue_many([work.bind(), work.options(queue="other").bind()])

    async def known() -> bool:
        return len(await plain_pool.used_queues()) == 2

    await wait_until(known, "two queues to be known")
    await plain_pool.delete("other")
    await plain_pool.set("other", "a string")

    scraped = await fleet_of(plain_pool)

    assert {sample.labels["queue"] for sample in scraped.of("arqestra_queue_paused")} == {"arq:queue"}


# -- readings are shared, and fail in time --------------------------------------------------------------------------

EMPTY = FleetSnapshot([], [], [], [], {})


class Reader:
    """Counts the readings; each waits for its gate."""

    def __init__(self) -> None:
        self.begun = 0
        self.gate = asyncio.Event()

    async def __call__(self) -> FleetSnapshot:
        self.begun += 1
        await self.gate.wait()
        return EMPTY


async def test_scrapes_that_come_together_share_one_reading() -> None:
    reader = Reader()
    fleet = FleetExporter(reader, kept_s=0)
    scrapes = [asyncio.create_task(fleet.exposition()) for _ in range(20)]
    await wait_until(lambda: reader.begun > 0, "a reading")
    scrapes[0].cancel()  # whoever began it hangs up
    reader.gate.set()
    bodies = {each.body for each in await asyncio.gather(*scrapes[1:])}

    assert reader.begun == 1
    assert [Scraped(body.decode()).one("arqestra_up") for body in bodies] == [1]
    await fleet.exposition()
    assert reader.begun == 2


async def test_what_was_read_a_moment_ago_is_told_again() -> None:
    reader = Reader()
    reader.gate.set()
    fleet = FleetExporter(reader, kept_s=3600)
    first = await fleet.exposition()

    assert await fleet.exposition() is first
    assert reader.begun == 1


async def test_a_reading_that_hangs_is_given_up() -> None:
    fleet = FleetExporter(Reader(), limit_s=0.05)
    assert Scraped((await fleet.exposition()).body.decode()).one("arqestra_up") == 0
    await fleet.close()


async def test_redis_goes_away_and_comes_back() -> None:
    with EmbeddedRedis(use_environment=False) as redis:
        port = int(redis.url.split(":")[-1].split("/")[0])
        pool = await create_pool(redis.url)
        fleet = FleetExporter(partial(read_fleet, pool), kept_s=0)
        assert Scraped((await fleet.exposition()).body.decode()).one("arqestra_up") == 1
    away = Scraped((await fleet.exposition()).body.decode())
    assert [(sample.name, sample.value) for sample in away.samples] == [("arqestra_up", 0)]
    with EmbeddedRedis(use_environment=False, port=port):

        async def back() -> bool:
            return Scraped((await fleet.exposition()).body.decode()).one("arqestra_up") == 1

        await wait_until(back, "the fleet to be read again")
        await fleet.close()
        await pool.aclose()
