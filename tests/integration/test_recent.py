"""What is seen of jobs while they run and after: recent jobs, progress and log, events; counts of what was enqueued."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from fractions import Fraction
from typing import Any

import pytest
from arq import Retry

import arqestra
from arqestra import ArgumentsError, JobContext, Pool, SettingsError, Worker, current_job, job
from arqestra.protocol.clock import timestamp_ms
from arqestra.protocol.events import Event, decode_events, encode_events
from arqestra.protocol.recent_jobs import EndedJob
from arqestra.protocol.wire import Payload, encode_payload
from arqestra.store.presence import steer_worker
from arqestra.store.records import NewJob
from tests.support.wait import wait_until


@job
async def double(ctx: JobContext, number: int) -> int:
    return 2 * number


@job(max_tries=3)
async def fail_twice(ctx: JobContext) -> int:
    attempt: int = ctx["job_try"]
    if attempt < 3:
        raise Retry(defer=0) from ValueError(f"attempt {attempt}\nand more")
    return attempt


@job
async def fail(ctx: JobContext) -> None:
    raise ValueError("as it was told\nin two lines")


@job
async def tell(ctx: JobContext, until_gate: bool = False) -> None:
    ctx.progress(1, 4, "begun")
    ctx.log("first line")
    running = current_job()
    assert running is not None
    running.progress(2, 4)
    running.log({"second": "line"})
    if until_gate:
        await ctx["gate"].wait()
    ctx.progress(4, 4, "done")


@job(executor="thread")
def tell_in_a_thread(ctx: JobContext) -> str:
    ctx.progress(3)
    ctx.log(threading.current_thread().name)
    return threading.current_thread().name


@job
async def tell_nonsense(ctx: JobContext, what: Any) -> None:
    ctx.progress(what)


FUNCTIONS = [double, fail_twice, fail, tell, tell_in_a_thread, tell_nonsense]


@asynccontextmanager
async def working(redis_url: str, **settings: Any) -> AsyncIterator[Worker]:
    worker = Worker(FUNCTIONS, redis_settings=redis_url, handle_signals=False, poll_delay=0.05, **settings)
    running = asyncio.create_task(worker.async_run())
    try:
        await wait_until(lambda: worker.redis_session is not None and worker.sync.turns > 0, "a worker")
        yield worker
    finally:
        await worker.close()
        await asyncio.gather(running, return_exceptions=True)


async def recent(pool: Pool, count: int, **wanted: Any) -> list[EndedJob]:
    found: list[EndedJob] = []

    async def are_there() -> bool:
        found[:] = await pool.recent(**wanted)
        return len(found) >= count

    await wait_until(are_there, f"{count} recent jobs")
    return found


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
    assert failed.failure.place.startswith("integration/test_recent.py:")
    assert failed.failure.place.endswith(" in fail")
    assert (failed.worker_id, failed.attempt, failed.function) == (worker.worker_id, 1, "fail")
    retried = await pool.recent(state="retried")
    assert [each.attempt for each in retried] == [2, 1]
    assert [each.failure and each.failure.message for each in retried] == ["attempt 2", "attempt 1"]


@pytest.mark.parametrize("wanted", [{"state": "done"}, {"limit": 0}, {"limit": 10_001}, {"limit": True}])
async def test_a_search_that_makes_no_sense_is_refused(pool: Pool, wanted: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match="expected"):
        await pool.recent(**wanted)


async def test_progress_and_log_are_read_while_the_job_runs_and_after(pool: Pool, redis_url: str) -> None:
    gate = asyncio.Event()
    async with working(redis_url, ctx={"gate": gate}):
        running = await pool.enqueue(tell, until_gate=True)
        assert running is not None
        seen = []
        async for progress in running.watch(poll_delay=0.05):
            seen.append((progress.done, progress.total, progress.message, progress.share))
            if not gate.is_set():
                assert [line.text for line in await running.log()] == ["first line", "{'second': 'line'}"]

                async def is_told_of() -> bool:
                    told = [each for worker in await pool.workers() for each in worker.presence.jobs]
                    return [(each.done, each.total) for each in told] == [(2, 4)]

                await wait_until(is_told_of, "progress in the registry of workers")
            gate.set()
        assert seen[0] == (2, 4, "", 0.5)

        async def has_ended() -> bool:
            last = await running.progress()
            return last is not None and last.message == "done"

        await wait_until(has_ended, "the last progress")
    last = await running.progress()
    assert last is not None
    assert last.share == 1
    assert len(await running.log()) == 2


async def test_a_short_job_and_one_in_a_thread_tell_too(pool: Pool, redis_url: str) -> None:
    worker = Worker(FUNCTIONS, redis_settings=redis_url, burst=True, handle_signals=False)
    short, in_thread = await pool.enqueue(tell), await pool.enqueue(tell_in_a_thread)
    assert short is not None
    assert in_thread is not None
    await worker.main()
    await worker.close()

    assert [line.text for line in await short.log(1)] == ["{'second': 'line'}"]
    progress = await in_thread.progress()
    assert progress is not None
    assert (progress.done, progress.total, progress.share) == (3, None, None)
    assert [line.text for line in await in_thread.log()] == [await in_thread.result()]


@pytest.mark.parametrize("what", ["3", None, True, float("nan")])
async def test_progress_that_is_no_number_fails_the_job_with_a_clear_error(
    pool: Pool, redis_url: str, what: Any
) -> None:
    async with working(redis_url):
        told = await pool.enqueue(tell_nonsense, what)
        assert told is not None
        with pytest.raises(ArgumentsError, match="expected numbers"):
            await told.result(timeout=30)


def test_outside_of_jobs_there_is_nothing_to_tell() -> None:
    with pytest.raises(RuntimeError, match="expected a call within a running job"):
        JobContext().progress(1)


async def test_events_are_told_to_whoever_listens(pool: Pool, redis_url: str) -> None:
    heard: list[Event] = []

    async def listen() -> None:
        async for event in pool.events():
            heard.append(event)

    async with working(redis_url) as worker:
        assert not worker.reporter.publisher.listened
        listening = asyncio.create_task(listen())
        await wait_until(lambda: worker.reporter.publisher.listened, "that somebody listens")
        told, retried = await pool.enqueue(tell), await pool.enqueue(fail_twice)
        assert told is not None
        assert retried is not None
        await wait_until(lambda: any(e.kind == "progress" for e in heard), "progress")
        await wait_until(lambda: sum(e.kind == "complete" for e in heard) == 2, "both ends")
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)
        await wait_until(lambda: not worker.reporter.publisher.listened, "that nobody listens any more")

    kinds = [event.kind for event in heard if event.job_id == retried.job_id]
    assert kinds == ["started", "retried", "started", "retried", "started", "complete"]
    (first,) = [event for event in heard if event.job_id == retried.job_id and event.attempt == 1 and event.error]
    assert (first.function, first.queue, first.error) == ("fail_twice", "arq:queue", "ValueError: attempt 1")
    (progress,) = [event for event in heard if event.kind == "progress"]
    assert (progress.job_id, progress.done, progress.message) == (told.job_id, 4, "done")


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


async def test_a_draining_worker_takes_no_jobs_until_it_is_told_to(pool: Pool, redis_url: str) -> None:
    gate = asyncio.Event()
    async with working(redis_url, ctx={"gate": gate}, max_jobs=2) as worker:
        running = await pool.enqueue(tell, until_gate=True)
        assert running is not None
        await wait_until(lambda: "tell" in [a.payload.function for a in worker.slots.running.values()], "a running job")
        assert await steer_worker(pool.store, worker.worker_id, "drain")

        async def is_draining() -> bool:
            return [each.presence.draining for each in await pool.workers()] == [True]

        await wait_until(is_draining, "that the worker says so")
        waiting = await pool.enqueue(double, 2)
        assert waiting is not None
        gate.set()
        await running.result(timeout=30)
        turns = worker.sync.turns
        await wait_until(lambda: worker.sync.turns > turns + 3, "looks at the queue")
        assert await waiting.status() == "queued"
        assert await pool.zcard(pool.store.keys.waiting("arq:queue")) == 0
        assert await steer_worker(pool.store, worker.worker_id, "resume")
        assert await waiting.result(timeout=30) == 4
    assert not await steer_worker(pool.store, worker.worker_id, "drain")


async def test_a_draining_worker_leaves_new_jobs_to_the_others_at_once(pool: Pool, redis_url: str) -> None:
    async with working(redis_url) as drained, working(redis_url) as other:
        assert await steer_worker(pool.store, drained.worker_id, "drain")
        await wait_until(lambda: drained.draining, "that it drains")
        made = [await pool.enqueue(double, number) for number in range(20)]
        for each in made:
            assert each is not None
            await each.result(timeout=30)
        assert drained.jobs_complete == 0
        assert other.jobs_complete == 20


async def two_that_wait(redis_url: str, pool: Pool) -> list[Worker]:
    """Two workers that look at the queue only when they are woken; the first is woken next."""
    workers = []
    for count in (1, 2):
        worker = Worker(FUNCTIONS, redis_settings=redis_url, handle_signals=False, poll_delay=30)
        workers.append(worker)
        worker.main_task = asyncio.create_task(worker.main())

        async def waits(count: int = count) -> bool:
            return bool(await pool.zcard(pool.store.keys.waiting("arq:queue")) == count)

        await wait_until(waits, "a worker that waits to be woken")
    return workers


async def test_a_wake_up_that_comes_with_the_order_to_drain_is_passed_on(pool: Pool, redis_url: str) -> None:
    drained, other = await two_that_wait(redis_url, pool)
    made, _ = await asyncio.gather(pool.enqueue(double, 2), steer_worker(pool.store, drained.worker_id, "drain"))
    assert made is not None
    assert await made.result(timeout=15, poll_delay=0.1) == 4
    assert (drained.jobs_complete, other.jobs_complete) == (0, 1)
    await asyncio.gather(drained.close(), other.close())


@pytest.mark.parametrize("wait", [0, 30])
async def test_a_wake_up_that_comes_with_the_order_to_stop_is_passed_on(pool: Pool, redis_url: str, wait: int) -> None:
    stopped, other = await two_that_wait(redis_url, pool)
    gate = asyncio.Event()
    stopped.ctx["gate"] = gate
    if wait:  # something that is to be completed first
        stopped.grant_completion_wait(wait)
        running = await pool.enqueue(tell, until_gate=True)
        assert running is not None
        await wait_until(lambda: bool(stopped.slots.running), "a running job")
        await asyncio.sleep(0)

        async def both_wait() -> bool:
            return bool(await pool.zcard(pool.store.keys.waiting("arq:queue")) == 2)

        await wait_until(both_wait, "that both wait")
        await pool.zadd(pool.store.keys.waiting("arq:queue"), {stopped.worker_id: 1})
    # It is woken, and does not act on it: as if the message had come when it had just stopped to listen.
    stopped.sync.look = lambda: None  # type: ignore[method-assign]
    stopped.sync.take_in = lambda delivery: None  # type: ignore[method-assign]
    made = await pool.enqueue(double, 2)
    assert made is not None
    stopped.handle_sig_wait_for_completion(signal.SIGTERM) if wait else stopped.handle_sig(signal.SIGTERM)
    assert await made.result(timeout=15, poll_delay=0.1) == 4
    assert other.jobs_complete == 1
    gate.set()
    await asyncio.gather(stopped.close(), other.close())


class Share(float):
    """As numpy's numbers: it counts like one, and no encoder knows it."""


@pytest.mark.parametrize(("what", "stored"), [(Share(0.5), 0.5), (Fraction(1, 4), 0.25), (2**70, float(2**70))])
async def test_whatever_counts_as_a_number_is_progress(pool: Pool, redis_url: str, what: Any, stored: float) -> None:
    async with working(redis_url) as worker:
        told = await pool.enqueue(tell_nonsense, what)
        assert told is not None
        await told.result(timeout=30)

        async def is_written() -> bool:
            progress = await told.progress()
            return progress is not None and progress.done == stored

        await wait_until(is_written, "the progress")
        assert worker.reporter._task is not None
        assert not worker.reporter._task.done()


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


async def test_a_watcher_sees_the_last_progress_of_a_job_however_short_it_is(pool: Pool, redis_url: str) -> None:
    async with working(redis_url, unknown_functions="fail"):
        for _ in range(10):
            told = await pool.enqueue(tell)
            assert told is not None
            assert [progress.done async for progress in told.watch()][-1] == 4


async def test_last_notes_that_come_behind_the_end_are_sent_again_as_soon_as_that_is_known(
    pool: Pool, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another write of notes was under way when the job ended."""
    async with working(redis_url) as worker:
        monkeypatch.setattr(worker.reporter, "write_once", worker.reporter.publisher.drain)  # not once a second
        settled, replies = worker.sync._settled, []
        worker.sync._settled = lambda *reply: replies.append(reply)
        async with worker.reporter.progress_buffer._writing:
            told = await pool.enqueue(tell)
            assert told is not None
            await told.result(timeout=30)
        await wait_until(lambda: worker.reporter.progress_buffer.waits_for_outcomes, "notes that found no lease")
        assert await told.progress() is None
        for reply in replies:
            settled(*reply)

        async def is_written() -> bool:
            progress = await told.progress()
            return progress is not None and progress.done == 4

        await wait_until(is_written, "the progress")


async def test_a_burst_worker_tells_while_it_works(pool: Pool, redis_url: str) -> None:
    gate = asyncio.Event()
    worker = Worker(FUNCTIONS, redis_settings=redis_url, burst=True, handle_signals=False, ctx={"gate": gate})
    told = await pool.enqueue(tell, until_gate=True)
    assert told is not None
    short = [await pool.enqueue(tell) for _ in range(20)]
    working = asyncio.create_task(worker.main())

    async def are_written() -> bool:
        found = [await each.progress() for each in (told, *short) if each is not None]
        return [each.done if each else None for each in found] == [2, *[4] * 20]

    await wait_until(are_written, "the progress of all")
    await recent(pool, 20)
    gate.set()
    await working
    await worker.close()


async def test_a_listener_that_falls_behind_is_told_how_many_events_it_has_missed(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    messages = 0

    def count(data: bytes) -> list[Event]:
        nonlocal messages
        messages += 1
        return decode_events(data)

    monkeypatch.setattr("arqestra.client.fleet_views.decode_events", count)
    kinds: list[str] = []
    dropped: list[int] = []
    goes_on, has_begun = asyncio.Event(), asyncio.Event()

    async def listen() -> None:
        async for event in pool.events():
            has_begun.set()
            await goes_on.wait()
            kinds.append(event.kind)
            dropped.append(event.count)

    listening = asyncio.create_task(listen())
    message = encode_events([Event("complete", 1, "w", job_id=f"j{number}") for number in range(500)])

    async def is_listening() -> bool:
        return bool(await pool.publish(pool.store.keys.events, message))

    await wait_until(is_listening, "a listener")
    await has_begun.wait()
    for _ in range(40):
        await pool.publish(pool.store.keys.events, message)
    await wait_until(lambda: messages == 41, "all messages")
    goes_on.set()
    await wait_until(lambda: "dropped" in kinds, "what was missed")
    listening.cancel()
    await asyncio.gather(listening, return_exceptions=True)

    assert 10_000 <= kinds.index("dropped") <= 10_001
    assert sum(dropped) == 41 * 500 - kinds.index("dropped")


async def test_a_watcher_outlives_an_outage_of_redis(
    pool: Pool, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    peek, failures = pool.store.peek, 0

    async def fails_at_first(*args: Any, **kwargs: Any) -> Any:
        nonlocal failures
        failures += 1
        if failures < 3:
            raise ConnectionError("away")
        return await peek(*args, **kwargs)

    async with working(redis_url):
        told = await pool.enqueue(tell)
        assert told is not None
        await told.result(timeout=30)
        monkeypatch.setattr(pool.store, "peek", fails_at_first)
        assert [progress.done async for progress in told.watch(poll_delay=0.05)] == [4]


async def test_a_job_that_no_stage_foresaw_is_counted_and_listed_too(pool: Pool, redis_url: str) -> None:
    payload = Payload("double", (1,), {}, None, timestamp_ms(), {"x": "no time"})
    async with working(redis_url) as worker:
        await pool.store.enqueue([NewJob("arq:queue", "odd", encode_payload(pool.serializer, payload))])
        (ended,) = await recent(pool, 1)
        assert (ended.job_id, ended.state) == ("odd", "failed")
        assert worker.jobs_failed == 1
