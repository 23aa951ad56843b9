"""Pool, worker and job end to end, in one process, on a real server.

Where a poll could hide a lost push, `poll_delay` is an hour. Timeouts are patience, not expectations.
"""

from __future__ import annotations

import asyncio
import signal
import tempfile
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from arq.constants import job_key_prefix, retry_key_prefix
from redis.exceptions import ConnectionError as RedisConnectionError

from arqestra import (
    ArgumentsError,
    DeserializationError,
    JobExecutionFailed,
    JobNotRetryable,
    JobRunning,
    JobStatus,
    PayloadTooLarge,
    Pool,
    RedisSettings,
    RemoteTraceback,
    ResultNotFound,
    SettingsError,
    Worker,
    create_pool,
)
from arqestra.embedded import EmbeddedRedis
from tests.integration import engine_jobs as jobs
from tests.integration.engine_worker import fresh_ctx, working
from tests.support.pools import serializers, url_of
from tests.support.redis_clock import until_too_late
from tests.support.replies import accepted
from tests.support.wait import PATIENCE_S, wait_until

HOUR_S = 3600.0


serializer = serializers("msgpack")


# -- push ---------------------------------------------------------------------------------------------------------


async def test_a_job_starts_and_its_result_arrives_by_push(pool: Pool) -> None:
    async with working(pool, poll_delay=HOUR_S):
        for number in range(20):
            job = accepted(await pool.enqueue(jobs.double, number))
            assert await job.result(timeout=PATIENCE_S, poll_delay=HOUR_S) == number * 2


async def test_a_deferred_job_starts_by_push(pool: Pool) -> None:
    async with working(pool, poll_delay=HOUR_S):
        enqueued = datetime.now(UTC)
        job = accepted(await pool.enqueue(jobs.double.options(defer_by=0.2), 21))
        assert await job.status() is JobStatus.deferred

        assert await job.result(timeout=PATIENCE_S, poll_delay=HOUR_S) == 42
        info = await job.result_info()
        assert info is not None
        assert info.start_time - enqueued >= timedelta(seconds=0.19)


async def test_a_retry_starts_by_push_after_its_delay(pool: Pool) -> None:
    async with working(pool, poll_delay=HOUR_S) as worker:
        job = accepted(await pool.enqueue(jobs.retry_once, 0.2))

        assert await job.result(timeout=PATIENCE_S, poll_delay=HOUR_S) == 2
        first, second = worker.ctx["notes"]
        assert second - first >= 0.19
        assert (worker.jobs_complete, worker.jobs_retried, worker.jobs_failed) == (1, 1, 0)


async def test_several_waiters_for_one_result_all_get_it(pool: Pool) -> None:
    async with working(pool, poll_delay=HOUR_S) as worker:
        job = accepted(await pool.enqueue(jobs.hold))
        waiters = [asyncio.ensure_future(pool.job(job.job_id).result(PATIENCE_S, poll_delay=HOUR_S)) for _ in range(5)]
        await worker.ctx["started"].wait()
        worker.ctx["let_go"].set()

        assert await asyncio.gather(*waiters) == [1] * 5


async def test_a_result_that_takes_too_long_is_a_timeout_of_the_waiter(pool: Pool) -> None:
    job = accepted(await pool.enqueue(jobs.double, 1))

    with pytest.raises(TimeoutError, match=f"job {job.job_id} has not ended within 0.01 s"):
        await job.result(timeout=0.01)
    assert await job.status() is JobStatus.queued


# -- what a job sees and does -------------------------------------------------------------------------------------


async def test_hooks_run_in_arqs_order(pool: Pool) -> None:
    calls: list[str] = []

    def hook(name: str) -> Callable[[dict[Any, Any]], Awaitable[None]]:
        async def call(ctx: dict[Any, Any]) -> None:
            if name == "after_job_end":
                assert await pool.job(ctx["job_id"]).result_info() is not None
            if name == "on_job_end":
                assert await pool.job(ctx["job_id"]).result_info() is None
            calls.append(name)

        return call

    names = ("on_startup", "on_job_start", "on_job_end", "after_job_end", "on_shutdown")
    async with working(pool, **{name: hook(name) for name in names}):
        job = accepted(await pool.enqueue(jobs.double, 1))
        await job.result(timeout=PATIENCE_S)

    assert calls == list(names)


async def test_current_job_is_known_in_tasks_of_the_job(pool: Pool) -> None:
    async with working(pool):
        job = accepted(await pool.enqueue(jobs.who_am_i))
        assert await job.result(timeout=PATIENCE_S) == [job.job_id, "who_am_i", pool.default_queue_name, 1]


async def test_a_typed_result_is_coerced(pool: Pool) -> None:
    parcel = jobs.Parcel(UUID(int=1), jobs.Size.SMALL, datetime(2026, 1, 2, tzinfo=UTC), ["Seoul"])
    async with working(pool):
        job = accepted(await pool.enqueue(jobs.grow, parcel, by=["Busan"]))

        assert await job.result(timeout=PATIENCE_S) == jobs.Parcel(
            parcel.id, jobs.Size.LARGE, parcel.due, ["Seoul", "Busan"]
        )


@pytest.mark.parametrize("serializer", ["pickle", "msgpack", "json"])
async def test_a_failure_is_raised_with_the_workers_traceback(redis_url: str, serializer: str) -> None:
    async with await create_pool(redis_url, serializer=serializer) as pool, working(pool):
        job = accepted(await pool.enqueue(jobs.fail, "no use"))

        with pytest.raises(ValueError, match=r"^no use$") as caught:
            await job.result(timeout=PATIENCE_S)
        assert isinstance(caught.value.__cause__, RemoteTraceback)
        assert "in fail" in str(caught.value.__cause__)


async def test_a_timeout_shows_where_the_job_was(pool: Pool) -> None:
    async with working(pool):
        job = accepted(await pool.enqueue(jobs.too_slow))

        with pytest.raises(TimeoutError) as caught:
            await job.result(timeout=PATIENCE_S)
        assert "in too_slow" in str(caught.value.__cause__)


async def test_jobs_of_one_worker_start_in_the_order_in_which_they_were_enqueued(pool: Pool) -> None:
    names = [f"{number:03}" for number in range(60)]
    for name in names[:10]:
        await pool.enqueue(jobs.note, name)
    await asyncio.gather(*(pool.enqueue(jobs.note, name) for name in names[10:40]))
    await pool.enqueue_many([jobs.note.bind(name) for name in names[40:]])
    worker = Worker(
        jobs.ALL,
        redis_settings=url_of(pool),
        serializer="msgpack",
        handle_signals=False,
        burst=True,
        max_jobs=1,
        ctx=fresh_ctx(),
    )
    await worker.main()
    await worker.close()

    assert worker.ctx["notes"] == names


# -- abort, retry, delete -----------------------------------------------------------------------------------------


async def test_a_running_job_is_aborted(pool: Pool) -> None:
    async with working(pool, allow_abort_jobs=True, poll_delay=HOUR_S) as worker:
        job = accepted(await pool.enqueue(jobs.hold))
        await worker.ctx["started"].wait()

        assert await job.abort(timeout=PATIENCE_S, poll_delay=HOUR_S)
        with pytest.raises(asyncio.CancelledError):
            await job.result(timeout=PATIENCE_S)
        assert worker.jobs_failed == 1


async def test_a_deferred_job_is_aborted(pool: Pool) -> None:
    async with working(pool, allow_abort_jobs=True, poll_delay=HOUR_S) as worker:
        job = accepted(await pool.enqueue(jobs.note.options(defer_by=HOUR_S), "never"))

        assert await job.abort(timeout=PATIENCE_S, poll_delay=HOUR_S)
        assert worker.ctx["notes"] == []
        assert await pool.zcard(pool.default_queue_name) == 0


async def test_a_queued_job_is_aborted_while_all_slots_are_taken(pool: Pool) -> None:
    async with working(pool, allow_abort_jobs=True, max_jobs=1) as worker:
        await pool.enqueue(jobs.hold)
        await worker.ctx["started"].wait()
        job = accepted(await pool.enqueue(jobs.note, "never"))

        assert await job.abort(timeout=PATIENCE_S)
        assert worker.ctx["notes"] == []
        assert len(worker.tasks) == 1  # the one that has the slot was not touched
        worker.ctx["let_go"].set()


async def test_an_abort_of_a_job_that_has_ended_or_never_was_is_false(pool: Pool) -> None:
    async with working(pool, allow_abort_jobs=True):
        job = accepted(await pool.enqueue(jobs.double, 1))
        await job.result(timeout=PATIENCE_S)

        assert not await job.abort(timeout=PATIENCE_S)
        assert not await pool.job("never was").abort(timeout=PATIENCE_S)


async def test_an_abort_requested_before_any_worker_is_there_is_kept(pool: Pool) -> None:
    job = accepted(await pool.enqueue(jobs.note, "never"))
    with pytest.raises(TimeoutError):
        await job.abort(timeout=0.01)
    async with working(pool, allow_abort_jobs=True) as worker:
        with pytest.raises(asyncio.CancelledError):
            await job.result(timeout=PATIENCE_S)
        assert worker.ctx["notes"] == []


async def test_a_failed_job_runs_again_under_its_id(pool: Pool) -> None:
    async with working(pool, poll_delay=HOUR_S):
        job = accepted(await pool.enqueue(jobs.fail_once))
        with pytest.raises(ValueError, match="the first time"):
            await job.result(timeout=PATIENCE_S)

        await job.retry()

        assert await job.result(timeout=PATIENCE_S, poll_delay=HOUR_S) == 1


async def test_only_a_failed_job_can_be_retried(pool: Pool) -> None:
    async with working(pool):
        job = accepted(await pool.enqueue(jobs.double, 1))
        await job.result(timeout=PATIENCE_S)

        with pytest.raises(JobNotRetryable, match="expected a failed job, it completed"):
            await job.retry()
        with pytest.raises(JobNotRetryable, match="found none"):
            await pool.job("never was").retry()


async def test_a_deleted_job_is_gone(pool: Pool) -> None:
    job = accepted(await pool.enqueue(jobs.double, 1))

    assert await job.delete()
    assert not await job.delete()
    assert await pool.keys("*") == []
    assert await job.status() is JobStatus.not_found
    with pytest.raises(ResultNotFound):
        await job.result(timeout=PATIENCE_S)


async def test_a_running_job_cannot_be_deleted(pool: Pool) -> None:
    async with working(pool) as worker:
        job = accepted(await pool.enqueue(jobs.hold))
        await worker.ctx["started"].wait()

        with pytest.raises(JobRunning, match="abort it first"):
            await job.delete()
        worker.ctx["let_go"].set()
        assert await job.result(timeout=PATIENCE_S) == 1


# -- enqueuing ----------------------------------------------------------------------------------------------------


async def test_many_jobs_of_every_kind_of_spec(pool: Pool) -> None:
    made = await pool.enqueue_many(
        [
            jobs.double.bind(1),
            jobs.double.options(job_id="chosen").bind(2),
            (jobs.double, (3,)),
            (jobs.double.options(defer_by=0.01), [4]),
            ("double", (), {"number": 5}),
            (jobs.who_am_i,),
            jobs.double.options(job_id="chosen").bind(6),
        ]
    )
    assert made[-1] is None
    async with working(pool):
        results = [await job.result(timeout=PATIENCE_S) for job in made if job is not None]

    assert results[:5] == [2, 4, 6, 8, 10]
    assert results[5][1] == "who_am_i"


async def test_one_wrong_spec_keeps_all_from_being_enqueued(pool: Pool) -> None:
    refused: tuple[Any, ...] = (("double", (1,), {}, "more"), "double", (3, ()), jobs.double)
    for wrong in refused:
        with pytest.raises(ArgumentsError):
            await pool.enqueue_many([jobs.double.bind(1), wrong])
    with pytest.raises(ArgumentsError):
        await pool.enqueue_many([jobs.double.bind(1), (jobs.double, ("1", "2"))])

    assert await pool.keys("*") == []


async def test_enqueues_of_one_tick_share_a_round_trip(pool: Pool) -> None:
    await pool.enqueue(jobs.double, 0)
    await pool.config_resetstat()
    made = await asyncio.gather(*(pool.enqueue(jobs.double, number) for number in range(300)))

    assert len({job.job_id for job in made if job is not None}) == 300
    assert (await pool.info("commandstats"))["cmdstat_fcall"]["calls"] == 1


async def test_a_payload_over_the_limit_is_refused_in_the_producer(redis_url: str) -> None:
    async with await create_pool(redis_url, serializer="msgpack", max_payload_bytes=1000) as pool:
        with pytest.raises(PayloadTooLarge, match=r'job "note": expected at most 1000 bytes .*, got 1\d\d\d'):
            await pool.enqueue(jobs.note, "x" * 1000)
        assert await pool.enqueue(jobs.note, "x" * 500) is not None
        assert await pool.zcard(pool.default_queue_name) == 1


async def test_an_expired_job_is_recorded_and_not_run(pool: Pool) -> None:
    job = accepted(await pool.enqueue(jobs.note.options(expires=0.001), "never"))
    await until_too_late(pool, job)
    async with working(pool) as worker:
        with pytest.raises(JobExecutionFailed, match="job expired"):
            await job.result(timeout=PATIENCE_S)
        assert worker.ctx["notes"] == []


# -- workers come and go ------------------------------------------------------------------------------------------


async def test_a_worker_that_stops_gives_its_jobs_back_and_no_attempt_counts(pool: Pool) -> None:
    async with working(pool) as leaving:
        job = accepted(await pool.enqueue(jobs.hold))
        await leaving.ctx["started"].wait()
        assert await pool.get(retry_key_prefix + job.job_id) == b"1"

    assert await job.status() is JobStatus.queued
    assert await pool.exists(retry_key_prefix + job.job_id) == 0
    ctx = fresh_ctx()
    ctx["let_go"].set()
    async with working(pool, ctx=ctx):
        assert await job.result(timeout=PATIENCE_S) == 1


async def test_a_job_that_ends_within_the_grace_period_is_not_given_back(pool: Pool) -> None:
    async with working(pool, job_completion_wait=PATIENCE_S) as worker:
        job = accepted(await pool.enqueue(jobs.hold))
        await worker.ctx["started"].wait()
        worker.handle_sig_wait_for_completion(signal.SIGTERM)
        late = accepted(await pool.enqueue(jobs.double, 1))
        worker.ctx["let_go"].set()

        assert await job.result(timeout=PATIENCE_S) == 1
    assert await late.status() is JobStatus.queued


@pytest.mark.parametrize(("number", "slots"), [(400, 10), (100, 100)])
async def test_two_idle_workers_share_a_burst(pool: Pool, number: int, slots: int) -> None:
    """One that is longer than their slots, and one that each of them could take alone."""
    async with (
        working(pool, max_jobs=slots, poll_delay=HOUR_S) as first,
        working(pool, max_jobs=slots, poll_delay=HOUR_S) as second,
    ):
        made = await pool.enqueue_many([jobs.double.bind(i) for i in range(number)])
        await asyncio.gather(*(job.result(timeout=PATIENCE_S) for job in made if job is not None))

        assert first.jobs_complete + second.jobs_complete == number
        assert 0.4 * number <= first.jobs_complete <= 0.6 * number


async def test_a_result_that_is_to_be_kept_for_longer_than_redis_can_is_kept_for_a_century(pool: Pool) -> None:
    async with working(pool, keep_result=1e17):
        job = accepted(await pool.enqueue_job("double", 2))
        assert await job.result(timeout=5) == 4

    assert await pool.pttl(f"arq:result:{job.job_id}") > 99 * 365 * 86_400_000


async def test_a_flow_is_kept_for_a_century_at_most_too(pool: Pool) -> None:
    async with working(pool):
        flow = await pool.enqueue_flow(jobs.double.s(2), keep_result=1e17)
        assert await flow.result(timeout=5) == 4

        async def is_bounded() -> bool:
            return await pool.pttl(pool.store.keys.flow(flow.flow_id)) > 99 * 365 * 86_400_000

        await wait_until(is_bounded, "the flow's record has a TTL")


async def test_an_idle_queue_leaves_no_key_behind(pool: Pool) -> None:
    async with working(pool, keep_result=0):
        for number in range(10):
            await pool.enqueue(jobs.double, number)

        async def is_idle() -> bool:
            return await pool.zcard(pool.default_queue_name) == 0

        await wait_until(is_idle, "all jobs have ended")

    left = {key.decode() for key in await pool.keys("*")}
    of_the_fleet = (
        "stats",
        "recorded:",
        "queues",
        "recent",
        "libraries",
    )  # what is seen afterwards: capped, with a TTL
    unbounded = {key for key in left if not key.startswith(tuple(f"arqestra:{name}" for name in of_the_fleet))}
    assert unbounded <= {pool.store.keys.waiting("arq:queue")}
    assert all([await pool.ttl(key) > 0 for key in left - unbounded])


async def test_a_payload_of_another_serializer_is_a_clear_failure(redis_url: str) -> None:
    async with (
        await create_pool(redis_url, serializer="json") as producer,
        await create_pool(redis_url, serializer="msgpack") as pool,
        working(pool) as worker,
    ):
        job = accepted(await producer.enqueue(jobs.double, 1))

        with pytest.raises(DeserializationError, match="unable to deserialize job"):
            await pool.job(job.job_id).result(timeout=PATIENCE_S)
        assert worker.jobs_failed == 1
        with pytest.raises(DeserializationError, match="unable to deserialize job result"):
            await job.result(timeout=PATIENCE_S)
        assert await pool.exists(job_key_prefix + job.job_id) == 0


# -- connecting ---------------------------------------------------------------------------------------------------


async def test_a_unix_socket_works_for_producer_and_worker() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "redis.sock"
        with EmbeddedRedis(use_environment=False, config={"unixsocket": str(path)}):
            async with await create_pool(f"unix://{path}", serializer="msgpack") as pool, working(pool):
                job = accepted(await pool.enqueue(jobs.double, 21))
                assert await job.result(timeout=PATIENCE_S) == 42


@pytest.mark.parametrize("url", ["http://localhost", "localhost:6379", "redis", ""])
async def test_a_url_of_another_scheme_is_refused(url: str) -> None:
    with pytest.raises(SettingsError, match="expected a URL redis://, rediss:// or unix://"):
        await create_pool(url)


@pytest.mark.parametrize("settings", [6379, ("localhost", 6379), {"host": "localhost"}])
async def test_settings_that_are_none_are_refused(settings: Any) -> None:
    with pytest.raises(SettingsError, match=f"expected RedisSettings or a URL, got {type(settings).__name__}"):
        await create_pool(settings)


async def test_a_server_that_is_not_there_is_a_connection_error(tmp_path: Path) -> None:
    settings = RedisSettings.from_dsn(f"unix://{tmp_path / 'nobody.sock'}")
    settings.conn_retries = 0
    with pytest.raises((RedisConnectionError, OSError)):
        await create_pool(settings)
