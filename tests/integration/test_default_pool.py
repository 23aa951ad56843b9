"""`function.delay` and `apply_async`: by the default pool, if somebody has set one."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from arq.jobs import JobStatus

from arqestra import ArgumentsError, JobContext, Pool, SettingsError, SyncPool, job, set_default_pool, workflow
from arqestra.flow.orchestrator import Flow
from tests.support.workers import worker_running


@job(queue="arq:queue")
async def add(ctx: JobContext, one: int, other: int = 1) -> int:
    return one + other


@job
def repeat(ctx: JobContext, word: str) -> str:
    return word * 2


@workflow
async def adds(flow: Flow, one: int) -> int:
    return await flow.run(add.s(one, one))


@pytest.fixture
def default(redis_url: str) -> Iterator[SyncPool]:
    with SyncPool(redis_url) as pool:
        set_default_pool(pool)
        yield pool
        set_default_pool(None)


@pytest.mark.parametrize("call", [lambda: add.delay(1), lambda: add.apply_async((1,)), lambda: add.options().delay(1)])
def test_without_a_default_pool_the_error_says_how_to_set_one(call: Any) -> None:
    with pytest.raises(SettingsError, match=r"expected a default pool, none is set; call arqestra.set_default_pool\("):
        call()


async def test_each_form_enqueues_a_job_of_its_function(pool: Pool, default: SyncPool) -> None:
    def use() -> list[Any]:
        jobs = [
            add.delay(1, other=2),
            add.apply_async((3, 4)),
            add.apply_async([5], {"other": 6}, countdown=0.01, expires=60, priority=3, task_id="chosen"),
            add.options(job_id="bound").delay(7),
            repeat.delay("ab"),
            adds.delay(4),
        ]
        return [job.result(timeout=30) for job in jobs if job is not None]

    async with worker_running(pool, functions=[add, repeat, adds]):
        assert await asyncio.to_thread(use) == [3, 7, 11, 8, "abab", 8]
    assert await pool.job("chosen").status() is JobStatus.complete


def test_options_have_celerys_names_and_our_meaning(default: SyncPool) -> None:
    eta = datetime.now(UTC) + timedelta(hours=1)
    later = add.apply_async((1,), eta=eta, queue="other", task_id="later")

    assert later is not None
    assert later.status() is JobStatus.deferred
    assert default.queue("other").depth() == 1
    assert add.apply_async((1,), queue="other", task_id="later") is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"countdown": -1}, "apply_async: countdown: expected"),
        ({"eta": "tomorrow"}, "apply_async: eta: expected a datetime"),
        ({"expires": 0}, "apply_async: expires: expected more than 0"),
        ({"priority": 10}, "apply_async: priority: expected"),
        ({"task_id": 3}, "apply_async: task_id: expected"),
        ({"countdown": 1, "eta": datetime.now(UTC)}, "expected countdown or eta or neither, got both"),
    ],
)
def test_impossible_options_are_refused_by_the_names_they_have_here(
    default: SyncPool, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(SettingsError, match=message):
        add.apply_async((1,), **options)
    assert default.queue().depth() == 0


def test_arguments_that_do_not_fit_are_refused(default: SyncPool) -> None:
    with pytest.raises(ArgumentsError, match="missing a required argument"):
        add.delay()  # type: ignore[call-arg]
    with pytest.raises(ArgumentsError, match="expected a list or tuple of arguments"):
        add.apply_async("1")


def test_a_function_makes_the_pool_when_it_is_first_needed(redis_url: str) -> None:
    made: list[SyncPool] = []

    def make() -> SyncPool:
        made.append(SyncPool(redis_url))
        return made[0]

    set_default_pool(make)
    try:
        assert made == []
        assert add.delay(1) is not None
        assert add.delay(1) is not None
        assert len(made) == 1
        made[0].close()
        set_default_pool(lambda: "no pool")  # type: ignore[arg-type, return-value]
        with pytest.raises(SettingsError, match="expected its function to make a SyncPool, got"):
            add.delay(1)
    finally:
        set_default_pool(None)
    with pytest.raises(SettingsError, match="set_default_pool: expected a SyncPool or a function that makes one"):
        set_default_pool("redis://localhost")  # type: ignore[arg-type]
