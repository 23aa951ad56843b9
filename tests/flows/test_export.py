"""Histories of workflows as documents: all of a run is in one, and nothing in Redis changes by it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from arqestra import ArgumentsError, Flow, Job, Pool, ResultNotFound, create_pool, workflow
from arqestra.flow.history_document import decode_document
from arqestra.store import read_history
from arqestra.store.flows import FlowStore
from arqestra.worker.run import workflows
from tests.flows import flow_jobs as jobs
from tests.flows.conftest import Working
from tests.flows.flow_jobs import add
from tests.flows.starting import is_parked, started
from tests.support.pools import url_of
from tests.support.wait import wait_until


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workflows, "PARK_AFTER_S", 0.0)


@workflow
async def waits_for_go(flow: Flow, number: int) -> Any:
    await flow.run(add.s(number, 1))
    await flow.side_effect(lambda: b"\x00 \xff")
    await flow.sleep(0.001)
    await flow.wait_for("a name with blanks")
    return await flow.wait_for("go")


@workflow(keep_result=0)
async def leaves_nothing(flow: Flow, number: int) -> int:
    return await flow.run(add.s(number))


ALL = [*jobs.ALL, waits_for_go, leaves_nothing]


async def waiting(pool: Pool, *, id: str = "order-7") -> Job[Any]:
    """A workflow that waits for its last event."""
    job = await pool.enqueue(waits_for_go.options(job_id=id), 4)
    assert job is not None
    assert await pool.signal(id, "a name with blanks", {"amount": 31})
    await wait_until(lambda: has_heard(pool, job), "it waits for go")
    return job


async def has_heard(pool: Pool, job: Job[Any]) -> bool:
    return await is_parked(pool, job) and (await pool.flow(job.job_id).progress()).events >= 4


async def contents(pool: Pool) -> dict[bytes, bytes]:
    keys = [key for key in await pool.keys("*") if b"flow" in key or b"order-7" in key]
    return {key: await pool.dump(key) for key in keys}


async def test_a_document_has_the_whole_history_and_exporting_it_changes_nothing(pool: Pool, working: Working) -> None:
    async with working(ALL):
        await waiting(pool)
    before = await contents(pool)

    document = await pool.export_workflow("order-7")

    assert await contents(pool) == before
    assert json.loads(json.dumps(document)) == document
    read = decode_document(json.loads(json.dumps(document)))
    history = await FlowStore(pool.store).history("order-7", "arq:queue", nodes=True)
    assert read.history.events == history.events
    assert read.history.waits == history.waits == {1: "a name with blanks", 2: "go"}
    assert read.history.timers == history.timers
    assert {n: (r.kind, r.label, r.digest) for n, r in read.history.nodes.items()} == {
        n: (r.kind, r.label, r.digest) for n, r in history.nodes.items()
    }
    for name in ("started", "ran"):
        assert read.history.record[name] == history.record[name]
    assert (read.function, read.status, read.serializer) == ("waits_for_go", "running", pool.serializer.name)
    assert read.payload == await pool.get("arq:job:order-7")
    assert {event["kind"] for event in document["events"]} == {"step", "value", "timer", "signal"}


async def test_one_that_has_ended_and_one_that_failed(
    pool: Pool, working: Working, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(read_history, "EVENTS_PER_READ", 20)
    async with working(ALL):
        complete = await started(pool, jobs.in_turn, 45)
        failed = await started(pool, jobs.fails_beside)
        await complete.result(timeout=60)
        with pytest.raises(ValueError, match="no good"):
            await failed.result(timeout=20)
        jobs.gate("neighbour").set()

    ended = decode_document(await pool.export_workflow(complete.job_id))
    assert (ended.status, ended.payload, len(ended.history.events)) == ("complete", None, 45)
    assert all(result is not None for _, result in ended.history.events)
    assert ended.result == await pool.get(f"arq:result:{complete.job_id}")
    assert decode_document(await pool.export_workflow(failed.job_id)).status == "failed"


async def test_a_workflow_that_gets_its_first_argument_of_a_graph(pool: Pool, working: Working) -> None:
    async with working(ALL):
        flow = await pool.enqueue_flow(add.s(2, 1) | jobs.in_turn.s())
        assert await flow.result(timeout=20) == 6
    workflow_id = (await flow.graph()).nodes[1].job_id

    read = decode_document(await pool.export_workflow(workflow_id))

    assert read.input is not None
    assert pool.serializer.loads(read.input) == {"v": 3}


async def test_what_cannot_be_exported(pool: Pool, working: Working) -> None:
    graph = await pool.enqueue_flow(add.s(1))
    await pool.enqueue(jobs.in_turn.options(job_id="not begun"), 1)
    assert await pool.signal("not begun", "early")
    with pytest.raises(ArgumentsError, match="expected a workflow, got a graph"):
        await pool.export_workflow(graph.flow_id)
    with pytest.raises(ResultNotFound, match="no worker has run it yet"):
        await pool.export_workflow("not begun")
    with pytest.raises(ResultNotFound, match="found none"):
        await pool.export_workflow("nobody")
    with pytest.raises(ArgumentsError, match="expected the id of a workflow, got None"):
        await pool.export_workflow(None)  # type: ignore[arg-type]

    async with working(ALL):
        job = await started(pool, leaves_nothing, 3)
        await wait_until(lambda: has_ended(pool, job), "it has ended")
    with pytest.raises(ResultNotFound, match="its arguments are not kept"):
        await pool.export_workflow(job.job_id)


async def has_ended(pool: Pool, job: Job[Any]) -> bool:
    state: Any = await pool.hget(f"arqestra:flow:{job.job_id}", "state")  # type: ignore[misc]
    return bool(state == b"ended")


async def test_the_latest_runs_of_a_function(pool: Pool, working: Working) -> None:
    async with working(ALL):
        for number in range(3):
            await (await started(pool, jobs.in_turn, number)).result(timeout=20)
        await (await started(pool, jobs.sleeps, 0.0)).result(timeout=20)
        await waiting(pool)
        unkept = await started(pool, leaves_nothing, 3)
        await wait_until(lambda: has_ended(pool, unkept), "it has ended")

    two = await pool.export_workflows(jobs.in_turn, last=2)
    assert [pool.serializer.loads(decode_document(each).result or b"")["a"][0] for each in two.histories] == [2, 1]
    assert (two.missing, two.all_seen) == ({}, True)
    by_name = await pool.export_workflows("waits_for_go")
    assert [each["id"] for each in by_name.histories] == ["order-7"]
    gone = await pool.export_workflows(leaves_nothing)
    assert gone.histories == []
    assert "its arguments are not kept" in gone.missing[unkept.job_id]
    assert (await pool.export_workflows("never heard of")).histories == []
    for wrong in (0, 1_001, True, "3"):
        with pytest.raises(ArgumentsError, match="expected an int from 1 to 1,000"):
            await pool.export_workflows(jobs.in_turn, last=wrong)  # type: ignore[arg-type]
    with pytest.raises(ArgumentsError, match="made by @workflow or its name, got 7"):
        await pool.export_workflows(7)  # type: ignore[arg-type]


async def test_another_serializer_than_that_of_the_workers_is_an_error(pool: Pool, working: Working) -> None:
    async with working(ALL):
        await waiting(pool)
    async with await create_pool(url_of(pool), serializer="json") as other:
        with pytest.raises(Exception, match="unable to deserialize job"):
            await other.export_workflow("order-7")


async def test_after_continue_as_new_it_is_the_history_of_the_latest_run(pool: Pool, working: Working) -> None:
    async with working(ALL):
        job = await started(pool, jobs.collects, [])
        await pool.signal(job.job_id, "number", 1)
        await pool.signal(job.job_id, "number", 2)

        async def is_in_its_third_run() -> bool:
            rounds: Any = await pool.hget(f"arqestra:flow:{job.job_id}", "rounds")  # type: ignore[misc]
            return rounds == b"2" and await is_parked(pool, job)

        await wait_until(is_in_its_third_run, "two numbers are collected")
        read = decode_document(await pool.export_workflow(job.job_id))

    assert pool.serializer.loads(read.payload or b"")["a"][0] == [1, 2]
    assert read.history.events == []
    assert read.history.waits == {1: "number"}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"format": "something else"}, "expected a document with format 'arqestra workflow history', got 'something"),
        ({"version": 2}, "expected version 1 of the format, got 2; export it anew"),
        ({"events": [{"kind": "step", "at_ms": "late"}]}, r"Expected `int`, got `str` - at `\$.events\[0\].at_ms`"),
        ({"events": [{"kind": "dream", "at_ms": 1}]}, "dream"),
        ({"payload": "no base64!"}, "Invalid base64"),
        ({"record": None}, r"at `\$.record`"),
    ],
)
async def test_a_document_that_is_none(pool: Pool, working: Working, changed: dict[str, Any], message: str) -> None:
    async with working(ALL):
        await waiting(pool)
    document = await pool.export_workflow("order-7")
    with pytest.raises(ArgumentsError, match=message):
        decode_document({**document, **changed})
