"""arq's rules for times: what was to start long ago, and cron jobs with one id for all their ticks."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import arq
import pytest
import redis.exceptions

import arqestra
from arqestra import Job, Pool, Worker, chain, create_pool, cron, job
from arqestra.protocol.wire import decode_payload
from arqestra.worker.schedule_runner import id_taken_ms
from tests.support.pools import serializers


@job
async def work(ctx: dict[Any, Any]) -> str:
    return "done"


@job
async def other(ctx: dict[Any, Any]) -> str:
    return "done"


serializer = serializers("pickle", "msgpack", "json")


async def burst(pool: Pool, **settings: Any) -> Worker:
    """All that is due, by a worker of its own."""
    kwargs = pool.connection_pool.connection_kwargs
    settings = {
        "redis_settings": arqestra.RedisSettings(kwargs["host"], kwargs["port"]),
        "serializer": pool.serializer,
        "burst": True,
        "handle_signals": False,
        **settings,
    }
    worker = Worker([work, other], **settings)
    await worker.async_run()
    await worker.close()
    return worker


PAST = [timedelta(hours=1), timedelta(days=1, seconds=1), timedelta(days=2), timedelta(days=365 * 40)]


async def _enqueued(pool: Pool, way: str, ago: timedelta) -> Job[Any]:
    when = datetime.now(UTC) - ago
    if way == "_defer_until":
        found = await pool.enqueue_job("work", _defer_until=when)
    elif way == "_defer_by":
        found = await pool.enqueue_job("work", _defer_by=-ago)
    elif way == "options":
        found = await pool.enqueue(work.options(defer_until=when))
    elif way == "many":
        [found] = await pool.enqueue_many([work.options(defer_until=when).bind()])
    else:
        raise AssertionError(way)
    assert found is not None
    return found


@pytest.mark.parametrize("ago", PAST, ids=str)
@pytest.mark.parametrize("way", ["_defer_until", "_defer_by", "options", "many"])
async def test_a_job_that_was_to_start_long_ago_starts_at_once(pool: Pool, way: str, ago: timedelta) -> None:
    handle = await _enqueued(pool, way, ago)
    await burst(pool)

    assert await handle.result(timeout=5) == "done"


async def test_it_has_a_day_to_start_as_any_other(pool: Pool) -> None:
    handle = await pool.enqueue_job("work", _defer_until=datetime.now(UTC) - timedelta(days=30))
    assert handle is not None
    data = await pool.get(pool.store.keys.job(handle.job_id))
    options = decode_payload(pool.serializer, data).options
    left_ms = options["x"] - datetime.now(UTC).timestamp() * 1000

    assert left_ms == pytest.approx(86_400_000, abs=60_000)


async def test_a_flow_that_was_to_start_long_ago_starts_at_once(pool: Pool) -> None:
    when = datetime.now(UTC) - timedelta(days=3)
    flow = await pool.enqueue_flow(chain(work.si().set(defer_until=when), other.si().set(defer_until=when)))
    await burst(pool)

    assert await flow.result(timeout=5) == "done"


async def test_stock_arq_cannot_enqueue_it(redis_url: str) -> None:
    """What the table of differences says of it."""
    stock = await arq.create_pool(arq.connections.RedisSettings.from_dsn(redis_url))
    with pytest.raises(redis.exceptions.ResponseError, match="invalid expire time"):
        await stock.enqueue_job("work", _defer_until=datetime.now(UTC) - timedelta(days=2))
    await stock.aclose()


# -- cron(job_id=) ----------------------------------------------------------------------------------------------------


EVERY_SECOND = frozenset(range(60))


def _seconds_to(cron_job: Any) -> float:
    now = datetime.now().astimezone()
    cron_job.calculate_next(now)
    return float((cron_job.next_run - now).total_seconds())


@pytest.mark.parametrize("unique", [True, False])
async def test_a_cron_job_of_one_id_runs_again_at_its_next_tick(redis_url: str, unique: bool) -> None:
    """Not only when the minute is over for which the id of a tick stays taken."""
    pool = await create_pool(redis_url)
    runs = asyncio.Queue[str]()

    async def tick(ctx: dict[Any, Any]) -> None:
        runs.put_nowait(ctx["job_id"])

    ticking = cron(tick, second=set(EVERY_SECOND), job_id="tidy", unique=unique)
    worker = Worker([work], cron_jobs=[ticking], redis_pool=pool, handle_signals=False)
    running = asyncio.create_task(worker.async_run())
    try:
        async with asyncio.timeout(20):
            assert [await runs.get() for _ in range(3)] == ["tidy"] * 3
    finally:
        await worker.close()
        await asyncio.gather(running, return_exceptions=True)


async def test_a_tick_whose_id_is_kept_as_a_result_is_left_out(pool: Pool) -> None:
    crons = [
        cron(
            each, name=name, job_id="tidy", second=set(EVERY_SECOND), run_at_startup=True, unique=False, keep_result=60
        )
        for each, name in ((work, "one"), (other, "two"))
    ]
    first = await burst(pool, cron_jobs=crons)
    info = await pool.job("tidy").result_info()
    assert info is not None
    assert (first.jobs_complete, info.function) == (1, "one")

    again = await burst(pool, cron_jobs=crons)
    assert again.jobs_complete == 0


async def test_an_id_is_free_before_the_next_tick_of_any_cron_job_that_has_it() -> None:
    own, same, apart = (
        cron(work, name="own", job_id="tidy", minute=set(range(60)), second=0, microsecond=0),
        cron(work, name="same", job_id="tidy", minute=set(range(60)), second=30, microsecond=0),
        cron(work, name="apart", minute=set(range(60)), second=set(EVERY_SECOND)),
    )
    alone = Worker([work], cron_jobs=[own, apart], handle_signals=False)
    both = Worker([work], cron_jobs=[own, same, apart], handle_signals=False)

    for worker, sharing in ((alone, [own]), (both, [own, same])):
        taken_s = id_taken_ms(own, worker.cron_jobs, worker.timezone) / 1000
        assert taken_s <= max(0.0, min(map(_seconds_to, sharing)))
    assert id_taken_ms(apart, alone.cron_jobs, alone.timezone) == 60_000  # each tick has an id of its own
    monthly = cron(work, name="monthly", job_id="report", day=(datetime.now().day + 14) % 28 + 1, hour=0, minute=0)
    rare = Worker([work], cron_jobs=[monthly], handle_signals=False)
    assert id_taken_ms(monthly, rare.cron_jobs, rare.timezone) == 60_000
