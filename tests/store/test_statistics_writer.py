"""Writing statistics: each batch once, whatever is lost on the way; what a process has enqueued."""

from __future__ import annotations

import asyncio

import pytest
from redis.asyncio import Redis

from arqestra.clock import timestamp_ms
from arqestra.store.statistics import read_hours, read_minutes, read_queues, read_totals
from arqestra.store.statistics_writer import EnqueueCounts, StatisticsWriter, field_of
from arqestra.store.store import Store
from tests.store.lossy_proxy import LossyProxy
from tests.store.scene import KEYS, Scene

FIELD = field_of("q|1", "f|g", "complete")


async def counted(redis: Redis) -> list[int]:
    """What minute, hour and totals have of the field."""
    minute = timestamp_ms() // 60_000
    minutes = await read_minutes(redis, KEYS, minute, 2)
    hours = await read_hours(redis, KEYS, minute // 60, 2)
    totals = await read_totals(redis, KEYS)
    return [
        sum(counters.get(FIELD, 0) for counters in minutes.values()),
        sum(counters.get(FIELD, 0) for counters in hours.values()),
        totals.get(FIELD, 0),
    ]


async def test_minute_hour_and_totals_grow_alike_and_maxima_are_kept(scene: Scene, redis: Redis) -> None:
    longest = field_of("q|1", "f", "run_ms_max")
    for number, run_ms in ((2, 50), (3, 20)):
        await scene.store.statistics.write({FIELD: number}, {longest: run_ms})

    assert await counted(redis) == [5, 5, 5]
    (counters,) = (await read_hours(redis, KEYS, timestamp_ms() // 3_600_000, 1)).values()
    assert counters[longest] == 50
    assert longest not in await read_totals(redis, KEYS)
    assert await read_queues(redis, KEYS) == ["q|1"]


async def test_all_of_it_is_forgotten_some_day(scene: Scene, redis: Redis) -> None:
    await scene.store.statistics.write({FIELD: 1}, {})

    keys = await redis.keys("*")
    assert len(keys) == 5
    assert all([await redis.ttl(key) > 0 for key in keys])


async def test_a_batch_whose_reply_was_lost_counts_once(redis_url: str, redis: Redis) -> None:
    async with LossyProxy(int(redis_url.rsplit(":", 1)[1].split("/")[0])) as proxy, Redis.from_url(proxy.url) as client:
        store = Store(client)
        await store.statistics.write({FIELD: 1}, {})
        for number in range(2, 5):
            proxy.lose_next_reply()
            await store.statistics.write({FIELD: number}, {})
        await store.close()
        assert proxy.lost == 3

    assert await counted(redis) == [10, 10, 10]


async def test_what_a_dead_redis_did_not_take_comes_with_the_next_batch(scene: Scene, redis: Redis) -> None:
    is_away = True

    async def call(name: str, key: str, *args: str | int) -> object:
        if is_away:
            raise ConnectionError("away")
        return await scene.store.call(name, key, *args)

    writer = StatisticsWriter(call, KEYS)
    for _ in range(3):
        with pytest.raises(ConnectionError):
            await writer.write({FIELD: 1}, {})
    assert await counted(redis) == [0, 0, 0]
    is_away = False
    await writer.write({FIELD: 4}, {})

    assert await counted(redis) == [7, 7, 7]


async def test_enqueues_are_written_by_a_timer_and_at_the_close(scene: Scene, redis: Redis) -> None:
    enqueued = field_of("q", "f", "enqueued")
    counts = EnqueueCounts(scene.store.statistics)
    counts.add("q", "f")
    counts.add("q", "f", 2)
    async with asyncio.timeout(30):
        while (await read_totals(redis, KEYS)).get(enqueued) != 3:  # noqa: ASYNC110 - Redis has no event for it
            await asyncio.sleep(0.05)
    counts.add("q", "f")
    await counts.close()

    assert (await read_totals(redis, KEYS))[enqueued] == 4


def test_counts_survive_an_event_loop(redis_url: str) -> None:
    """A producer that runs a loop for each call, as synchronous applications do."""

    async def add(counts: EnqueueCounts) -> None:
        counts.add("q", "f")

    async def store_and_counts() -> tuple[Store, EnqueueCounts]:
        store = Store(Redis.from_url(redis_url))
        return store, EnqueueCounts(store.statistics)

    store, counts = asyncio.run(store_and_counts())
    for _ in range(3):
        asyncio.run(add(counts))

    async def total() -> int:
        await counts.close()
        found = await read_totals(store.redis, KEYS)
        await store.close()
        await store.redis.aclose()
        return found[field_of("q", "f", "enqueued")]

    assert asyncio.run(total()) == 3
