"""What running jobs tell of themselves: written by the holder of the lease, bounded, gone with the job."""

from __future__ import annotations

from redis.asyncio import Redis

from arqestra.protocol.progress import LOG_LINES, encode_line, encode_progress
from arqestra.store.progress import JOBS_PER_CALL, ProgressUpdate, read_log, read_progress, write_progress
from tests.support.store_harness import KEYS, QUEUE, StoreHarness


def update(
    token: str,
    *lines: str,
    done: int | None = None,
    number: int = 1,
    job_id: str = "a",
    enqueued_ms: int = 5,
    ended: bool = True,
) -> ProgressUpdate:
    progress = b"" if done is None else encode_progress(done, 10, "on it", 1_000, 1)
    encoded = [encode_line(1_000, 1, line) for line in lines]
    return ProgressUpdate(
        job_id=job_id,
        token=token,
        number=number,
        enqueued_ms=enqueued_ms,
        progress=progress,
        lines=encoded,
        ended=ended,
    )


async def texts(harness: StoreHarness, job_id: str = "a") -> list[str]:
    return [line.text for line in await read_log(harness.store, job_id)]


async def test_the_latest_progress_and_all_lines_are_read(harness: StoreHarness) -> None:
    await harness.enqueue("a")
    job = await harness.worker().claim_one()
    await write_progress(harness.store, [update(job.token, "one", done=1)])
    await write_progress(harness.store, [update(job.token, "two", "three", done=7, number=2)])

    progress = await read_progress(harness.store, "a")
    assert progress is not None
    assert (progress.done, progress.total, progress.message, progress.share) == (7, 10, "on it", 0.7)
    assert await texts(harness) == ["one", "two", "three"]
    assert [line.text for line in await read_log(harness.store, "a", 1)] == ["three"]


async def test_a_worker_that_lost_its_lease_writes_nothing(harness: StoreHarness) -> None:
    await harness.enqueue("a")
    lost = await harness.worker().claim_one()
    harness.clock.advance(60_000)
    leased = await harness.worker("w2").claim_one()
    assert leased.id == "a"
    assert await write_progress(harness.store, [update(lost.token, "zombie", done=1)]) == ["leased"]
    assert await write_progress(harness.store, [update(leased.token, "holder")]) == ["written"]

    assert await texts(harness) == ["holder"]
    assert await read_progress(harness.store, "a") is None


async def test_a_worker_that_lost_its_lease_writes_nothing_either_when_the_job_has_ended_elsewhere(
    harness: StoreHarness,
) -> None:
    await harness.enqueue("a")
    lost = await harness.worker().claim_one()
    harness.clock.advance(60_000)
    other = harness.worker("w2")
    leased = await other.claim_one()
    await write_progress(harness.store, [update(leased.token, "holder", done=10, ended=False)])
    assert await other.finish(leased)

    assert await write_progress(harness.store, [update(lost.token, "zombie", done=3, ended=False)]) == ["free"]
    assert await texts(harness) == ["holder"]
    progress = await read_progress(harness.store, "a")
    assert progress is not None
    assert progress.done == 10


async def test_late_notes_of_an_earlier_job_of_the_id_do_not_replace_those_of_a_later_one(
    harness: StoreHarness,
) -> None:
    await write_progress(harness.store, [update("w.2", "later", enqueued_ms=10)])
    assert await write_progress(harness.store, [update("w.1", "earlier", enqueued_ms=9)]) == ["leased"]

    assert await texts(harness) == ["later"]


async def test_a_cron_job_whose_id_stays_taken_may_write_its_last_lines(harness: StoreHarness, redis: Redis) -> None:
    await redis.set(KEYS.lease("a"), "1")
    assert await write_progress(harness.store, [update("w.1", "running elsewhere", ended=False)]) == ["leased"]
    assert await write_progress(harness.store, [update("w.1", "last")]) == ["written"]

    assert await texts(harness) == ["last"]


async def test_an_id_that_is_enqueued_anew_has_told_nothing_yet(harness: StoreHarness, redis: Redis) -> None:
    await write_progress(harness.store, [update("w.1", "of the job before", done=10)])
    assert await harness.enqueue("a", unique=True) == [True]

    assert await redis.exists(KEYS.progress("a"), KEYS.job_log("a")) == 0


async def test_the_last_lines_come_after_the_end(harness: StoreHarness) -> None:
    await harness.enqueue("a")
    worker = harness.worker()
    job = await worker.claim_one()
    assert await worker.finish(job)
    await write_progress(harness.store, [update(job.token, "last")])

    assert await texts(harness) == ["last"]


async def test_a_call_that_is_sent_again_adds_nothing(harness: StoreHarness) -> None:
    for number in (1, 1, 2, 2):
        await write_progress(harness.store, [update("w.1", f"line {number}", number=number)])

    assert await texts(harness) == ["line 1", "line 2"]


async def test_a_new_job_of_the_id_begins_anew(harness: StoreHarness) -> None:
    await write_progress(harness.store, [update("w.1", "old", done=3, enqueued_ms=1)])
    await write_progress(harness.store, [update("w.2", "new", enqueued_ms=2)])

    assert await texts(harness) == ["new"]
    assert await read_progress(harness.store, "a") is None


async def test_a_log_is_bounded_and_forgotten_and_many_jobs_go_together(harness: StoreHarness, redis: Redis) -> None:
    many = [update("w.1", *(f"{n}" for n in range(LOG_LINES)), done=1, job_id=f"j{i}") for i in range(120)]
    for first in range(0, 120, JOBS_PER_CALL):
        await write_progress(harness.store, many[first : first + JOBS_PER_CALL])
    await write_progress(harness.store, [update("w.1", "more", number=2, job_id="j0")])

    assert len(await texts(harness, "j0")) == LOG_LINES
    assert (await texts(harness, "j0"))[-1] == "more"
    assert len(await texts(harness, "j119")) == LOG_LINES
    assert all([await redis.pttl(key) > 0 for key in (KEYS.progress("j0"), KEYS.job_log("j0"))])


async def test_they_are_deleted_with_the_job(harness: StoreHarness, redis: Redis) -> None:
    await harness.enqueue("a")
    await write_progress(harness.store, [update("w.1", "line", done=1)])
    assert await harness.store.delete("a", QUEUE) == "deleted"

    assert await redis.exists(KEYS.progress("a"), KEYS.job_log("a")) == 0
