"""When jobs run: at once, or when the test says so."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from arq.jobs import JobStatus

from arqestra import Pool, SettingsError, chain, chord, every, func, schedule
from arqestra.testing import drain, enqueued, inline, make_worker, manual, perform
from tests.testing import jobs


async def test_inline_runs_all_that_an_enqueue_sets_off(arqestra_pool: Pool) -> None:
    async with inline([jobs.add, jobs.spreads, jobs.total, jobs.flaky, jobs.send], arqestra_pool) as pool:
        assert pool is arqestra_pool
        handles = [await pool.enqueue(jobs.add, 1, 2), await pool.enqueue_job("add", 3, _defer_by=3600)]
        handles += await pool.enqueue_many([jobs.add.bind(5), jobs.flaky.bind()])
        assert await enqueued(pool) == []
        assert [await handle.result(timeout=1) for handle in handles if handle is not None] == [3, 3, 5, 3]
        flow = await pool.enqueue_flow(chord([jobs.add.s(1), jobs.add.s(2)], jobs.total.s()))
        assert await flow.result(timeout=1) == 3
        await pool.enqueue_job("spreads", 3)
        assert await enqueued(pool) == []
    await arqestra_pool.enqueue(jobs.add, 1)
    assert len(await enqueued(arqestra_pool)) == 1


async def test_inline_beside_itself(arqestra_pool: Pool) -> None:
    async with inline([jobs.add], arqestra_pool) as pool:
        handles = await asyncio.gather(*(pool.enqueue(jobs.add, number) for number in range(20)))
        assert [await handle.result(timeout=1) for handle in handles if handle is not None] == list(range(20))


async def test_a_job_that_fails_is_no_error_of_its_enqueue(arqestra_pool: Pool) -> None:
    async with inline([jobs.broken], arqestra_pool) as pool:
        handle = await pool.enqueue(jobs.broken)
        assert handle is not None
        with pytest.raises(ValueError, match="no good"):
            await handle.result(timeout=1)


async def test_a_workflow_goes_on_by_a_signal(arqestra_pool: Pool) -> None:
    async with inline([jobs.approval], arqestra_pool, travel="1 day") as pool:
        handle = await pool.enqueue(jobs.approval)
        assert handle is not None
        await pool.signal(handle.job_id, "approved", "yes")
        assert await handle.result(timeout=1) == "yes"


async def test_inline_runs_what_handles_make_due(arqestra_pool: Pool) -> None:
    """Not only the pool does: a handle retries a job or a flow, or sends a signal, and a schedule is run by hand."""
    runs = list[str]()

    async def mends(ctx: dict[Any, Any], what: str) -> str:
        runs.append(what)
        if runs.count(what) == 1:
            raise ValueError(what)
        return what

    functions = [func(mends, name="mends"), jobs.until_somebody_comes, jobs.tick]
    async with inline(functions, arqestra_pool) as pool:
        job = await pool.enqueue_job("mends", "job")
        await pool.enqueue_job("mends", "dead")
        waiting = await pool.enqueue(jobs.until_somebody_comes)
        assert job is not None
        assert waiting is not None
        await job.retry()
        assert await job.result(timeout=1) == "job"
        assert await pool.queue().retry_dead() == 1
        flow = await pool.enqueue_flow(chain(jobs.add.s(1), jobs.add.s(1)))
        functions.append(jobs.add)
        await flow.retry()
        assert await flow.result(timeout=1) == 2
        await pool.flow(waiting.job_id).signal("somebody", "ada")
        assert await waiting.result(timeout=1) == "ada"
        await pool.schedules.upsert(schedule(every("1h"), "tick", name="hourly"))
        assert await (await pool.schedules.run_now("hourly")).result(timeout=1) is None
        assert await enqueued(pool) == []
    assert runs == ["job", "dead", "job", "dead"]


async def test_inline_with_performed_jobs_and_those_that_are_drained(arqestra_pool: Pool) -> None:
    """What a performed job enqueues is run at once; a job that a worker runs does not wait for what it enqueues."""

    async def spreads(ctx: dict[Any, Any]) -> bool:
        handle = await arqestra_pool.enqueue(jobs.add, 1, 2)
        assert handle is not None
        return await handle.status() == JobStatus.complete

    functions = [func(spreads, name="spreads"), jobs.add]
    async with inline(functions, arqestra_pool, max_jobs=1) as pool:  # the second job begins when the first has ended
        assert (await perform(functions[0], _pool=pool)).value is True
        handle = await pool.enqueue_job("spreads")
        assert handle is not None
        assert await handle.result(timeout=1) is False
        assert await enqueued(pool) == []


async def test_manual_within_inline(arqestra_pool: Pool) -> None:
    async with inline([jobs.add], arqestra_pool) as pool:
        async with manual(pool):
            await pool.enqueue(jobs.add, 1)
            assert len(await enqueued(pool)) == 1
            async with inline([jobs.add], pool):
                await pool.enqueue(jobs.add, 1)
                assert await enqueued(pool) == []
            await pool.enqueue(jobs.add, 1)
            assert len(await enqueued(pool)) == 1
        await pool.enqueue(jobs.add, 2)
        assert await enqueued(pool) == []
    await pool.enqueue(jobs.add, 1)
    assert len(await enqueued(pool)) == 1


async def test_without_a_pool_a_server_is_started() -> None:
    async with manual(default_queue_name="q") as pool:
        await pool.enqueue_job("add", 1)
        assert [job.queue for job in await enqueued(pool)] == ["q"]
        assert (await drain(pool, [jobs.add])).complete == 1
    async with inline([jobs.add]) as pool:
        handle = await pool.enqueue(jobs.add, 1)
        assert handle is not None
        assert await handle.result(timeout=1) == 1


async def test_a_worker_until_the_queue_is_empty(arqestra_pool: Pool, arqestra_worker: Any) -> None:
    await arqestra_pool.enqueue_job("add", 1)
    worker = arqestra_worker([jobs.add])
    await worker.main()
    assert worker.jobs_complete == 1


async def test_a_worker_that_cannot_start_says_so(arqestra_worker: Any) -> None:
    async def fails(ctx: dict[Any, Any]) -> None:
        raise RuntimeError("no database")

    with pytest.raises(RuntimeError, match="no database"):
        async with arqestra_worker([jobs.add], on_startup=fails).running():
            raise AssertionError("it runs")


async def test_a_url_is_no_pool() -> None:
    """Nothing is connected to, least of all what stands at redis-py's default address."""
    url: Any = "redis://user:secret@nowhere"
    refused = pytest.raises(
        SettingsError, match=r"expected a pool \(`await create_pool\(...\)`\), got str \[redacted\]$"
    )
    with refused:
        await drain(url, [jobs.add])
    with refused:
        make_worker(url, [jobs.add])
    with refused:
        async with inline([jobs.add], url):
            raise AssertionError("it was taken")


async def test_settings_and_pool_write_jobs_alike(arqestra_pool: Pool, arqestra_worker: Any) -> None:
    """Else each job would fail, and say only that it is not readable."""
    settings = {"functions": [jobs.add], "serializer": "json"}
    refused = pytest.raises(
        SettingsError, match=r'same, got json and pickle; give the pool serializer="json" \(the fixture'
    )
    with refused:
        await drain(arqestra_pool, settings)
    with refused:
        arqestra_worker(settings)
    async with manual(serializer="json") as pool:
        await pool.enqueue(jobs.add, 1)
        assert (await drain(pool, settings)).complete == 1
