"""What public projects do with arq's names, and their tests: as with arq."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any, Literal
from unittest.mock import AsyncMock, MagicMock

import arq
import pytest

import arqestra
from arqestra import ArqRedis, Pool, Retry, SettingsError, Worker, cron
from arqestra.jobs import Job, JobStatus
from tests.support.wait import wait_until


async def tidy(ctx: dict[Any, Any]) -> None: ...


async def sweep(ctx: dict[Any, Any]) -> None: ...


class Recorder:
    """A stand-in for a pool, as tests have it: it takes jobs and nothing else."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, Any]] = []

    async def enqueue_job(self, name: str, **options: Any) -> None:
        self.sent.append((name, options["_job_id"]))


@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")  # redis-py asks the mock
@pytest.mark.parametrize("stand_in", [AsyncMock(), MagicMock()])
async def test_a_pool_over_a_mock_can_be_made(stand_in: Any) -> None:
    pool = ArqRedis(pool_or_conn=stand_in)
    assert pool.connection_pool is stand_in
    Worker(functions=[tidy], redis_pool=pool, handle_signals=False)


@pytest.mark.parametrize("stand_in", [Recorder(), AsyncMock(), MagicMock()])
async def test_a_worker_takes_a_stand_in_for_a_pool(stand_in: Any) -> None:
    assert Worker(functions=[tidy], redis_pool=stand_in, handle_signals=False).pool is stand_in


@pytest.mark.parametrize("no_pool", ["redis://localhost", object()])
async def test_a_worker_refuses_what_enqueues_nothing(no_pool: Any) -> None:
    with pytest.raises(SettingsError, match="redis_pool: expected an arqestra or arq pool, got"):
        Worker(functions=[tidy], redis_pool=no_pool, handle_signals=False)


@pytest.mark.parametrize("worker_class", [arq.Worker, Worker])
@pytest.mark.parametrize("way", ["subclass", "instance"])
async def test_a_run_cron_of_ones_own_decides_on_every_cron_job(
    worker_class: Any, way: Literal["subclass", "instance"]
) -> None:
    class Paused(worker_class):  # type: ignore[misc]
        async def run_cron(self, n: datetime, delay: float, num_windows: int = 2) -> None:
            self.cron_jobs: list[Any] = [each for each in self.cron_jobs if each.name != "cron:sweep"]
            await super().run_cron(n, delay, num_windows)

    recorder = Recorder()
    worker = (Paused if way == "subclass" else worker_class)(
        cron_jobs=[cron(tidy, second={0, 30}), cron(sweep, second={0, 30})],
        redis_pool=recorder,
        handle_signals=False,
        timezone=UTC,
    )
    if way == "instance":
        setattr(worker, "run_cron", worker.run_cron)  # noqa: B010 - mypy takes it for a method alone
    due = datetime(2040, 1, 1, 0, 0, 30, 123_456, tzinfo=UTC)
    await worker.run_cron(due - timedelta(seconds=0.2), 0.5)
    await worker.run_cron(due, 0.5)
    names = ["cron:tidy"] if way == "subclass" else ["cron:sweep", "cron:tidy"]
    assert sorted(recorder.sent) == [(name, f"{name}:{int(due.timestamp() * 1000)}") for name in names]


async def test_the_scheduler_leaves_cron_jobs_to_a_run_cron_of_ones_own(pool: Pool) -> None:
    ran: list[str] = []

    async def kept(ctx: dict[Any, Any]) -> None:
        ran.append("kept")

    async def paused(ctx: dict[Any, Any]) -> None:
        ran.append("paused")

    every_second = set(range(60))
    worker = Worker(
        cron_jobs=[cron(kept, name="kept", second=every_second), cron(paused, name="paused", second=every_second)],
        redis_pool=pool,
        handle_signals=False,
    )
    plain = worker.run_cron

    async def without_paused(n: datetime, delay: float, num_windows: int = 2) -> None:
        worker.cron_jobs = [each for each in worker.cron_jobs if each.name == "kept"]
        await plain(n, delay, num_windows)

    worker.run_cron = without_paused  # type: ignore[method-assign]
    running = asyncio.create_task(worker.main())

    async def kept_ran_twice() -> bool:
        return ran.count("kept") >= 2

    try:
        await wait_until(kept_ran_twice, "two runs of the cron job that is not paused")
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await worker.close()
    assert set(ran) == {"kept"}


@pytest.mark.parametrize("worker_class", [arq.Worker, Worker])
async def test_after_job_end_sees_a_retry_before_it_starts(pool: Pool, worker_class: Any) -> None:
    seen: list[tuple[str, Any]] = []

    async def again(ctx: dict[Any, Any]) -> None:
        seen.append(("start", ctx["job_try"]))
        if ctx["job_try"] < 3:
            raise Retry(defer=0)

    async def after_job_end(ctx: dict[Any, Any]) -> None:
        status = await Job(ctx["job_id"], ctx["redis"]).status()
        seen.append(("end", JobStatus.queued if status is JobStatus.deferred else status))

    await pool.enqueue_job("again")
    worker = worker_class(
        functions=[arqestra.func(again, name="again")],
        redis_pool=pool,
        burst=True,
        poll_delay=0.1,
        handle_signals=False,
        after_job_end=after_job_end,
    )
    await worker.main()
    await worker.close()
    assert seen == [
        *[("start", 1), ("end", JobStatus.queued), ("start", 2), ("end", JobStatus.queued)],
        *[("start", 3), ("end", JobStatus.complete)],
    ]
