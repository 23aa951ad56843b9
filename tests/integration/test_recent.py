"""What is listed and counted of jobs that have ended."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import arqestra
from arqestra import Pool, SettingsError
from arqestra.protocol.clock import timestamp_ms
from arqestra.protocol.events import Event
from arqestra.protocol.wire import Payload, encode_payload
from arqestra.store.records import NewJob
from tests.integration.telling_worker import double, fail, fail_twice, recent, tell, working
from tests.support.wait import wait_until


async def test_ended_attempts_are_listed_with_what_they_failed_with(pool: Pool, redis_url: str) -> None:
    async with working(redis_url) as worker:
        one = await pool.enqueue(double, 1)
        two = await pool.enqueue(fail)
        three = await pool.enqueue(fail_twice)
        assert one is not None
        assert two is not None
        assert three is not None
        assert await three.result(timeout=30) == 3
        found = await recent(pool, 5)

    assert len(found) == 5
    assert found == sorted(found, key=lambda each: each.ended, reverse=True)
    by_state = {
        state: [each.job_id for each in found if each.state == state] for state in ("complete", "failed", "retried")
    }
    assert set(by_state["complete"]) == {one.job_id, three.job_id}
    assert by_state["failed"] == [two.job_id]
    assert by_state["retried"] == [three.job_id, three.job_id]
    (failed,) = await pool.recent(state="failed", function="fail")
    assert failed.failure is not None
    assert (failed.failure.type, failed.failure.message) == ("ValueError", "as it was told")
    assert failed.failure.place.startswith("integration/telling_worker.py:")
    assert failed.failure.place.endswith(" in fail")
    assert (failed.worker_id, failed.attempt, failed.function) == (worker.worker_id, 1, "fail")
    retried = await pool.recent(state="retried")
    assert [each.attempt for each in retried] == [2, 1]
    assert [each.failure and each.failure.message for each in retried] == ["attempt 2", "attempt 1"]


@pytest.mark.parametrize("wanted", [{"state": "done"}, {"limit": 0}, {"limit": 10_001}, {"limit": True}])
async def test_a_search_that_makes_no_sense_is_refused(pool: Pool, wanted: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match="expected"):
        await pool.recent(**wanted)


async def test_enqueues_are_counted_with_their_ends(pool: Pool, redis_url: str) -> None:
    async with working(redis_url):
        await pool.enqueue_many([double.bind(number) for number in range(20)])
        await asyncio.gather(*(pool.enqueue(double, number) for number in range(30)))
        assert await pool.enqueue_job("double", 1, _job_id="one") is not None
        assert await pool.enqueue_job("double", 1, _job_id="one") is None
        flow = await pool.enqueue_flow(arqestra.group(double.s(number) for number in range(5)) | double.s())
        await flow.result(timeout=30)

        async def are_counted() -> bool:
            (row,) = await pool.totals() or [{}]
            return (row.get("enqueued"), row.get("complete")) == (57, 57)

        await wait_until(are_counted, "that all are counted")
    (row,) = await pool.statistics(1)
    assert (row["enqueued"], row["complete"]) == (57, 57)
    (row,) = await pool.totals()
    assert sum(row["run_ms_buckets"]) == sum(row["wait_ms_buckets"]) == 57


async def test_a_function_that_nobody_has_is_counted_as_unknown_and_listed_by_its_name(
    pool: Pool, redis_url: str
) -> None:
    async with working(redis_url, unknown_functions="fail"):
        await pool.enqueue_job("nobody_has_me")
        (ended,) = await recent(pool, 1)
    assert (ended.function, ended.state, ended.started) == ("nobody_has_me", "failed", None)
    assert [row["function"] for row in await pool.totals() if row["failed"]] == ["<unknown>"]


async def test_a_function_name_that_cannot_be_stored_is_told_in_escapes_and_stops_nothing(
    pool: Pool, redis_url: str
) -> None:
    heard: list[Event] = []

    async def listen() -> None:
        async for event in pool.events():
            heard.append(event)

    async with working(redis_url, unknown_functions="fail") as worker:
        listening = asyncio.create_task(listen())
        await wait_until(lambda: worker.reporter.publisher.listened, "that somebody listens")
        await pool.enqueue_job("f\udcff|g" + 300 * "h")
        (ended,) = await recent(pool, 1)
        assert ended.function.startswith("f\\udcff|ghh")
        assert len(ended.function) < 250
        await wait_until(lambda: "failed" in [event.kind for event in heard], "its end")
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)

        async def is_counted() -> bool:
            return sum(row["enqueued"] for row in await pool.totals()) == 1

        await wait_until(is_counted, "that it is counted")


async def test_what_redis_refuses_of_the_statistics_keeps_nothing_else_back(pool: Pool, redis_url: str) -> None:
    await pool.set(pool.store.keys.recent_index("arq:queue"), "of another type")
    async with working(redis_url) as worker:
        told = await pool.enqueue(tell)
        assert told is not None
        await told.result(timeout=30)

        async def is_written() -> bool:
            progress = await told.progress()
            return progress is not None and progress.done == 4

        await wait_until(is_written, "the progress")

        async def is_seen() -> bool:
            return [each.presence.complete for each in await pool.workers()] == [1]

        await wait_until(is_seen, "the worker")
        assert not worker.draining
        await pool.delete(pool.store.keys.recent_index("arq:queue"))
        await recent(pool, 1)


async def test_a_job_that_no_stage_foresaw_is_counted_and_listed_too(pool: Pool, redis_url: str) -> None:
    payload = Payload("double", (1,), {}, None, timestamp_ms(), {"x": "no time"})
    async with working(redis_url) as worker:
        await pool.store.enqueue([NewJob("arq:queue", "odd", encode_payload(pool.serializer, payload))])
        (ended,) = await recent(pool, 1)
        assert (ended.job_id, ended.state) == ("odd", "failed")
        assert worker.jobs_failed == 1
