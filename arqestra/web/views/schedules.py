"""Schedules: when they are due in words, when they ran, and with which outcome."""

from contextlib import suppress
from datetime import datetime
from functools import partial
from typing import Annotated

from msgspec import Meta, Struct

from ...errors import ScheduleNotFound, SettingsError
from ...scheduling.encode import NotReadable, schedule_without_arguments
from ...scheduling.schedules import ScheduleInfo, ScheduleRun
from ..app_state import AppState
from ..payload_view import view_payload
from ..schedule_edit import stored_schedule, when_text

__all__ = ("ScheduleList", "SchedulePage", "ScheduleQuery", "SchedulesQuery", "read_schedule", "read_schedules")

MAX_SCHEDULES = 500
RUNS_AHEAD = 5


class ScheduleView(Struct, frozen=True):
    """A schedule.

    :ivar words: when it is due
    :ivar source: "code", or "run time" for one that was made or changed there
    :ivar problem: why nobody fires it
    """

    name: str
    words: str
    function: str
    queue: str
    timezone: str
    source: str
    paused: bool
    next_ms: int | None
    missed: str
    overlap: str
    problem: str
    last: "RunView | None" = None


class RunView(Struct, frozen=True):
    """A run, or a tick that had none."""

    tick_ms: int
    fired_ms: int
    how: str
    outcome: str
    job_id: str
    ended_ms: int | None
    late_s: float


class SchedulesQuery(Struct, frozen=True):
    """Which schedules: all, or those of a queue."""

    queue: Annotated[str, Meta(max_length=1000)] = ""


class ScheduleQuery(Struct, frozen=True):
    """Which schedule."""

    name: Annotated[str, Meta(min_length=1, max_length=1000)]


class ScheduleList(Struct, frozen=True):
    """Schedules, the next due first.

    :ivar left_out: schedules beyond the first 500
    """

    now_ms: int
    schedules: list[ScheduleView]
    left_out: int


class SchedulePage(Struct, frozen=True):
    """One schedule.

    :ivar when: as the form takes it; "" if it cannot be changed here
    :ivar arguments: of its jobs, as texts; None if they are not shown
    :ivar ahead_ms: the next times that it is due
    """

    now_ms: int
    schedule: ScheduleView
    when: str
    jitter_s: float
    arguments: list[str] | None
    note: str
    ahead_ms: list[int]
    runs: list[RunView]


async def read_schedules(app_state: AppState, query: SchedulesQuery) -> ScheduleList:
    """Schedules, the next due first."""
    schedules = app_state.pool.schedules
    found = await schedules.list(queue=query.queue or None)
    views = []
    for info in found[:MAX_SCHEDULES]:
        read_last = partial(_last, app_state, info.name)
        views.append(_view(info, await app_state.cache.get(("last run", info.name), read_last, fresh_s=2.0)))
    return ScheduleList(app_state.now_ms(), views, max(0, len(found) - MAX_SCHEDULES))


async def _last(app_state: AppState, name: str) -> RunView | None:
    try:
        runs = await app_state.pool.schedules.history(name)
    except ScheduleNotFound:
        return None
    return _run(runs[0]) if runs else None


async def read_schedule(app_state: AppState, query: ScheduleQuery) -> SchedulePage | None:
    """One schedule; None if there is none of this name."""
    schedules = app_state.pool.schedules
    try:
        info = await schedules.get(query.name)
        stored = await stored_schedule(app_state.store, query.name)
        runs = [_run(run) for run in await schedules.history(query.name)]
    except ScheduleNotFound:
        return None
    try:
        ahead = await schedules.next_runs(query.name, RUNS_AHEAD)
    except SettingsError:
        ahead = []
    payload_view = view_payload(stored.payload, app_state.signatures)
    arguments = None
    if payload_view.args is not None:
        arguments = [*payload_view.args, *(f"{name} = {text}" for name, text in (payload_view.kwargs or {}).items())]
    when, jitter_s = "", 0.0
    with suppress(NotReadable):
        schedule = schedule_without_arguments(stored)
        jitter_s = schedule.jitter_ms / 1000
        when = "" if schedule.of_cron else when_text(schedule)
    view = _view(info, runs[0] if runs else None)
    return SchedulePage(
        now_ms=app_state.now_ms(),
        schedule=view,
        when=when,
        jitter_s=jitter_s,
        arguments=arguments,
        note=payload_view.note,
        ahead_ms=[_ms(time) for time in ahead],
        runs=runs,
    )


def _view(info: ScheduleInfo, last: RunView | None) -> ScheduleView:
    return ScheduleView(
        name=info.name,
        words=info.words,
        function=info.function,
        queue=info.queue,
        timezone=info.timezone,
        source=info.source,
        paused=info.paused,
        next_ms=None if info.next_run is None else _ms(info.next_run),
        missed=info.missed,
        overlap=info.overlap,
        problem=info.problem,
        last=last,
    )


def _run(run: ScheduleRun) -> RunView:
    return RunView(
        tick_ms=_ms(run.tick),
        fired_ms=_ms(run.fired),
        how=run.how,
        outcome=run.outcome,
        job_id=run.job_id,
        ended_ms=None if run.ended is None else _ms(run.ended),
        late_s=run.lateness_s,
    )


def _ms(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)
