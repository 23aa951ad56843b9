"""`flow.replaying`: true in code that ran before, and nowhere else, at every moment of a workflow."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from arqestra import Flow, Job, Pool, Worker, workflow
from arqestra.store.server import redis_time_ms
from arqestra.worker.run import workflows
from arqestra.worker.run.outcome import CancelReason
from tests.flows import flow_jobs as jobs
from tests.flows.conftest import Working
from tests.flows.flow_jobs import add, fail, gate, wait_at
from tests.flows.starting import is_parked, started
from tests.support.replies import reply_of
from tests.support.wait import wait_until

SAID: list[str] = []  # what guarded code has said


@pytest.fixture(autouse=True)
def silent() -> None:
    SAID.clear()


@pytest.fixture(params=[5.0, 0.0], ids=["sticky", "parked at once"])
def patience(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workflows, "PARK_AFTER_S", request.param)


def say(flow: Flow, text: str) -> None:
    """As people log in a workflow."""
    if not flow.replaying:
        SAID.append(text)


@workflow
async def talks(flow: Flow) -> str:
    say(flow, "begun")
    await flow.run(add.s(1))
    say(flow, "after a step")
    try:
        await flow.run(fail.s())
    except ValueError:
        say(flow, "after a failure")
    say(flow, f"heard {await flow.wait_for('word')}")
    await flow.sleep(0.01)
    say(flow, "after a sleep")
    await flow.side_effect(lambda: 1)
    say(flow, "after a side effect")
    say(flow, f"heard {await flow.wait_for('word')}")
    say(flow, "at the end")
    return "done"


EVERYTHING = ["begun", "after a step", "after a failure", "heard one", "after a sleep", "after a side effect"]
EVERYTHING += ["heard two", "at the end"]


@workflow
async def two_branches(flow: Flow) -> list[str]:
    async def branch(name: str) -> str:
        say(flow, f"{name} begun")
        got = await flow.run(wait_at.s(name))
        say(flow, f"{name} ended")
        return got

    async with asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(branch(name)) for name in ("left", "right")]
    say(flow, "both ended")
    return [task.result() for task in running]


@workflow
async def many_words(flow: Flow, count: int) -> int:
    for number in range(count):
        say(flow, f"waits {number}")
        await flow.wait_for("word")
        say(flow, f"heard {number}")
    return count


@workflow
async def anew(flow: Flow, rounds: int) -> int:
    say(flow, f"round {rounds}")
    await flow.run(add.s(rounds))
    say(flow, f"ran in round {rounds}")
    if rounds:
        flow.continue_as_new(rounds - 1)
    return rounds


TALKATIVE = [*jobs.GRAPH_JOBS, talks, two_branches, many_words, anew]


async def said(*texts: str) -> bool:
    return set(texts) <= set(SAID)


@pytest.mark.usefixtures("patience")
async def test_what_is_guarded_by_it_happens_once_and_in_order(pool: Pool, working: Working) -> None:
    async with working(TALKATIVE):
        job = await started(pool, talks)
        await wait_until(lambda: said("after a failure"), "it waits for a word")
        await pool.signal(job.job_id, "word", "one")
        await wait_until(lambda: said("after a side effect"), "it waits for the next word")
        await pool.signal(job.job_id, "word", "two")
        assert await job.result(timeout=20) == "done"

    assert SAID == EVERYTHING


async def test_the_first_run_replays_nothing(pool: Pool, working: Working) -> None:
    """Also where its events came before it was begun."""
    job = await started(pool, many_words, 3)
    for _ in range(3):
        await pool.signal(job.job_id, "word")
    async with working(TALKATIVE):
        assert await job.result(timeout=20) == 3

    assert [text for number in range(3) for text in (f"waits {number}", f"heard {number}")] == SAID


async def test_what_came_while_no_worker_was_there_is_new(pool: Pool, working: Working) -> None:
    async with working(TALKATIVE):
        job = await started(pool, many_words, 5)
        await pool.signal(job.job_id, "word")
        await wait_until(lambda: said("waits 1"), "it has heard the first one")
    for _ in range(3):
        await pool.signal(job.job_id, "word")
    async with working(TALKATIVE):
        await wait_until(lambda: said("waits 4"), "it has heard what came meanwhile")
    await pool.signal(job.job_id, "word")
    async with working(TALKATIVE):
        assert await job.result(timeout=20) == 5

    assert [text for number in range(5) for text in (f"waits {number}", f"heard {number}")] == SAID


@pytest.mark.usefixtures("patience")
async def test_tasks_beside_each_other_tell_each_for_itself(pool: Pool, working: Working) -> None:
    """The end of the first changes nothing that is written down, and it is parked or replayed after that."""
    async with working(TALKATIVE) as worker:
        job = await started(pool, two_branches)
        await wait_until(lambda: _both_wait(), "both run")
        gate("left").set()
        await wait_until(lambda: said("left ended"), "the first has ended")
        await _hand_over(worker)
        async with working(TALKATIVE):
            gate("right").set()
            assert await job.result(timeout=20) == ["left", "right"]

    assert SAID == ["left begun", "right begun", "left ended", "right ended", "both ended"]


async def _both_wait() -> bool:
    return {"at left", "at right"} <= set(jobs.RUNS)


async def _hand_over(worker: Worker) -> None:
    """Have the workflow parked, as after some seconds without news; its jobs go on."""
    for run in list(worker.slots.sticky.values()):
        assert run.interrupt is not None
        run.interrupt(CancelReason.SHUTDOWN)

    async def nobody_waits() -> bool:
        return not worker.slots.sticky

    await wait_until(nobody_waits, "it is parked")


@pytest.mark.usefixtures("patience")
async def test_each_round_is_new(pool: Pool, working: Working) -> None:
    async with working(TALKATIVE):
        assert await (await started(pool, anew, 2)).result(timeout=20) == 0

    assert [text for number in (2, 1, 0) for text in (f"round {number}", f"ran in round {number}")] == SAID


async def test_nothing_is_lost_by_a_worker_that_dies(pool: Pool, working: Working) -> None:
    """What ran and was not written down may be told twice, and is not left out."""
    async with working(TALKATIVE):
        job = await started(pool, many_words, 2)
        await pool.signal(job.job_id, "word")
        await wait_until(lambda: said("waits 1"), "it has heard the first one")
        await _is_killed(pool, job)
        await pool.signal(job.job_id, "word")
        async with working(TALKATIVE):
            assert await job.result(timeout=20) == 2

    assert set(SAID) == {text for number in range(2) for text in (f"waits {number}", f"heard {number}")}
    assert SAID[-1] == "heard 1"


async def _is_killed(pool: Pool, job: Job[Any]) -> None:
    """As when its lease has run out: whoever held it can write nothing any more."""
    await pool.delete(pool.store.keys.lease(job.job_id))
    await pool.zadd("arq:queue", {job.job_id: await redis_time_ms(pool)})


async def test_a_history_of_an_older_version_goes_on(
    pool: Pool, working: Working, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It does not say how far it was run, nor which events it waits for."""
    monkeypatch.setattr(workflows, "PARK_AFTER_S", 0.0)
    async with working(TALKATIVE):
        job = await started(pool, talks)
        await wait_until(lambda: said("after a failure"), "it waits for a word")
        await wait_until(lambda: is_parked(pool, job), "it is parked")
    flow, nodes = pool.store.keys.flow(job.job_id), pool.store.keys.flow_nodes(job.job_id)
    assert await reply_of(pool.hdel(flow, "ran")) == 1
    assert await reply_of(pool.hdel(nodes, "1w")) == 1
    await pool.signal(job.job_id, "word", "one")
    async with working(TALKATIVE):
        await wait_until(lambda: said("after a side effect"), "it waits for the next word")
        await pool.signal(job.job_id, "word", "two")
        assert await job.result(timeout=20) == "done"
