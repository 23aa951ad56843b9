"""What running jobs tell of themselves: written by the holder of the lease, bounded, gone with the job."""

from __future__ import annotations

from redis.asyncio import Redis

from arqestra.protocol.progress import LOG_LINES, encode_line, encode_progress
from arqestra.store.notes import JOBS_PER_CALL, NewNotes, read_log, read_progress, write_notes
from tests.support.store_harness import KEYS, QUEUE, Scene


def notes(
    token: str,
    *lines: str,
    done: int | None = None,
    number: int = 1,
    job_id: str = "a",
    enqueued_ms: int = 5,
    ended: bool = True,
) -> NewNotes:
    progress = b"" if done is None else encode_progress(done, 10, "on it", 1_000, 1)
    encoded = [encode_line(1_000, 1, line) for line in lines]
    return NewNotes(job_id, token, number, enqueued_ms, progress, encoded, ended)


async def texts(scene: Scene, job_id: str = "a") -> list[str]:
    return [line.text for line in await read_log(scene.store, job_id)]


async def test_the_latest_progress_and_all_lines_are_read(scene: Scene) -> None:
    await scene.enqueue("a")
    job = await scene.worker().claim_one()
    await write_notes(scene.store, [notes(job.token, "one", done=1)])
    await write_notes(scene.store, [notes(job.token, "two", "three", done=7, number=2)])

    progress = await read_progress(scene.store, "a")
    assert progress is not None
    assert (progress.done, progress.total, progress.message, progress.share) == (7, 10, "on it", 0.7)
    assert await texts(scene) == ["one", "two", "three"]
    assert [line.text for line in await read_log(scene.store, "a", 1)] == ["three"]


async def test_a_worker_that_lost_its_lease_writes_nothing(scene: Scene) -> None:
    await scene.enqueue("a")
    lost = await scene.worker().claim_one()
    scene.clock.advance(60_000)
    held = await scene.worker("w2").claim_one()
    assert held.id == "a"
    assert await write_notes(scene.store, [notes(lost.token, "zombie", done=1)]) == ["held"]
    assert await write_notes(scene.store, [notes(held.token, "holder")]) == ["written"]

    assert await texts(scene) == ["holder"]
    assert await read_progress(scene.store, "a") is None


async def test_a_worker_that_lost_its_lease_writes_nothing_either_when_the_job_has_ended_elsewhere(
    scene: Scene,
) -> None:
    await scene.enqueue("a")
    lost = await scene.worker().claim_one()
    scene.clock.advance(60_000)
    other = scene.worker("w2")
    held = await other.claim_one()
    await write_notes(scene.store, [notes(held.token, "holder", done=10, ended=False)])
    assert await other.finish(held)

    assert await write_notes(scene.store, [notes(lost.token, "zombie", done=3, ended=False)]) == ["free"]
    assert await texts(scene) == ["holder"]
    progress = await read_progress(scene.store, "a")
    assert progress is not None
    assert progress.done == 10


async def test_late_notes_of_an_earlier_job_of_the_id_do_not_replace_those_of_a_later_one(scene: Scene) -> None:
    await write_notes(scene.store, [notes("w.2", "later", enqueued_ms=10)])
    assert await write_notes(scene.store, [notes("w.1", "earlier", enqueued_ms=9)]) == ["held"]

    assert await texts(scene) == ["later"]


async def test_a_cron_job_whose_id_stays_taken_may_write_its_last_lines(scene: Scene, redis: Redis) -> None:
    await redis.set(KEYS.lease("a"), "1")
    assert await write_notes(scene.store, [notes("w.1", "running elsewhere", ended=False)]) == ["held"]
    assert await write_notes(scene.store, [notes("w.1", "last")]) == ["written"]

    assert await texts(scene) == ["last"]


async def test_an_id_that_is_enqueued_anew_has_told_nothing_yet(scene: Scene, redis: Redis) -> None:
    await write_notes(scene.store, [notes("w.1", "of the job before", done=10)])
    assert await scene.enqueue("a", unique=True) == [True]

    assert await redis.exists(KEYS.notes("a"), KEYS.job_log("a")) == 0


async def test_the_last_lines_come_after_the_end(scene: Scene) -> None:
    await scene.enqueue("a")
    worker = scene.worker()
    job = await worker.claim_one()
    assert await worker.finish(job)
    await write_notes(scene.store, [notes(job.token, "last")])

    assert await texts(scene) == ["last"]


async def test_a_call_that_is_sent_again_adds_nothing(scene: Scene) -> None:
    for number in (1, 1, 2, 2):
        await write_notes(scene.store, [notes("w.1", f"line {number}", number=number)])

    assert await texts(scene) == ["line 1", "line 2"]


async def test_a_new_job_of_the_id_begins_anew(scene: Scene) -> None:
    await write_notes(scene.store, [notes("w.1", "old", done=3, enqueued_ms=1)])
    await write_notes(scene.store, [notes("w.2", "new", enqueued_ms=2)])

    assert await texts(scene) == ["new"]
    assert await read_progress(scene.store, "a") is None


async def test_a_log_is_bounded_and_forgotten_and_many_jobs_go_together(scene: Scene, redis: Redis) -> None:
    many = [notes("w.1", *(f"{n}" for n in range(LOG_LINES)), done=1, job_id=f"j{i}") for i in range(120)]
    for first in range(0, 120, JOBS_PER_CALL):
        await write_notes(scene.store, many[first : first + JOBS_PER_CALL])
    await write_notes(scene.store, [notes("w.1", "more", number=2, job_id="j0")])

    assert len(await texts(scene, "j0")) == LOG_LINES
    assert (await texts(scene, "j0"))[-1] == "more"
    assert len(await texts(scene, "j119")) == LOG_LINES
    assert all([await redis.pttl(key) > 0 for key in (KEYS.notes("j0"), KEYS.job_log("j0"))])


async def test_they_are_deleted_with_the_job(scene: Scene, redis: Redis) -> None:
    await scene.enqueue("a")
    await write_notes(scene.store, [notes("w.1", "line", done=1)])
    assert await scene.store.delete("a", QUEUE) == "deleted"

    assert await redis.exists(KEYS.notes("a"), KEYS.job_log("a")) == 0
