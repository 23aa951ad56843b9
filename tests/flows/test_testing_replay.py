"""`arqestra.testing.replay`: it finds what a worker would find after the deploy, in the same words."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from arqestra import ArgumentsError, Flow, Pool, Serializer, create_pool, workflow
from arqestra.testing import Replay, assert_replays, replay, replay_all
from arqestra.worker.run import workflows
from tests.flows import flow_jobs as jobs
from tests.flows.bad_deploys import DEPLOYS, Deploy, before, deployed, is_blocked, under_way
from tests.flows.conftest import Working
from tests.flows.flow_jobs import add
from tests.flows.starting import is_parked, started
from tests.support.replies import reply_of
from tests.support.wait import wait_until
from tests.support.workers import worker_running


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workflows, "PARK_AFTER_S", 0.0)
    monkeypatch.setattr(workflows, "NONDETERMINISM_PAUSE_MS", 30)


def named(function: Any, name: str = "order") -> Any:
    return workflow(name=name)(function)


async def history_under_way(pool: Pool, working: Working) -> dict[str, Any]:
    """Of a workflow that waits for `go` after two steps, a side effect and a timer."""
    order = await under_way(pool, working)
    return await pool.export_workflow(order.job_id)


# -- as a worker ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("after", DEPLOYS, ids=lambda deploy: deploy.__name__)
async def test_a_bad_deploy_is_found_and_told_as_by_a_worker(pool: Pool, working: Working, after: Deploy) -> None:
    order = await under_way(pool, working)
    assert await pool.signal(order.job_id, "go", 4)
    history = await pool.export_workflow(order.job_id)
    ran = list(jobs.RUNS)

    found = replay(named(after), history)

    assert ran == jobs.RUNS
    assert (found.fits, found.state, found.flow_id) == (False, "blocked", order.job_id)
    async with working(deployed(after)):
        await wait_until(lambda: is_blocked(pool, order), "it is blocked by code")
        assert found.problem == (await pool.flow(order.job_id).progress()).blocked


async def test_the_same_code_fits_and_is_told_where_it_stands(pool: Pool, working: Working) -> None:
    history = await history_under_way(pool, working)

    found = replay(named(before), history)

    assert found == Replay(
        fits=True,
        problem="",
        flow_id=history["id"],
        function="order",
        events=4,
        seen=4,
        decided=4,
        state="waiting",
        waits_for=("go",),
        recorded="running",
    )
    assert str(found) == f"workflow {history['id']} (order): fits, waiting after 4 events"


async def test_a_function_that_is_not_there_any_more(pool: Pool, working: Working) -> None:
    history = await history_under_way(pool, working)

    found = replay(named(before, "orders"), history)

    assert (found.fits, found.problem) == (False, "function 'order' not found")
    [same] = replay_all([named(before, "orders"), *jobs.ALL], history)
    assert same == found


async def test_runs_that_have_ended(pool: Pool, working: Working) -> None:
    async with working(allow_abort_jobs=True):
        complete = await started(pool, jobs.many_ways)
        value = await complete.result(timeout=20)
        failed = await started(pool, jobs.fails_beside)
        with pytest.raises(ValueError, match="no good"):
            await failed.result(timeout=20)
        late = await started(pool, jobs.short_lived)
        with pytest.raises(TimeoutError):
            await late.result(timeout=20)
        aborted = await started(pool, jobs.compensates)
        await wait_until(lambda: "at booking" in jobs.RUNS, "the step runs")
        assert await aborted.abort(timeout=20)
        unstoppable = await started(pool, jobs.counts_down, 3)
        await unstoppable.result(timeout=20)

    found = replay(jobs.many_ways, await pool.export_workflow(complete.job_id))
    assert (found.fits, found.state, found.recorded) == (True, "complete", "complete")
    assert found.value == value
    found = replay(jobs.fails_beside, await pool.export_workflow(failed.job_id))
    assert (found.fits, found.state, str(found.error)) == (True, "failed", "no good")
    found = replay(jobs.short_lived, await pool.export_workflow(late.job_id))
    assert (found.state, str(found.error)) == ("failed", "the workflow did not end within 0.2 s")
    found = replay(jobs.compensates, await pool.export_workflow(aborted.job_id))
    assert (found.fits, found.state) == (True, "aborted")
    found = replay(jobs.counts_down, await pool.export_workflow(unstoppable.job_id))
    assert (found.fits, found.state, found.value) == (True, "complete", unstoppable.job_id)
    assert replay(jobs.counts_down, await pool.export_workflow(unstoppable.job_id)).decided == 1


@workflow(name="collects")
async def collects_more(flow: Flow, got: list[int]) -> list[int]:
    """As `collects`, and there is a step before it continues as new."""
    event = await flow.wait_for("number")
    await flow.run(add.s(event))
    flow.continue_as_new([*got, event])


async def test_new_code_behind_the_last_event_fits(pool: Pool, working: Working) -> None:
    async with working():
        job = await started(pool, jobs.collects, [7])
        await wait_until(lambda: is_parked(pool, job), "it waits")
    waits = await pool.export_workflow(job.job_id)
    assert await pool.signal(job.job_id, "number", 3)
    history = await pool.export_workflow(job.job_id)

    assert [each.state for each in replay_all(jobs.collects, [waits, history])] == ["waiting", "continued as new"]
    assert replay(jobs.collects, history).value == (([7, 3],), {})
    assert [each.state for each in assert_replays(collects_more, [waits, history])] == ["waiting", "waiting"]


async def test_patched_code_fits_runs_from_before_and_after_the_patch(pool: Pool, working: Working) -> None:
    async with working():
        old = await started(pool, jobs.changes)
        await wait_until(lambda: is_parked(pool, old), "it waits")
        jobs.SWITCHES.add("with patch")
        new = await started(pool, jobs.changes)
        await wait_until(lambda: has_events(pool, new.job_id, 2), "it waits")
    both = await pool.export_workflows(jobs.changes)
    assert len(both.histories) == 2

    assert_replays(jobs.changes, both)
    jobs.SWITCHES.clear()
    assert [each.fits for each in replay_all(jobs.changes, both)] == [False, True]
    jobs.SWITCHES.add("without patch")
    with pytest.raises(AssertionError, match="2 of 2 histories do not fit the code:"):
        assert_replays(jobs.changes, both)


async def has_events(pool: Pool, flow_id: str, count: int) -> bool:
    return bool(await reply_of(pool.llen(pool.store.keys.flow_log(flow_id))) >= count)


# -- how it is called -------------------------------------------------------------------------------------------------


async def test_a_failure_names_the_workflow_the_event_and_both_sides(
    pool: Pool, working: Working, tmp_path: Path
) -> None:
    history = await history_under_way(pool, working)
    (tmp_path / "one.json").write_text(json.dumps(history))

    @named
    async def after(flow: Flow, number: int) -> Any:
        await flow.run(add.s(number, 1))
        return await flow.run(jobs.total.s([5]))

    with pytest.raises(AssertionError) as failure:
        assert_replays(after, tmp_path)

    assert str(failure.value) == (
        "the history does not fit the code:\n"
        f"  workflow {history['id']} (order) in {tmp_path / 'one.json'}: after event 1 of 4 the history has a call of "
        "add as number 2, the code has a call of total"
    )


async def test_documents_texts_files_and_folders(pool: Pool, working: Working, tmp_path: Path) -> None:
    history = await history_under_way(pool, working)
    text = json.dumps(history, indent=1)
    (tmp_path / "below").mkdir()
    path = tmp_path / "below" / "order.json"
    path.write_text(text)
    (tmp_path / "notes.txt").write_text("no history")

    for each in (history, text, text.encode(), path, str(path)):
        assert replay(named(before), each).fits
    for several in (tmp_path, str(tmp_path), [history, path], (text,), text, history, path):
        assert all(each.fits for each in assert_replays([named(before), add], several))
    [of_a_file] = replay_all(named(before), tmp_path)
    assert of_a_file.source == str(path)


async def test_it_needs_no_loop_and_takes_one_that_runs(pool: Pool, working: Working) -> None:
    history = await history_under_way(pool, working)

    assert replay(named(before), history) == await asyncio.to_thread(replay, named(before), history)
    assert asyncio.current_task() is not None
    await asyncio.sleep(0)


def test_neither_pytest_nor_a_server_is_needed_to_import_it() -> None:
    loaded = "print([name for name in sys.modules if name.split('.')[0] in ('pytest', '_pytest')])"
    command = [sys.executable, "-W", "error", "-c", f"import sys, arqestra.testing; {loaded}"]
    assert subprocess.run(command, check=True, capture_output=True, text=True).stdout == "[]\n"


async def test_what_is_no_history_or_no_workflow(pool: Pool, working: Working, tmp_path: Path) -> None:
    history = await history_under_way(pool, working)
    (tmp_path / "empty").mkdir()
    (tmp_path / "other.json").write_text('{"a": 1}')
    (tmp_path / "broken.json").write_text("{")
    order = named(before)

    with pytest.raises(ArgumentsError, match="expected a function made by @workflow, got"):
        replay(before, history)  # type: ignore[arg-type]
    with pytest.raises(ArgumentsError, match="expected at least one function made by @workflow"):
        replay_all([add], history)
    with pytest.raises(ArgumentsError, match=r"nowhere\.json: No such file"):
        replay(order, tmp_path / "nowhere.json")
    with pytest.raises(ArgumentsError, match=r"other\.json: history: expected a document with format"):
        replay(order, tmp_path / "other.json")
    with pytest.raises(ArgumentsError, match="the file is no JSON"):
        replay_all(order, tmp_path)
    with pytest.raises(ArgumentsError, match=r"expected at least one history, got none in .*empty"):
        assert_replays(order, tmp_path / "empty")
    with pytest.raises(ArgumentsError, match="expected at least one history, got none in a list"):
        assert_replays(order, [])
    with pytest.raises(ArgumentsError, match="expected a history, a collection of them or a folder, got a int"):
        replay_all(order, 7)
    with pytest.raises(ArgumentsError, match="expected a document with format"):
        replay(order, 7)
    with pytest.raises(ArgumentsError, match=r"expected serializer .*, as it was exported, got 'json'"):
        replay(order, history, serializer="json")
    without = {name: value for name, value in history.items() if name != "payload"}
    with pytest.raises(ArgumentsError, match="expected a payload or a result in it"):
        replay(order, without)


class Gone:
    """A class that the code of today does not have."""


@workflow
async def takes_an_object(flow: Flow, thing: Any) -> None:
    await flow.wait_for("go")


@pytest.mark.parametrize("serializer", ["pickle"])
async def test_arguments_of_a_class_that_is_gone(pool: Pool, working: Working, monkeypatch: pytest.MonkeyPatch) -> None:
    async with working([takes_an_object]):
        job = await started(pool, takes_an_object, Gone())
        await wait_until(lambda: is_parked(pool, job), "it waits")
    history = await pool.export_workflow(job.job_id)
    assert replay(takes_an_object, history).fits

    monkeypatch.delattr(sys.modules[__name__], "Gone")
    found = replay(takes_an_object, history)

    assert not found.fits
    assert found.problem.startswith("unable to deserialize job: AttributeError: ")
    assert "attribute 'Gone'" in found.problem


async def test_a_serializer_of_your_own_is_given(redis_url: str) -> None:
    own = Serializer("custom", lambda value: json.dumps(value).encode(), json.loads, plain=True)
    async with await create_pool(redis_url, serializer=own) as pool:
        job = await pool.enqueue(named(before), 2)
        assert job is not None
        async with worker_running(pool, functions=deployed(before)):
            await wait_until(lambda: is_parked(pool, job), "it waits")
        history = await pool.export_workflow(job.job_id)
    with pytest.raises(ArgumentsError, match=r"expected serializer=Serializer\(...\)"):
        replay(named(before), history)
    assert replay(named(before), history, serializer=own).fits
