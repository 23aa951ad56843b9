"""Chains, groups and chords through a pool and a worker."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from datetime import UTC, datetime
from typing import Any

import pytest
from arq.jobs import ResultNotFound

from arqestra import (
    ArgumentsError,
    FlowCancelled,
    FlowExists,
    FlowRunning,
    GraphError,
    JobExecutionFailed,
    Pool,
    SerializationError,
    SettingsError,
    UpstreamFailed,
    chain,
    chord,
    group,
    signature,
)
from arqestra.definitions.graph import graph_of
from arqestra.store.server import redis_time_ms
from tests.flows import flow_jobs as jobs
from tests.flows.conftest import Working, keys_of_flows
from tests.flows.flow_jobs import add, explain, fail, gate, total, wait_at
from tests.support.replies import reply_of
from tests.support.wait import wait_until

NOON_OF_2099 = datetime(2099, 1, 1, 12, tzinfo=UTC)


async def test_a_result_is_the_first_argument_of_what_follows(pool: Pool, working: Working) -> None:
    async with working():
        flow = await pool.enqueue_flow(add.s(1, 2) | add.s(10) | add.si(5) | add.s(100))
        assert await flow.result(timeout=10) == 105
        assert await flow.wait(timeout=10) == "complete"

    assert jobs.RUNS == [(1, 2), (3, 10), (5,), (5, 100)]


@pytest.mark.parametrize(
    ("canvas", "expected"),
    [
        (lambda: group(add.s(n) for n in range(3)), [0, 1, 2]),
        (lambda: group(), []),
        (lambda: group() | total.s(), 0),
        (lambda: chord([add.s(n) for n in range(10)], total.s()), 45),
        (lambda: group(add.s(1), add.s(2)) | group(total.s(), total.s()) | total.s(), 6),
        (lambda: group(add.s(1) | add.s(1), group(add.s(3), add.s(4)) | total.s()) | total.s(), 9),
        (lambda: chord([chord([add.s(1), add.s(2)], total.s()), add.s(4)], total.s()) | add.s(1), 8),
        (lambda: add.s(1) | group(add.s(10), add.s(20)) | total.s(), 32),
        (lambda: add.map([1, 2]) | total.s(), 3),
        (lambda: add.starmap([(1, 2), (3, 4)]), [3, 7]),
        (lambda: add.chunks([(1, 2), (3, 4), (5, 6)], 2), [[3, 7], [11]]),
        (lambda: signature("add", 1, 2) | signature("add", 3), 6),
        (lambda: chain([add.s(1), add.s(2)]), 3),
        (lambda: jobs.fleeting.s(4) | add.s(1), 5),
        (lambda: jobs.third_time.s() | add.s(1), 4),
    ],
)
async def test_shapes(pool: Pool, working: Working, canvas: Any, expected: Any) -> None:
    async with working():
        assert await (await pool.enqueue_flow(canvas())).result(timeout=10) == expected


async def test_values_are_coerced_from_type_hints(pool: Pool, working: Working) -> None:
    at = datetime(2026, 1, 1, tzinfo=UTC)
    async with working():
        flow = await pool.enqueue_flow(jobs.pack.s("box", at))
        assert await flow.result(timeout=10) == jobs.Parcel("box", at)
        assert (
            await (await pool.enqueue_flow(jobs.pack.s("box", at) | jobs.unpack.s())).result(timeout=10) == "box 2026"
        )


async def test_a_failure_ends_what_hangs_on_it_and_names_the_job_at_fault(pool: Pool, working: Working) -> None:
    async with working():
        flow = await pool.enqueue_flow(group(add.s(1), fail.s()) | total.s() | add.s(1))
        with pytest.raises(ValueError, match="no good"):
            await flow.result(timeout=10)
        assert await flow.wait(timeout=10) == "failed"
        graph = await flow.graph()
        progress = await flow.progress()

    states = {node.number: (node.function, node.state, node.fault) for node in graph.nodes if node.kind == "job"}
    assert states == {
        1: ("add", "complete", None),
        2: ("fail", "failed", None),
        4: ("total", "upstream_failed", 2),
        5: ("add", "upstream_failed", 2),
    }
    assert (progress.total, progress.done, progress.active, progress.waiting) == (4, 4, 0, 0)
    assert progress.states == {"complete": 1, "failed": 1, "upstream_failed": 2}


async def test_continue_gets_the_exception_in_the_place_of_the_value(pool: Pool, working: Working) -> None:
    async with working():
        one = await pool.enqueue_flow(fail.s() | explain.s().set(on_failure="continue"))
        many = await pool.enqueue_flow(group(add.s(1), fail.s()) | total.s().set(on_failure="continue"))
        alone = await pool.enqueue_flow(group(add.s(1), fail.s(), on_failure="continue"))
        assert await one.result(timeout=10) == "ValueError('no good')"
        assert await many.result(timeout=10) == 1001
        value: Any
        error: Any
        value, error = await alone.result(timeout=10)
    assert (value, type(error), str(error)) == (1, ValueError, "no good")


async def test_error_callbacks_run_on_failure_alone(pool: Pool, working: Working) -> None:
    callback = jobs.report_failure.s("to the owner")
    async with working():
        good = await pool.enqueue_flow((add.s(1) | add.s(1)).link_error(callback))
        bad = await pool.enqueue_flow((fail.s() | add.s(1)).link_error(callback))
        assert (await good.wait(timeout=10), await bad.wait(timeout=10)) == ("complete", "failed")
        assert (await good.progress()).states == {"complete": 2, "skipped": 1}

    [(failure, note)] = jobs.RUNS[-1:]
    assert isinstance(failure, UpstreamFailed)
    assert (failure.function, str(failure.error), note) == ("fail", "no good", "to the owner")


async def test_an_expired_an_aborted_and_a_deleted_parent_resolve_their_children(pool: Pool, working: Working) -> None:
    expired = await pool.enqueue_flow(add.s(1).set(expires=0.001) | add.s(1))
    deleted = await pool.enqueue_flow(add.s(1).set(defer_by=60) | add.s(1))
    assert await pool.job(f"{deleted.flow_id}~1").delete()
    await asyncio.sleep(0.01)
    async with working(allow_abort_jobs=True):
        aborted = await pool.enqueue_flow(wait_at.s("aborted") | add.s(1))
        await wait_until(lambda: _ran("at aborted"), "the job runs")
        assert await pool.job(f"{aborted.flow_id}~1").abort(timeout=10)
        for flow, state in ((expired, "expired"), (aborted, "aborted"), (deleted, "aborted")):
            assert await flow.wait(timeout=10) == "failed"
            assert (await flow.progress()).states == {state: 1, "upstream_failed": 1}
            with pytest.raises(Exception, match=r"expired|did not complete|deleted"):
                await flow.result(timeout=10)


async def _ran(what: Any) -> bool:
    return what in jobs.RUNS


async def test_cancel_aborts_what_runs_and_drops_what_waits(pool: Pool, working: Working) -> None:
    async with working(max_jobs=1):
        flow = await pool.enqueue_flow(group(wait_at.s("a"), add.s(1).set(defer_by=60)) | total.s() | add.s(1))
        await wait_until(lambda: _ran("at a"), "the job runs")
        assert await flow.cancel("no longer wanted")
        assert await flow.wait(timeout=10) == "cancelled"
        with pytest.raises(FlowCancelled, match="no longer wanted"):
            await flow.result(timeout=10)
        assert (await flow.progress()).states == {"aborted": 4}
        assert await flow.cancel() is False

    assert jobs.RUNS == ["at a"]


async def test_retry_runs_what_failed_and_what_hangs_on_it_and_keeps_the_rest(pool: Pool, working: Working) -> None:
    callback = jobs.report_failure.s("again")
    async with working():
        flow = await pool.enqueue_flow((group(add.s(1), fail.s() | add.si(5)) | total.s()).link_error(callback))
        assert await flow.wait(timeout=10) == "failed"
        assert jobs.RUNS[0] == (1,)
        assert await flow.retry() == 4
        assert await flow.wait(timeout=10) == "failed"
        jobs.SWITCHES.add("fail")
        assert await flow.retry() == 4
        assert await flow.wait(timeout=10) == "complete"
        assert await flow.result() == 6
        assert await flow.retry() == 0

    assert jobs.RUNS.count((1,)) == 1
    assert [run[1] for run in jobs.RUNS if isinstance(run[0], UpstreamFailed)] == ["again", "again"]


async def test_events_tell_each_change(pool: Pool, working: Working) -> None:
    flow = await pool.enqueue_flow(wait_at.s("start") | group(add.si(1), fail.si()) | total.s())
    seen = []

    async def watch() -> None:
        async for event in flow.events():
            seen.append((event.number, event.state))
            if len(seen) == 1:
                gate("start").set()

    watching = asyncio.ensure_future(watch())
    async with working():
        await wait_until(lambda: _ran("at start"), "the job runs")
        gate("start").set()
        await asyncio.wait_for(watching, 20)

    assert seen[-1] == (0, "ended")
    assert {(1, "complete"), (2, "complete"), (3, "failed"), (5, "upstream_failed")} <= set(seen)


async def test_nothing_is_left_of_a_forgotten_flow(pool: Pool, working: Working) -> None:
    async with working():
        flow = await pool.enqueue_flow(group(add.s(1), fail.s(), jobs.one_at_a_time.s(1)) | total.s(), flow_id="mine")
        with pytest.raises(FlowExists, match="mine"):
            await pool.enqueue_flow(add.s(1), flow_id="mine")
        await flow.wait(timeout=10)
        assert await flow.forget()
        assert await flow.status() == "not_found"
        assert await flow.forget() is False
        with pytest.raises(ResultNotFound):
            await flow.result(timeout=1)
    assert await keys_of_flows(pool) == set()


async def test_a_running_flow_is_not_forgotten_or_retried(pool: Pool) -> None:
    flow = await pool.enqueue_flow(add.s(1))
    with pytest.raises(FlowRunning):
        await flow.forget()
    with pytest.raises(FlowRunning):
        await flow.retry()
    with pytest.raises(TimeoutError):
        await flow.result(timeout=0.05)
    assert await flow.status() == "running"


async def test_results_are_kept_as_long_as_the_flow(pool: Pool, working: Working) -> None:
    async with working():
        flow = await pool.enqueue_flow(jobs.fleeting.s(1) | add.s(1) | add.s(1), keep_result=500)
        await flow.wait(timeout=10)
        keys = [f"arq:result:{flow.flow_id}~{number}" for number in (1, 2, 3)]
        await wait_until(lambda: _has_ttl(pool, keys[1]), "the results have a TTL")
        assert [await pool.exists(key) for key in keys] == [0, 1, 1]
        assert 0 < await pool.ttl(f"arqestra:flow:{flow.flow_id}") <= 500


async def _has_ttl(pool: Pool, key: str) -> bool:
    return bool(await pool.ttl(key) > 0)


async def test_a_result_that_is_gone_fails_who_needs_it(pool: Pool, working: Working) -> None:
    flow = await pool.enqueue_flow(add.s(1) | add.s(1).set(defer_by=0.2))
    async with working():
        await wait_until(lambda: _ran((1,)), "the first one ran")
        await wait_until(lambda: _exists(pool, f"arq:result:{flow.flow_id}~1"), "its result is there")
        await pool.delete(f"arq:result:{flow.flow_id}~1")
        with pytest.raises(Exception, match="its result is gone"):
            await flow.result(timeout=10)


async def _exists(pool: Pool, key: str) -> bool:
    return bool(await pool.exists(key))


async def test_a_retry_makes_results_again_that_were_not_kept(pool: Pool, working: Working) -> None:
    async with working():
        flow = await pool.enqueue_flow(jobs.fleeting.s(4) | fail.s() | add.si(1))
        await flow.wait(timeout=10)
        await wait_until(lambda: _is_gone(pool, f"arq:result:{flow.flow_id}~1"), "the result is gone")
        jobs.SWITCHES.add("fail")
        assert await flow.retry() == 3
        assert await flow.result(timeout=10) == 1


async def _is_gone(pool: Pool, key: str) -> bool:
    return not await pool.exists(key)


async def test_an_error_is_kept_where_no_result_is(pool: Pool, working: Working) -> None:
    """It is what the flow has failed of."""
    async with working():
        flow = await pool.enqueue_flow(jobs.fails_fleetingly.s() | add.s(1) | add.s(1), keep_result=500)
        await flow.wait(timeout=10)
        key = f"arq:result:{flow.flow_id}~1"
        await wait_until(lambda: _has_ttl(pool, key), "its result has a TTL")
        with pytest.raises(ValueError, match="no good"):
            await flow.result(timeout=10)
        assert 0 < await pool.ttl(key) <= 500


async def test_options_of_single_calls(pool: Pool, working: Working) -> None:
    canvas = jobs.headers.s().set(headers={"tenant": "t"}, job_id="chosen", priority=7) | jobs.headers.s()
    with pytest.raises(GraphError, match="'twice' twice"):
        await pool.enqueue_flow(group(add.s(1).set(job_id="twice"), add.s(2).set(job_id="twice")))
    flow = await pool.enqueue_flow(canvas.set(headers={"tenant": "other"}))
    with pytest.raises(FlowExists, match="job ids that are free"):
        await pool.enqueue_flow(canvas)
    async with working():
        assert await pool.job("chosen").result(timeout=10) == {"tenant": "t"}
        assert await flow.result(timeout=10) == {"tenant": "other"}


async def test_nodes_obey_the_limits_of_their_functions(pool: Pool, working: Working) -> None:
    async with working():
        flow = await pool.enqueue_flow(jobs.one_at_a_time.map(range(8)) | total.s())
        assert await flow.result(timeout=10) == 28

    inside = 0
    for what, _ in jobs.RUNS:
        inside += 1 if what == "in" else -1
        assert inside in (0, 1)


async def test_what_cannot_be_is_refused_before_anything_is_stored(pool: Pool) -> None:
    with pytest.raises(ArgumentsError, match="explain"):
        await pool.enqueue_flow(add.s(1) | explain.s("one too many"))
    with pytest.raises(SerializationError):
        await pool.enqueue_flow(add.s(1) | add.s(lambda: 1))
    with pytest.raises(ArgumentsError, match="expected a signature"):
        await pool.enqueue_flow(add)  # type: ignore[arg-type]
    assert await keys_of_flows(pool) == set()


async def test_a_great_fan_out_and_fan_in(pool: Pool, working: Working) -> None:
    async with working(max_jobs=50):
        flow = await pool.enqueue_flow(add.s(1) | group(add.s(n) for n in range(1_500)) | total.s())
        assert await flow.result(timeout=60) == 1_500 + sum(range(1_500))
        progress = await flow.progress()
    assert (progress.total, progress.done) == (1_502, 1_502)


async def test_the_picture_of_a_graph(pool: Pool) -> None:
    flow = await pool.enqueue_flow((group(add.s(1), add.s(2)) | total.s()).link_error(explain.s()))
    text = (await flow.graph()).mermaid()

    assert text.startswith("flowchart TD")
    assert 'n1["add"]:::queued' in text
    assert "n1 --> n3" in text
    assert "n4 -. error .-> n5" in text


async def test_expires_of_a_node_judges_each_attempt_as_that_of_a_job_does(pool: Pool, working: Working) -> None:
    async with working():
        alone = await pool.enqueue(jobs.tries_later.options(expires=0.25))
        flow = await pool.enqueue_flow(add.s(1) | jobs.tries_later.s().set(expires=0.25))
        inside = await pool.enqueue(jobs.runs_late)
        in_time = await pool.enqueue_flow(add.s(1) | jobs.tries_later.s().set(expires=20))
        assert alone is not None
        assert inside is not None
        for late in (alone, flow, inside):
            with pytest.raises(JobExecutionFailed, match="job expired"):
                await late.result(timeout=20)
        assert await in_time.result(timeout=20) == 2
        assert (await flow.progress()).states == {"complete": 1, "expired": 1}

    assert Counter(jobs.RUNS)["try", 1] == 4
    assert Counter(jobs.RUNS)["try", 2] == 1


async def test_a_chains_delay_is_that_of_its_start(pool: Pool) -> None:
    chain_of_two = (add.s(1) | add.s(2)).set(defer_by=3600)
    parts: Any = chain_of_two.parts
    assert [part.options.defer_by for part in parts] == [3600, None]
    parts = group(chain_of_two, add.s(3)).set(defer_by=60).parts
    [first, second] = parts
    assert [part.options.defer_by for part in (*first.parts, second)] == [3600, None, 60]
    whole = chord([add.s(1), add.s(2) | add.s(3)], total.s()).set(defer_by=60)
    delays = [node.call.options.defer_by for node in graph_of(whole).jobs if node.call is not None]
    assert delays == [60, 60, None, None]


@pytest.mark.parametrize(
    ("canvas", "due_in_s"),
    [
        (lambda: add.s(1) | add.s(2), [3600]),
        (lambda: group(add.s(1), add.s(2).set(defer_by=60)) | total.s(), [3600, 3660]),
        (lambda: group(add.s(1).set(defer_until=NOON_OF_2099), add.s(1)), [3600, None]),
        (lambda: group() | add.s(1), [3600]),
        (lambda: group() | group(add.s(1), add.s(2).set(defer_by=60)), [3600, 3660]),
    ],
)
@pytest.mark.parametrize("by_time", [False, True])
async def test_a_flow_starts_when_it_is_to(pool: Pool, canvas: Any, due_in_s: list[int | None], by_time: bool) -> None:
    now_s = await redis_time_ms(pool) / 1000
    when: dict[str, Any] = {"defer_by": 3600}
    if by_time:
        when = {"defer_until": datetime.fromtimestamp(now_s + 3600, UTC)}
    flow = await pool.enqueue_flow(canvas(), **when)

    scores = sorted(score for _, score in await pool.zrange("arq:queue", 0, -1, withscores=True))
    expected = sorted(NOON_OF_2099.timestamp() if each is None else now_s + each for each in due_in_s)
    assert [score / 1000 for score in scores] == pytest.approx(expected, abs=30)
    progress = await flow.progress()
    assert progress.active == len(due_in_s)


async def test_a_flow_that_was_deferred_runs_to_its_end_and_is_retried_at_once(pool: Pool, working: Working) -> None:
    async with working():
        began_s = asyncio.get_running_loop().time()
        flow = await pool.enqueue_flow(fail.s() | add.s(1), defer_by=0.4)
        assert await flow.wait(timeout=10) == "failed"
        assert asyncio.get_running_loop().time() - began_s >= 0.39
        jobs.SWITCHES.add("fail")
        await flow.retry()
        scores = [score for _, score in await pool.zrange("arq:queue", 0, -1, withscores=True)]
        assert all(score / 1000 < time.time() + 100 for score in scores)
        await flow.wait(timeout=10)


async def test_a_flow_has_the_name_of_its_last_job_and_not_of_a_callbacks(pool: Pool) -> None:
    canvas = (add.s(1) | explain.s()).link(total.s()).link_error(total.s() | add.s())
    flow = await pool.enqueue_flow(canvas)
    assert await reply_of(pool.hget(f"arqestra:flow:{flow.flow_id}", "name")) == b"explain"


async def test_a_start_that_cannot_be_is_refused(pool: Pool) -> None:
    for when in ({"defer_by": "soon"}, {"defer_until": 5}, {"defer_by": 1, "defer_until": NOON_OF_2099}):
        with pytest.raises(SettingsError, match="defer_"):
            await pool.enqueue_flow(add.s(1), **when)
    assert await keys_of_flows(pool) == set()


@pytest.mark.parametrize("chosen", [None, "mine", "has~7"])
async def test_an_abort_of_a_job_that_waits_for_others_is_carried_out(
    pool: Pool, working: Working, chosen: str | None
) -> None:
    callback = jobs.report_failure.s("to the owner")
    second = add.s(2).set(job_id=chosen).link_error(callback)
    async with working():
        flow = await pool.enqueue_flow(wait_at.si("first") | second | explain.s().set(on_failure="continue"))
        await wait_until(lambda: _ran("at first"), "the first one runs")
        job = pool.job(chosen or f"{flow.flow_id}~2")
        assert await job.abort(timeout=10)
        assert chosen is not None or await job.abort(timeout=10), "asked again, it says the same"
        gate("first").set()
        assert "aborted before it could run" in await flow.result(timeout=10)
        assert await flow.wait(timeout=10) == "complete"
        progress = await flow.progress()
        assert (progress.states, progress.active, progress.waiting) == ({"complete": 3, "aborted": 1}, 0, 0)

    assert [run[1] for run in jobs.RUNS if isinstance(run, tuple)] == ["to the owner"]


async def test_an_abort_of_a_job_that_is_none_finds_none(pool: Pool) -> None:
    flow = await pool.enqueue_flow(group(add.s(1), add.s(2)) | total.s())
    for job_id in (f"{flow.flow_id}~3", f"{flow.flow_id}~77", "nothing~1", "nothing"):  # the first is the join
        assert await pool.job(job_id).abort(timeout=1) is False
    assert (await flow.progress()).states == {}


async def test_arguments_of_chunks_are_checked_when_they_are_enqueued(pool: Pool, working: Working) -> None:
    with pytest.raises(ArgumentsError, match=r"pack.*missing a required argument: 'at'"):
        await pool.enqueue_flow(jobs.pack.chunks([("a", 1), ("b",)], 10))
    with pytest.raises(ArgumentsError, match="too many positional"):
        await pool.enqueue_flow(jobs.fleeting.s(1) | jobs.fleeting.chunks([(1,), (2,)], 10))
    refused: tuple[Any, ...] = ("ab", [1, 2], ["ab"], [{"a": 1}])
    for items in refused:
        with pytest.raises(ArgumentsError, match="expected tuples of arguments"):
            await pool.enqueue_flow(add.chunks(items, 2))
        with pytest.raises(ArgumentsError, match="expected tuples of arguments"):
            await pool.enqueue_flow(add.starmap(items))
    assert await keys_of_flows(pool) == set()


async def test_chunks_get_what_comes_before_them_and_their_results_have_types(pool: Pool, working: Working) -> None:
    at = datetime(2026, 1, 1, tzinfo=UTC)
    async with working():
        flow = await pool.enqueue_flow(add.s(100) | add.chunks([(1,), (2,), (3,)], 2))
        assert await flow.result(timeout=10) == [[101, 102], [103]]
        packed = await pool.enqueue_flow(jobs.pack.chunks([("a", at), ("b", at)], 2))
        assert await packed.result(timeout=10) == [[jobs.Parcel("a", at), jobs.Parcel("b", at)]]
