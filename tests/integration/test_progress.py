"""Progress and log lines that jobs tell of themselves."""

from __future__ import annotations

import asyncio
from fractions import Fraction
from typing import Any

import pytest

from arqestra import ArgumentsError, JobContext, Pool, Worker
from tests.integration.telling_worker import FUNCTIONS, recent, tell, tell_in_a_thread, tell_nonsense, working
from tests.support.wait import wait_until


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


class Share(float):
    """As numpy's numbers: it counts like one, and no encoder knows it."""


@pytest.mark.parametrize(("what", "stored"), [(Share(0.5), 0.5), (Fraction(1, 4), 0.25), (2**70, float(2**70))])
async def test_whatever_counts_as_a_number_is_progress(pool: Pool, redis_url: str, what: Any, stored: float) -> None:
    async with working(redis_url):
        told = await pool.enqueue(tell_nonsense, what)
        assert told is not None
        await told.result(timeout=30)

        async def is_written() -> bool:
            progress = await told.progress()
            return progress is not None and progress.done == stored

        await wait_until(is_written, "the progress")
        later = await pool.enqueue(tell)
        assert later is not None
        await wait_until(later.progress, "the progress of a later job: the reporter goes on")


async def test_a_watcher_sees_the_last_progress_of_a_job_however_short_it_is(pool: Pool, redis_url: str) -> None:
    async with working(redis_url, unknown_functions="fail"):
        for _ in range(10):
            told = await pool.enqueue(tell)
            assert told is not None
            assert [progress.done async for progress in told.watch()][-1] == 4


async def test_last_notes_that_come_behind_the_end_are_sent_again_as_soon_as_that_is_known(
    pool: Pool, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another write of notes was under way when the job ended.

    Private steps are held here: no signal from outside comes between them.
    """
    async with working(redis_url) as worker:
        monkeypatch.setattr(worker.reporter, "write_once", worker.reporter.publisher.drain)  # not once a second
        settled, replies = worker.sync._resolve, []
        worker.sync._resolve = lambda *reply: replies.append(reply)
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
