"""Which ticks are fired, whenever schedulers come to look."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arqestra import at, every, schedule
from arqestra.scheduling.definition import Schedule
from arqestra.scheduling.plan import Plan, plan, steps_of
from arqestra.scheduling.timing import Timing
from arqestra.store.schedule_records import DueSchedule

HOUR_MS = 3_600_000
START_MS = 1_767_225_600_000  # 2026-01-01 00:00 UTC


def hourly(**options: Any) -> Schedule:
    return schedule("0 * * * *", "report", timezone=UTC, **options)


def hours(decision: Plan) -> list[float]:
    """The ticks that are fired, in hours after the start."""
    return [(tick - START_MS) / HOUR_MS for tick in decision.ticks]


def after(hours_later: float) -> int:
    return START_MS + round(hours_later * HOUR_MS)


# -- one tick ---------------------------------------------------------------------------------------------------------


def test_before_the_tick_nothing_is_decided_but_when_it_is() -> None:
    assert plan(hourly(), START_MS, after(0.99)) == Plan((), False, None, START_MS, after(1))


@pytest.mark.parametrize("missed", ["skip", "last", "all"])
def test_the_tick_that_is_due_is_fired(missed: Any) -> None:
    assert plan(hourly(missed=missed), START_MS, after(1)) == Plan((after(1),), False, None, after(1), after(2))


@pytest.mark.parametrize("missed", ["skip", "last", "all"])
def test_a_tick_that_is_late_by_more_than_a_second_counts_as_missed(missed: Any) -> None:
    assert not plan(hourly(missed=missed), START_MS, after(1) + 1_000).missed
    assert plan(hourly(missed=missed), START_MS, after(1) + 1_001).missed


def test_the_mark_is_the_tick_up_to_which_all_is_decided() -> None:
    assert plan(hourly(), after(1), after(1.5)) == Plan((), False, None, after(1), after(2))


# -- missed ticks -----------------------------------------------------------------------------------------------------


def test_of_missed_ticks_the_last_runs_if_it_is_younger_than_the_grace() -> None:
    decision = plan(hourly(grace="30m"), START_MS, after(5.5))

    assert hours(decision) == [5]
    assert decision == Plan((after(5),), True, after(4), after(5), after(6))


def test_of_missed_ticks_none_runs_if_the_last_is_older_than_the_grace() -> None:
    assert plan(hourly(grace="30m"), START_MS, after(5.5) + 1) == Plan((), True, after(5), after(5), after(6))


def test_a_single_missed_tick_is_judged_by_the_grace_too() -> None:
    assert hours(plan(hourly(grace="30m"), START_MS, after(1.5))) == [1]
    assert plan(hourly(grace="30m"), START_MS, after(1.5) + 1) == Plan((), True, after(1), after(1), after(2))


def test_without_grace_a_tick_still_runs_that_is_on_time() -> None:
    assert hours(plan(hourly(grace=0), START_MS, after(1) + 900)) == [1]
    assert hours(plan(hourly(grace=0), START_MS, after(1) + 1_100)) == []


def test_the_last_missed_tick_runs_however_old_it_is() -> None:
    daily = schedule("0 0 1 1 *", "report", timezone=UTC, missed="last", grace=0)
    now_ms = round(datetime(2026, 12, 31, tzinfo=UTC).timestamp() * 1000)

    assert plan(daily, START_MS - 1 - 3 * 366 * 24 * HOUR_MS, now_ms).ticks == (START_MS,)


def test_all_missed_ticks_run_the_oldest_first() -> None:
    decision = plan(hourly(missed="all"), START_MS, after(4.5))

    assert hours(decision) == [1, 2, 3, 4]
    assert (decision.missed, decision.dropped, decision.mark, decision.next_tick) == (True, None, after(4), after(5))


def test_of_too_many_missed_ticks_the_latest_run() -> None:
    decision = plan(hourly(missed="all", most_missed=3), START_MS, after(1000.5))

    assert hours(decision) == [998, 999, 1000]
    assert decision.dropped is not None
    assert after(997) <= decision.dropped < after(998)


def test_exactly_as_many_as_may_be_made_up_for_drop_none() -> None:
    assert plan(hourly(missed="all", most_missed=3), START_MS, after(3)).dropped is None


def test_years_of_missed_ticks_of_a_fast_schedule_are_planned_at_once() -> None:
    """By searching, not by walking: ten years of ten ticks a second are three thousand million."""
    fast = schedule(every(0.1), "report", missed="all", most_missed=50).in_zone(UTC)
    now_ms = START_MS + 10 * 365 * 24 * HOUR_MS

    decision = plan(fast, START_MS, now_ms)

    assert decision.ticks == tuple(range(now_ms - 4_900, now_ms + 1, 100))


# -- start, end, jitter, single times ---------------------------------------------------------------------------------


def test_ticks_before_the_start_and_after_the_end_are_none() -> None:
    bounded = hourly(
        missed="all", start=datetime(2026, 1, 1, 3, tzinfo=UTC), end=datetime(2026, 1, 1, 5, 30, tzinfo=UTC)
    )

    assert plan(bounded, START_MS, after(2)) == Plan((), False, None, START_MS, after(3))
    decision = plan(bounded, START_MS, after(99))
    assert hours(decision) == [3, 4, 5]
    assert (decision.dropped, decision.next_tick) == (None, None)
    assert plan(bounded, after(5), after(99)) == Plan((), False, None, after(5), None)


@pytest.mark.parametrize("missed", ["skip", "last"])
def test_the_last_missed_tick_is_within_the_end(missed: Any) -> None:
    bounded = hourly(missed=missed, grace="2h", end=datetime(2026, 1, 1, 5, 30, tzinfo=UTC))

    assert plan(bounded, START_MS, after(6)) == Plan((after(5),), True, after(4), after(5), None)


def test_a_single_time_is_fired_once_and_then_over() -> None:
    once = schedule(at("2026-01-01 02:00"), "report", timezone=UTC)

    assert plan(once, START_MS, after(1)) == Plan((), False, None, START_MS, after(2))
    assert plan(once, START_MS, after(2)) == Plan((after(2),), False, None, after(2), None)
    assert plan(once, after(2), after(9)) == Plan((), False, None, after(2), None)


def test_a_tick_waits_for_its_jitter_and_is_on_time_then() -> None:
    late = hourly(jitter="30m")
    due_ms = late.due_ms(after(1))
    assert due_ms > after(1) + 1_000

    assert plan(late, START_MS, due_ms - 1) == Plan((), False, None, START_MS, after(1))
    assert plan(late, START_MS, due_ms) == Plan((after(1),), False, None, after(1), after(2))


@pytest.mark.parametrize("missed", ["skip", "last", "all"])
def test_of_missed_ticks_none_is_fired_whose_jitter_is_not_over(missed: Any) -> None:
    late = hourly(jitter="59m", missed=missed, most_missed=2)
    due_ms = late.due_ms(after(5))

    assert hours(plan(late, START_MS, due_ms - 1))[-1] == 4
    assert hours(plan(late, START_MS, due_ms))[-1] == 5


# -- the steps --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "now", "notes"),
    [
        ({}, 0.5, [""]),
        ({}, 1, ["t"]),
        ({"missed": "all"}, 3.5, ["l", "l", "l"]),
        ({"missed": "all", "most_missed": 2}, 5.5, ["d", "l", "l"]),
        ({"missed": "last"}, 5.5, ["d", "l"]),
        ({"grace": 0}, 5.5, ["d"]),
    ],
)
def test_each_step_finds_the_schedule_as_the_one_before_leaves_it(
    options: dict[str, Any], now: float, notes: list[str]
) -> None:
    made = hourly(**options)
    decision = plan(made, START_MS, after(now))
    steps = steps_of(made, decision, DueSchedule("report", 0, "7", START_MS))

    assert [step.note for step in steps] == notes
    assert (steps[0].due_ms, steps[0].mark) == (0, START_MS)
    for step, following in pairwise(steps):
        assert (following.due_ms, following.mark) == (step.next_ms, step.to_mark)
    assert (steps[-1].to_mark, steps[-1].next_ms) == (decision.mark, decision.next_tick)
    assert {step.rev for step in steps} == {"7"}
    assert [step.tick for step in steps if step.job_id] == list(decision.ticks)
    assert len({step.job_id for step in steps if step.job_id}) == len(decision.ticks)


# -- properties -------------------------------------------------------------------------------------------------------

TIMINGS: st.SearchStrategy[Timing | str] = st.one_of(
    st.sampled_from(["*/7 * * * *", "0 * * * *", "30 2 * * *", "0 9 * * MON", "*/20 * * * * *"]),
    st.integers(1_000, 5_000_000).map(lambda period_ms: every(period_ms / 1000)),
)
ZONES = st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe"])
CHANGE_MS = 1_774_746_000_000  # 2026-03-29 01:00 UTC, when Berlin's clocks are put forward
GAPS_MS = st.lists(
    st.one_of(st.integers(0, 2_000), st.integers(0, 3_600_000), st.integers(0, 90_000_000)), min_size=1, max_size=12
)


def walk(made: Schedule, start_ms: int, gaps_ms: Sequence[int]) -> tuple[list[int], int]:
    """The ticks that are fired by schedulers who look after these pauses, and the time of the last look."""
    fired: list[int] = []
    mark = now_ms = start_ms
    for gap_ms in gaps_ms:
        now_ms += gap_ms
        decision = plan(made, mark, now_ms)
        assert decision.mark >= mark
        assert decision.next_tick is None or decision.next_tick > decision.mark
        assert all(mark < tick <= decision.mark and made.due_ms(tick) <= now_ms for tick in decision.ticks)
        fired += decision.ticks
        mark = decision.mark
    return fired, now_ms


def all_ticks(made: Schedule, after_ms: int, until_ms: int) -> list[int]:
    found = []
    tick = made.next_after(after_ms)
    while tick is not None and made.due_ms(tick) <= until_ms:
        found.append(tick)
        tick = made.next_after(tick)
    return found


@settings(deadline=None)
@given(
    when=TIMINGS,
    zone=ZONES,
    jitter=st.sampled_from([0, 0.9]),
    start_ms=st.integers(CHANGE_MS - 10**8, CHANGE_MS),
    gaps=GAPS_MS,
)
def test_with_all_each_tick_is_fired_once_and_in_order(
    when: Timing | str, zone: str, jitter: float, start_ms: int, gaps: list[int]
) -> None:
    made = schedule(when, "report", timezone=zone, missed="all", most_missed=1000, jitter=jitter).in_zone(UTC)
    # As many as may be made up for at once, so that none is dropped.
    kept: list[int] = []
    now_ms = start_ms
    for gap in gaps:
        if len(all_ticks(made, now_ms, now_ms + gap)) < 300:
            kept.append(gap)
            now_ms += gap

    fired, now_ms = walk(made, start_ms, kept)

    assert fired == all_ticks(made, start_ms, now_ms)


@settings(deadline=None)
@given(
    when=TIMINGS,
    zone=ZONES,
    missed=st.sampled_from(["skip", "last"]),
    grace_s=st.sampled_from([0, 60, 3600]),
    jitter=st.sampled_from([0, 0.9]),
    start_ms=st.integers(CHANGE_MS - 10**8, CHANGE_MS),
    gaps=GAPS_MS,
)
def test_with_skip_and_last_no_tick_is_fired_twice_nor_after_a_later_one(
    when: Timing | str, zone: str, missed: Any, grace_s: int, jitter: float, start_ms: int, gaps: list[int]
) -> None:
    made = schedule(when, "report", timezone=zone, missed=missed, grace=grace_s, jitter=jitter).in_zone(UTC)

    fired, now_ms = walk(made, start_ms, gaps)

    assert all(earlier < later for earlier, later in pairwise(fired))
    for tick in fired:
        assert made.next_after(tick - 1) == tick
    last = all_ticks(made, now_ms - 90_000_000, now_ms)[-1:] if missed == "last" else []
    if last and last[0] > start_ms:
        assert fired[-1:] == last  # the latest tick has always been fired in the end
