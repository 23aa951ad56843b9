"""The lists of ended attempts: capped, in order, found by state, function and time without a scan."""

from __future__ import annotations

import pytest
from redis.asyncio import Redis

from arqestra.protocol.recent_jobs import ENDED_STATES, Failure, encode_recent_job
from arqestra.store.recent import EndedList, read_recent, write_recent
from tests.support.store_harness import KEYS, QUEUE, StoreHarness


def entry(job_id: str, ended_ms: int, function: str = "f", *, attempt: int = 1) -> tuple[int, bytes]:
    failure = Failure("ValueError", "no", "a.py:1 in f")
    return ended_ms, encode_recent_job(
        job_id,
        attempt,
        enqueued_ms=ended_ms - 20,
        started_ms=ended_ms - 10,
        worker_id="w",
        function=function,
        failure=failure,
    )


async def ids(harness: StoreHarness, *queues: str, **wanted: object) -> list[str]:
    found = await read_recent(harness.store, queues or (QUEUE,), **wanted)  # type: ignore[arg-type]
    return [job.job_id for job in found]


async def test_the_latest_come_first_over_states_functions_and_queues(harness: StoreHarness) -> None:
    await write_recent(
        harness.store,
        QUEUE,
        [
            EndedList("complete", "f", [entry("a", 1_000), entry("d", 4_000)]),
            EndedList("failed", "f", [entry("b", 2_000)]),
            EndedList("failed", "g|h", [entry("c", 3_000, "g|h")]),
        ],
    )
    await write_recent(harness.store, "other", [EndedList("failed", "f", [entry("e", 3_500)])])

    assert await ids(harness) == ["d", "c", "b", "a"]
    assert await ids(harness, QUEUE, "other") == ["d", "e", "c", "b", "a"]
    assert await ids(harness, state="failed") == ["c", "b"]
    assert await ids(harness, function="f") == ["d", "b", "a"]
    assert await ids(harness, function="g|h", state="failed") == ["c"]
    assert await ids(harness, since_ms=2_000, before_ms=4_000) == ["c", "b"]
    assert await ids(harness, limit=2) == ["d", "c"]
    assert await ids(harness, "no such queue") == []
    (job,) = await read_recent(harness.store, [QUEUE], state="failed", function="f")
    assert (job.function, job.attempt, job.run_s, job.ended.timestamp()) == ("f", 1, 0.01, 2.0)


async def test_a_list_keeps_the_newest_and_the_others_are_not_touched(harness: StoreHarness, redis: Redis) -> None:
    cap = ENDED_STATES["failed"]
    await write_recent(harness.store, QUEUE, [EndedList("failed", "rare", [entry("rare", 1)])])
    await write_recent(
        harness.store, QUEUE, [EndedList("failed", "f", [entry(f"j{number}", 1_000 + number) for number in range(cap)])]
    )
    await write_recent(harness.store, QUEUE, [EndedList("failed", "f", [entry("old", 5), entry("new", 1_000_000)])])

    assert await redis.zcard(KEYS.recent(QUEUE, "failed|f")) == cap
    assert (await ids(harness, function="f", limit=1)) == ["new"]
    assert "old" not in await ids(harness, limit=10_000)
    assert await ids(harness, function="rare") == ["rare"]


async def test_adding_twice_lists_once_and_each_attempt_is_listed(harness: StoreHarness) -> None:
    lists = [EndedList("retried", "f", [entry("a", 1_000), entry("a", 2_000, attempt=2)])]
    await write_recent(harness.store, QUEUE, lists)
    await write_recent(harness.store, QUEUE, lists)

    found = await read_recent(harness.store, [QUEUE])
    assert [(job.job_id, job.attempt) for job in found] == [("a", 2), ("a", 1)]


async def test_names_without_end_do_not_fill_redis(harness: StoreHarness, redis: Redis) -> None:
    for first in range(0, 700, 100):
        lists = [
            EndedList("failed", f"f{number}", [entry("a", 1_000 + number)]) for number in range(first, first + 100)
        ]
        await write_recent(harness.store, QUEUE, lists)

    assert await redis.zcard(KEYS.recent_index(QUEUE)) == 500
    keys = await redis.keys(KEYS.recent(QUEUE, "*"))
    assert len(keys) == 500
    assert all([await redis.pttl(key) > 0 for key in [*keys, KEYS.recent_index(QUEUE)]])
    assert await ids(harness, function="f0") == []
    assert await ids(harness, function="f699") == ["a"]


async def test_an_entry_of_another_version_is_passed_over(harness: StoreHarness) -> None:
    await write_recent(harness.store, QUEUE, [EndedList("failed", "f", [(2, b"\xc1 what?"), entry("a", 1)])])

    assert await ids(harness) == ["a"]


@pytest.mark.parametrize("count", [1, 999, 2_500])
async def test_any_number_is_written(harness: StoreHarness, count: int) -> None:
    await write_recent(
        harness.store, QUEUE, [EndedList("complete", f"f{n % 3}", [entry(f"j{n}", n + 1)]) for n in range(count)]
    )

    assert len(await ids(harness, limit=10_000)) == count
