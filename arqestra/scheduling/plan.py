"""What to do with the ticks that are due: a pure decision."""

from collections import deque
from dataclasses import dataclass

from ..store.schedule_records import DueSchedule, NewFiring
from .definition import Schedule
from .timing import last_until

__all__ = ("Plan", "plan", "steps_of")


@dataclass(frozen=True, slots=True)
class Plan:
    """A decision on the ticks of one schedule.

    :ivar ticks: these are fired, the oldest first
    :ivar missed: whether they are late enough to count as missed
    :ivar dropped: ticks up to this one were missed and are not fired; None if there are none
    :ivar mark: the tick up to which everything is decided
    :ivar next_tick: the first tick after it; None if there is none
    """

    ticks: tuple[int, ...]
    missed: bool
    dropped: int | None
    mark: int
    next_tick: int | None


ON_TIME_MS = 1_000


def plan(schedule: Schedule, mark: int, now_ms: int) -> Plan:
    """Decide on the ticks after a mark that are due.

    :param mark: ticks up to this one are dealt with
    :param now_ms: on Redis' clock
    """
    first = schedule.next_after(mark)
    if first is None or schedule.due_ms(first) > now_ms:
        return Plan((), False, None, mark, first)
    second = schedule.next_after(first)
    if second is None or schedule.due_ms(second) > now_ms:
        late_ms = now_ms - schedule.due_ms(first)
        if schedule.missed == "skip" and late_ms > max(schedule.grace_ms, ON_TIME_MS):
            return Plan((), True, first, first, second)
        return Plan((first,), late_ms > ON_TIME_MS, None, first, second)
    return _plan_of_several(schedule, mark, now_ms)


def _plan_of_several(schedule: Schedule, mark: int, now_ms: int) -> Plan:
    last = _last_due(schedule, mark, now_ms)
    following = schedule.next_after(last)
    if schedule.missed == "all":
        ticks = _latest(schedule, mark, last)
        return Plan(tuple(ticks), True, _last_until(schedule, mark, ticks[0] - 1), last, following)
    late_ms = now_ms - schedule.due_ms(last)
    if schedule.missed == "skip" and late_ms > max(schedule.grace_ms, ON_TIME_MS):
        return Plan((), True, last, last, following)
    return Plan((last,), late_ms > ON_TIME_MS, _last_until(schedule, mark, last - 1), last, following)


def _last_due(schedule: Schedule, mark: int, now_ms: int) -> int:
    """The last tick that is due; there is one."""
    last = _last_until(schedule, mark, now_ms)
    while last is not None and schedule.due_ms(last) > now_ms:  # its jitter is not over
        last = _last_until(schedule, mark, last - 1)
    assert last is not None
    return last


def _latest(schedule: Schedule, mark: int, last: int) -> list[int]:
    """The latest ticks up to the last one, as many as the schedule allows, the oldest first.

    It guesses a moment before which there are enough, walks the ticks from there, and goes further back if there are
    too few.
    """
    most = schedule.most_missed
    earlier = _last_until(schedule, mark, last - 1)
    span_ms = (last - (mark if earlier is None else earlier)) * most
    while True:
        from_ms = max(mark, last - span_ms)
        ticks: deque[int] = deque(maxlen=most)
        tick = schedule.next_after(from_ms)
        while tick is not None and tick <= last:
            ticks.append(tick)
            tick = schedule.next_after(tick)
        if len(ticks) == most or from_ms == mark:
            return list(ticks)
        span_ms *= 4


def _last_until(schedule: Schedule, mark: int, until_ms: int) -> int | None:
    """The last tick after the mark and not after a moment, within the schedule's start and end."""
    assert schedule.zone is not None
    after_ms = mark if schedule.start_ms is None else max(mark, schedule.start_ms - 1)
    until_ms = until_ms if schedule.end_ms is None else min(until_ms, schedule.end_ms)
    return last_until(schedule.timing, after_ms, until_ms, schedule.zone) if until_ms > after_ms else None


def steps_of(schedule: Schedule, decision: Plan, due: DueSchedule) -> list[NewFiring]:
    """The steps that carry out a decision, without their jobs. Each finds the schedule as the step before leaves it."""
    steps: list[NewFiring] = []
    overlap = "skip" if schedule.overlap == "skip" else ""
    due_ms, mark = due.due_ms, due.mark

    def take(to_mark: int, following: int | None, note: str, job_id: str) -> None:
        nonlocal due_ms, mark
        next_ms = None if following is None else schedule.due_ms(following)
        step = NewFiring(
            due.name,
            due_ms,
            rev=due.rev,
            mark=mark,
            to_mark=to_mark,
            next_ms=next_ms,
            note=note,
            overlap=overlap,
            tick=to_mark,
            job_id=job_id,
        )
        steps.append(step)
        due_ms, mark = next_ms or 0, to_mark

    if decision.dropped is not None:
        take(decision.dropped, (*decision.ticks, decision.next_tick)[0], "d", "")
    elif not decision.ticks:
        take(decision.mark, decision.next_tick, "", "")
    note = "l" if decision.missed else "t"
    for index, tick in enumerate(decision.ticks, 1):
        following = (*decision.ticks, decision.next_tick)[index]
        take(tick, following, note, schedule.job_id_of(tick))
    return steps
