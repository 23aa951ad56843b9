"""`arqestra.testing.run_workflow`: no time passes, and the answers of steps."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from arqestra import (
    ArgumentsError,
    Cancel,
    Flow,
    Retry,
    SerializationError,
    SettingsError,
    job,
    workflow,
)
from arqestra.testing import assert_replays, perform, replay, replay_all, run_workflow, takes
from tests.flows import flow_jobs as jobs
from tests.flows.flow_jobs import add, explain, fail, pack, report_failure, total, unpack, wait_at
from tests.flows.simulated import ANSWERS, START, summed

# -- time ---------------------------------------------------------------------------------------------------------


@workflow
async def billing(flow: Flow, days: int) -> list[str]:
    seen = []
    for day in range(days):
        await flow.sleep(days=1)
        await flow.run(add.s(day))
        seen.append(flow.now().isoformat())
    return seen


async def test_a_week_of_daily_timers_takes_no_time() -> None:
    before = time.perf_counter()
    outcome = await run_workflow(billing, 7, answers={add: 1}, start=START)
    took_s = time.perf_counter() - before

    assert outcome.value == [(START + timedelta(days=day)).isoformat() for day in range(1, 8)]
    assert outcome.elapsed == timedelta(days=7)
    assert [(step.function, step.args, step.after) for step in outcome.steps] == [
        ("add", (day,), timedelta(days=day + 1)) for day in range(7)
    ]
    assert took_s < 1
    assert replay(billing, outcome.history).value == outcome.value


async def test_the_history_of_every_place_where_it_waited_fits() -> None:
    outcome = await run_workflow(jobs.many_ways, answers=ANSWERS)

    found = assert_replays(jobs.many_ways, outcome.histories())
    assert [each.state for each in found] == ["waiting"] * (len(found) - 1) + ["complete"]
    assert len(found) > 20
    assert found[-1].value == outcome.value


@workflow(name="billing")
async def billing_at_once(flow: Flow, days: int) -> Any:
    return await flow.gather(flow.sleep(days=1), add.s(0))


async def test_a_change_that_only_the_history_of_a_place_in_between_finds() -> None:
    """One after the other, or both at once: they ask for the same in the same order."""
    outcome = await run_workflow(billing, 1, answers={add: 1})

    assert replay(billing_at_once, outcome.history).fits
    assert [each.fits for each in replay_all(billing_at_once, outcome.histories())] == [False, True, True]


async def test_timers_and_steps_race() -> None:
    @workflow
    async def patient(flow: Flow) -> Any:
        try:
            async with asyncio.timeout(60):
                return await flow.run(wait_at.s("desk"))
        except TimeoutError:
            return f"too late at {flow.now():%H:%M}"

    quick = await run_workflow(patient, answers={wait_at: takes(59, "done")}, start=START)
    assert (quick.value, quick.elapsed) == ("done", timedelta(seconds=59))
    slow = await run_workflow(patient, answers={wait_at: takes("2m", "done")}, start=START)
    assert (slow.value, slow.elapsed) == ("too late at 08:01", timedelta(seconds=60))
    assert [step.state for step in slow.steps] == ["aborted"]
    assert_replays(patient, [quick.history, slow.history])


async def test_a_cancelled_timer_moves_no_clock() -> None:
    outcome = await run_workflow(hears_once, signals=[("word", 1)])

    assert (outcome.value, outcome.elapsed) == (1, timedelta(0))


@workflow
async def hears_once(flow: Flow) -> Any:
    heard = await flow.wait_for("word", timeout="30d")
    await flow.run(add.s(1)) if heard is None else None
    return heard


async def test_deferred_steps_start_later() -> None:
    @workflow
    async def later(flow: Flow) -> datetime:
        await flow.run(add.s(1).set(defer_by=3600))
        await flow.run(add.s(2).set(defer_until=START + timedelta(hours=5)))
        return flow.now()

    outcome = await run_workflow(later, answers={add: 1}, start=START)
    assert outcome.value == START + timedelta(hours=5)


async def test_it_is_left_where_it_is() -> None:
    @workflow
    async def forever(flow: Flow, days: int = 0) -> None:
        await flow.sleep(days=1)
        await flow.run(add.s(days))
        flow.continue_as_new(days + 1)

    outcome = await run_workflow(forever, answers={add: 1}, until="10d")

    assert (outcome.state, outcome.runs, len(outcome.steps)) == ("waiting", 11, 10)
    assert outcome.elapsed == timedelta(days=10)
    with pytest.raises(AssertionError, match="expected a workflow that has ended, it waits after 10 days"):
        outcome.result()
    assert replay(forever, outcome.history).state == "waiting"

    waits = await run_workflow(hears_once, until="7d")
    assert (waits.state, waits.waits_for, waits.elapsed) == ("waiting", ("word",), timedelta(days=7))


@pytest.mark.parametrize("until", [None, "10d"])
async def test_one_that_begins_anew_for_ever_is_an_error(until: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("arqestra.testing.simulated_workflow.MAX_RUNS", 20)

    @workflow
    async def restless(flow: Flow) -> None:
        flow.continue_as_new()

    with pytest.raises(AssertionError, match="continued as new 20 times"):
        await run_workflow(restless, until=until)


async def test_chance_and_ids_are_those_of_the_id_and_the_start() -> None:
    @workflow
    async def chance(flow: Flow) -> list[Any]:
        return [str(flow.uuid()), str(flow.uuid()), flow.random.random(), flow.id, flow.replaying, flow.history_size]

    first = await run_workflow(chance, start=START)
    assert first.value == (await run_workflow(chance, start=START)).value
    assert first.value[3:] == ["test", False, 0]
    other = await run_workflow(chance, start=START, _job_id="order-7")
    assert other.value[0] != first.value[0]
    assert other.history["id"] == other.value[3] == "order-7"


# -- answers --------------------------------------------------------------------------------------------------------


@workflow
async def counts(flow: Flow, *numbers: int) -> list[Any]:
    found: list[Any] = []
    for number in numbers:
        try:
            found.append(await flow.run(add.s(number)))
        except Exception as error:
            found.append(f"{type(error).__name__}: {error}")
    return found


async def later(*numbers: int) -> int:
    await asyncio.sleep(0)
    return sum(numbers) + 100


def raises(*numbers: int) -> int:
    raise KeyError(numbers[0])


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (7, [7, 7]),
        (None, [None, None]),
        (summed, [1, 2]),
        (later, [101, 102]),
        (raises, ["KeyError: 1", "KeyError: 2"]),
        (ValueError("no good"), ["ValueError: no good"] * 2),
        (ZeroDivisionError, ["ZeroDivisionError: "] * 2),
        ([5, ValueError("later")], [5, "ValueError: later"]),
        ([summed, later], [1, 102]),
        ([[1, 2], []], [[1, 2], []]),
        (lambda *numbers: [*numbers], [[1], [2]]),
        (takes("1h", summed), [1, 2]),
        (takes("1h", OSError("gone")), ["OSError: gone"] * 2),
        (Cancel("enough"), ["JobCancelled: enough"] * 2),
        (lambda *_: Cancel("enough"), ["JobCancelled: enough"] * 2),
        (asyncio.CancelledError, [f"JobCancelled: step {number} (add) was aborted" for number in (1, 2)]),
        (AssertionError("of the job"), ["AssertionError: of the job"] * 2),
    ],
)
async def test_answers(answer: Any, expected: list[Any]) -> None:
    for key in (add, "add"):
        outcome = await run_workflow(counts, 1, 2, answers={key: answer})
        assert outcome.value == expected
        assert replay(counts, outcome.history).value == expected


async def test_the_jobs_themselves_as_answers() -> None:
    outcome = await run_workflow(counts, 1, 2, answers={add: add})
    assert outcome.value == [1, 2]
    assert jobs.RUNS == [(1,), (2,)]
    outcome = await run_workflow(counts, 3, answers={add: lambda number: perform(add, number, 10)})
    assert outcome.value == [13]
    outcome = await run_workflow(jobs.follows_failures, answers={fail: fail, explain: explain, report_failure: None})
    assert outcome.value == ["ValueError('no good')", "no good"]
    with pytest.raises(
        AssertionError, match=r"expected how the step ends at last, got an attempt that runs again \(retry"
    ):
        await run_workflow(jobs.runs_late, answers={jobs.tries_later: jobs.tries_later})


async def test_a_step_without_an_answer_is_named() -> None:
    with pytest.raises(AssertionError) as failure:
        await run_workflow(counts, 31, answers={total: 1, "other": 2})
    assert str(failure.value) == (
        "no answer for step 1 of workflow test (counts): add(31); expected answers={add: ...} to have it, it has "
        "total, other"
    )


async def test_what_is_wrong_with_an_answer_is_told_and_the_workflow_cannot_hide_it() -> None:
    with pytest.raises(AssertionError, match="add has a list of 1 answers, one for each call, and is called once more"):
        await run_workflow(counts, 1, 2, answers={add: [1]})
    with pytest.raises(ArgumentsError, match=r"the one of add: expected a callable .* called with \(1\)"):
        await run_workflow(counts, 1, answers={add: lambda: 1})
    with pytest.raises(AssertionError, match="add: expected how the step ends at last, got Retry"):
        await run_workflow(counts, 1, answers={add: Retry(defer=1)})
    with pytest.raises(ArgumentsError, match="expected job functions, functions or names as keys, got 3"):
        await run_workflow(counts, 1, answers={3: 1})
    with pytest.raises(ArgumentsError, match="answers: expected a dictionary"):
        await run_workflow(counts, 1, answers=[1])  # type: ignore[arg-type]
    with pytest.raises(SettingsError, match="takes: expected 0 or more seconds"):
        takes("soon")

    def checks(number: int) -> None:
        assert number == 2, "the test says so"

    with pytest.raises(AssertionError, match="the test says so"):
        await run_workflow(counts, 1, answers={add: checks})


@pytest.mark.parametrize("serializer", ["pickle", "msgpack", "json"])
async def test_arguments_and_results_go_through_the_serializer_to_their_type_hints(serializer: str) -> None:
    at = datetime(2026, 1, 2, tzinfo=UTC)
    outcome = await run_workflow(
        jobs.parcels,
        at,
        answers={
            pack: lambda name, at: jobs.Parcel(name, at),
            unpack: lambda parcel: f"{parcel.name} {parcel.at.year}",
        },
        _serializer=serializer,
    )

    assert outcome.result() == "box 2026"
    assert [step.args for step in outcome.steps] == [("box", at), (jobs.Parcel("box", at),)]
    assert replay(jobs.parcels, outcome.history).value == "box 2026"


async def test_what_does_not_serialize_fails_as_in_production() -> None:
    @workflow
    async def returns_a_lock(flow: Flow) -> Any:
        with pytest.raises(SerializationError, match="unable to serialize result"):
            await flow.run(add.s(1))
        return object()

    outcome = await run_workflow(returns_a_lock, answers={add: lambda n: object()}, _serializer="json")
    assert (outcome.state, outcome.value) == ("failed", None)
    with pytest.raises(SerializationError, match="unable to serialize result of test:"):
        outcome.result()


async def test_arguments_that_are_wrong() -> None:
    with pytest.raises(ArgumentsError, match="missing a required argument: 'days'"):
        await run_workflow(billing)
    with pytest.raises(ArgumentsError, match="expected a function made by @workflow"):
        await run_workflow(add, 1)  # type: ignore[arg-type]
    with pytest.raises(ArgumentsError, match="expected the arguments in the call"):
        await run_workflow(billing.s(1), 1)
    with pytest.raises(ArgumentsError, match="expected a datetime with time zone"):
        await run_workflow(billing, 1, start=datetime(2026, 1, 1))
    with pytest.raises(ArgumentsError, match="expected a str of at least one character, got ''"):
        await run_workflow(billing, 1, _job_id="")
    with pytest.raises(SettingsError, match="until: expected 0 or more seconds"):
        await run_workflow(billing, 1, until="soon")
    for signals in ("word", [3], [("word", 1, 2)], {"word": 1}):
        with pytest.raises(ArgumentsError, match=r"signals: expected"):
            await run_workflow(billing, 1, answers={add: 1}, signals=signals)


async def test_a_call_takes_arguments_of_whatever_name() -> None:
    @workflow
    async def plans(flow: Flow, *, start: str, answers: int) -> str:
        return f"{start} {answers}"

    assert (await run_workflow(plans.s(start="today", answers=3))).value == "today 3"


@job
async def unused(ctx: dict[Any, Any]) -> None:
    """A key of answers that no step asks for is no error: one set of answers serves several tests."""


async def test_answers_that_nobody_asks_for() -> None:
    assert (await run_workflow(counts, 1, answers={**ANSWERS, unused: 1})).value == [1]
