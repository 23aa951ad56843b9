"""Writing statistics: each batch once, whatever is lost on the way; what a process has enqueued."""

from __future__ import annotations

import asyncio
import gc
import os
import weakref
from contextvars import ContextVar, copy_context
from typing import Any

import pytest
from redis.asyncio import Redis

from arqestra import create_pool
from arqestra.protocol.clock import timestamp_ms
from arqestra.store import statistics_writer
from arqestra.store.enqueue import EnqueueCounts
from arqestra.store.statistics import read_hours, read_minutes, read_queues, read_totals
from arqestra.store.statistics_writer import StatisticsWriter, field_of
from arqestra.store.store import Store
from tests.support.proxies.lossy import LossyProxy
from tests.support.store_harness import KEYS, StoreHarness

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


async def test_minute_hour_and_totals_grow_alike_and_maxima_are_kept(harness: StoreHarness, redis: Redis) -> None:
    longest = field_of("q|1", "f", "run_ms_max")
    for number, run_ms in ((2, 50), (3, 20)):
        await harness.store.statistics.write({FIELD: number}, {longest: run_ms})

    assert await counted(redis) == [5, 5, 5]
    (counters,) = (await read_hours(redis, KEYS, timestamp_ms() // 3_600_000, 1)).values()
    assert counters[longest] == 50
    assert longest not in await read_totals(redis, KEYS)
    assert await read_queues(redis, KEYS) == ["q|1"]


async def test_all_of_it_is_forgotten_some_day(harness: StoreHarness, redis: Redis) -> None:
    await harness.store.statistics.write({FIELD: 1}, {})

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


async def test_what_a_dead_redis_did_not_take_comes_with_the_next_batch(harness: StoreHarness, redis: Redis) -> None:
    is_away = True

    async def call(name: str, key: str, *args: str | int) -> object:
        if is_away:
            raise ConnectionError("away")
        return await harness.store.call(name, key, *args)

    writer = StatisticsWriter(call, KEYS)
    for _ in range(3):
        with pytest.raises(ConnectionError):
            await writer.write({FIELD: 1}, {})
    assert await counted(redis) == [0, 0, 0]
    is_away = False
    await writer.write({FIELD: 4}, {})

    assert await counted(redis) == [7, 7, 7]


async def test_enqueues_are_written_by_a_timer_and_at_the_close(harness: StoreHarness, redis: Redis) -> None:
    enqueued = field_of("q", "f", "enqueued")
    counts = EnqueueCounts(harness.store.statistics)
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

    async def store_and_counts() -> tuple[Redis, Store, EnqueueCounts]:
        redis = Redis.from_url(redis_url)
        store = Store(redis)
        return redis, store, EnqueueCounts(store.statistics)

    redis, store, counts = asyncio.run(store_and_counts())
    for _ in range(3):
        asyncio.run(add(counts))

    async def total() -> int:
        await counts.close()
        found = await read_totals(store.redis, KEYS)
        await store.close()
        await redis.aclose()
        return found[field_of("q", "f", "enqueued")]

    assert asyncio.run(total()) == 3


async def test_a_batch_that_may_have_been_written_long_ago_is_not_written_again(
    harness: StoreHarness, redis: Redis
) -> None:
    """Redis remembers numbers for ten minutes: after that it would count twice."""
    now_s = 0.0
    loses_reply = True

    async def call(name: str, key: str, *args: str | int) -> object:
        await harness.store.call(name, key, *args)
        if loses_reply:
            raise ConnectionError("cut")
        return 1

    writer = StatisticsWriter(call, KEYS, lambda: now_s)
    with pytest.raises(ConnectionError):
        await writer.write({FIELD: 1}, {})
    await redis.delete(*await redis.keys("arqestra:recorded:*"))
    now_s, loses_reply = 600.0, False
    await writer.write({FIELD: 4}, {})

    assert await counted(redis) == [5, 5, 5]


async def test_counts_of_very_many_functions_go_in_several_calls(harness: StoreHarness, redis: Redis) -> None:
    sizes = []

    async def call(name: str, key: str, *args: str | int) -> object:
        sizes.append(len(args))
        return await harness.store.call(name, key, *args)

    sums = {field_of("q|1", f"f{number}", "complete"): number for number in range(2_500)}
    maxima = {field_of("q|1", f"f{number}", "run_ms_max"): number for number in range(2_500)}
    await StatisticsWriter(call, KEYS).write(sums, maxima)

    assert len(sizes) == 5
    assert max(sizes) < 3_100
    (counters,) = (await read_hours(redis, KEYS, timestamp_ms() // 3_600_000, 1)).values()
    assert counters == sums | maxima


async def test_what_is_dropped_during_a_call_takes_nothing_else_along(
    harness: StoreHarness, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The oldest of too many minutes are dropped, also the one that is just being sent."""
    minute, minutes = timestamp_ms() // 60_000, [0]
    monkeypatch.setattr(statistics_writer, "timestamp_ms", lambda: (minute + minutes[0]) * 60_000)
    is_sending, may_go_on = asyncio.Event(), asyncio.Event()

    async def call(*args: Any) -> Any:
        is_sending.set()
        await may_go_on.wait()
        return await harness.store.call(*args)

    writer = StatisticsWriter(call, KEYS)
    writing = [asyncio.create_task(writer.write({FIELD: 100}, {}))]
    await is_sending.wait()
    for number in range(60):
        minutes[0] = number % 2 - 1
        writing.append(asyncio.create_task(writer.write({FIELD: 1}, {})))
        await asyncio.sleep(0)  # it has added its counts, and waits for its turn to send
    may_go_on.set()
    await asyncio.gather(*writing)

    assert (await counted(redis))[2] == 160


async def test_a_clock_that_is_wrong_drops_no_queue(
    harness: StoreHarness, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    await harness.store.statistics.write({FIELD: 1}, {})
    wrong = StatisticsWriter(harness.store.call, KEYS)
    monkeypatch.setattr("arqestra.store.statistics_writer.timestamp_ms", lambda: timestamp_ms() + 90 * 86_400_000)
    await wrong.write({field_of("other", "f", "complete"): 1}, {})

    assert await read_queues(redis, KEYS) == ["other", "q|1"]


async def test_names_without_end_do_not_fill_redis(harness: StoreHarness, redis: Redis) -> None:
    await harness.store.statistics.write({FIELD: 1}, {})
    await redis.hset(KEYS.totals, mapping={f"q|f{number}|complete": 1 for number in range(50_000)})  # type: ignore[misc]
    await harness.store.statistics.write({FIELD: 1, field_of("q", "one more", "complete"): 1}, {})

    assert await redis.hlen(KEYS.totals) == 50_001  # type: ignore[misc]
    assert await counted(redis) == [2, 2, 2]


def test_a_loop_that_was_closed_while_it_wrote_keeps_no_later_one_from_writing() -> None:
    is_stuck = True

    async def call(name: str, key: str, *args: str | int) -> object:
        if is_stuck:
            await asyncio.Event().wait()
        written.append(args)
        return 1

    written: list[object] = []
    writer = StatisticsWriter(call, KEYS)
    loop = asyncio.new_event_loop()
    stuck = loop.create_task(writer.write({FIELD: 1}, {}))
    loop.run_until_complete(asyncio.sleep(0))
    assert not stuck.done()
    is_stuck = False

    async def write() -> None:
        async with asyncio.timeout(5):
            await writer.write({FIELD: 1}, {})

    asyncio.run(write())
    assert len(written) == 2
    stuck.cancel()
    loop.run_until_complete(asyncio.gather(stuck, return_exceptions=True))
    loop.close()


def test_what_loops_have_left_that_ended_before_the_timer_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that runs a loop for each enqueue, and never closes its pool."""
    now_s = 0.0
    monkeypatch.setattr("arqestra.store.enqueue.monotonic", lambda: now_s)
    written: list[object] = []

    async def call(name: str, key: str, *args: str | int) -> object:
        written.append(args[-2])
        return 1

    async def add() -> None:
        counts.add("q", "f")

    async def make() -> EnqueueCounts:
        return EnqueueCounts(StatisticsWriter(call, KEYS))

    counts = asyncio.run(make())
    for now_s in (0.0, 0.5):  # noqa: B007 - read by `monotonic`
        asyncio.run(add())
        assert not counts.stranded
    now_s = 2.0
    asyncio.run(add())
    assert counts.stranded
    asyncio.run(counts.write_stranded())

    assert written == [3]
    assert not counts.stranded


@pytest.mark.parametrize("many", [False, True])
async def test_what_was_left_is_written_by_the_next_enqueue(redis_url: str, redis: Redis, many: bool) -> None:
    pool = await create_pool(redis_url)
    pool.store.enqueued.add("q", "f", 3)
    pool.store.enqueued.stranded = True
    await (pool.enqueue_many([("g", (), {})]) if many else pool.enqueue_job("g"))

    assert await read_totals(redis, KEYS) == {field_of("q", "f", "enqueued"): 3}
    await pool.aclose()


def test_a_child_of_a_process_counts_for_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """As servers do that load the application first and fork then: both go on from the same state."""
    written: list[tuple[object, object, object]] = []

    async def call(name: str, key: str, *args: str | int) -> object:
        written.append((args[5], args[6], args[-2]))
        return 1

    async def make() -> EnqueueCounts:
        return EnqueueCounts(StatisticsWriter(call, KEYS))

    async def add(number: int) -> None:
        counts.add("q", "f", number)

    async def add_and_write(number: int) -> None:
        counts.add("q", "f", number)
        await counts.close()

    counts = asyncio.run(make())
    asyncio.run(add_and_write(1))
    asyncio.run(add(7))
    pid = os.getpid()
    monkeypatch.setattr("arqestra.store.enqueue.os.getpid", lambda: pid + 1)
    asyncio.run(counts.close())
    asyncio.run(add_and_write(2))

    (parent, _, first), (child, _, second) = written
    assert (first, second) == (1, 2)
    assert parent != child


async def test_the_timer_holds_nothing_of_whoever_enqueued(harness: StoreHarness) -> None:
    """A job that enqueues lives in a context that has its arguments."""

    class Arguments:
        pass

    held: ContextVar[Arguments] = ContextVar("held")
    counts = EnqueueCounts(harness.store.statistics)

    def enqueue() -> weakref.ref[Arguments]:
        arguments = Arguments()
        held.set(arguments)
        counts.add("q", "f")
        return weakref.ref(arguments)

    seen = copy_context().run(enqueue)
    gc.collect()

    assert seen() is None
    await counts.close()
