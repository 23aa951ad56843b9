"""`Schedules`: define, pause, run and list schedules at run time. Every scheduler knows of it within a second."""

import logging
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from typing import Any, Literal, Protocol

from ..errors import ScheduleNotFound, SettingsError
from ..handles.job import Job
from ..protocol.clock import new_job_id
from ..protocol.keys import checked_queue_name
from ..store.schedule_records import NewFiring, NotedRun, StoredSchedule
from ..store.schedules import ScheduleStore
from ..store.server import redis_time_ms
from ..store.services import Service, note_zone, read_services, schedule_queues
from .definition import Schedule
from .encode import NotReadable, payload_of_tick, record_of, schedule_of, schedule_without_arguments
from .queue_scheduler import FiringClient, within_middleware
from .zone import zone_name, zone_of

__all__ = ("ScheduleInfo", "ScheduleRun", "Schedules")

logger = logging.getLogger("arq.scheduler")

How = Literal["on time", "late", "by hand", "dropped"]
Outcome = Literal[
    "queued",
    "running",
    "complete",
    "failed",
    "aborted",
    "expired",
    "skipped",
    "dropped",
    "refused",
    "unknown",
]
_HOW: dict[str, How] = {"t": "on time", "l": "late", "n": "by hand", "d": "dropped"}
_OUTCOMES: dict[str, Outcome] = {
    **{"c": "complete", "f": "failed", "a": "aborted", "x": "expired"},
    **{"s": "skipped", "d": "dropped", "r": "refused"},
}
_STATES: dict[str, Outcome] = {"queued": "queued", "running": "running"}
MAX_RUNS_AHEAD = 10_000
FIRST_LOOK_MS = 5_000
LAST_MOMENT_MS = 253_370_764_800_000  # the year 9999


@dataclass(frozen=True, slots=True)
class ScheduleInfo:
    """A schedule as it is known in Redis.

    :ivar words: when it is due: "every 6 hours, on the hour, Asia/Seoul"
    :ivar function: name of the job function
    :ivar queue: the queue of its jobs; the schedule belongs to it
    :ivar timezone: the zone in which it is read
    :ivar source: "code", or "run time" if it was defined or changed by `upsert`
    :ivar next_run: when it is fired next; None if it is paused or over
    :ivar handled_until: the tick up to which everything is decided: fired, skipped or dropped
    :ivar problem: why nobody fires it, or that nobody serves its queue; "" if all is well
    """

    name: str
    words: str
    function: str
    queue: str
    timezone: str
    source: Literal["code", "run time"]
    paused: bool
    next_run: datetime | None
    handled_until: datetime
    missed: str
    overlap: str
    problem: str


@dataclass(frozen=True, slots=True)
class ScheduleRun:
    """A run of a schedule, or a tick that had none.

    :ivar tick: when it was due
    :ivar fired: when it was fired
    :ivar how: "on time", "late", "by hand", or "dropped": ticks up to this one were missed and not made up for
    :ivar outcome: of its job; "skipped": the job of an earlier tick had not ended; "refused": there was a job of its
        id, or one that held its lock; "unknown": its end was not noted, and its result is gone
    :ivar job_id: "" if there was no job
    :ivar ended: when its job ended
    :ivar lateness_s: seconds from when it was to be fired to when it was
    """

    tick: datetime
    fired: datetime
    how: How
    outcome: Outcome
    job_id: str
    ended: datetime | None
    lateness_s: float


# `Schedules.list` is another thing.
_Infos = list[ScheduleInfo]
_Runs = list[ScheduleRun]
_Times = list[datetime]


class SchedulesClient(FiringClient, Protocol):
    """The parts of a `Pool` that `Schedules` needs."""

    def job(self, job_id: str, *, queue: str | None = None) -> Job[Any]: ...


class Schedules:
    """Define, pause, run and list schedules at run time: `pool.schedules`.

    :param pool: a `Pool`, with the serializer of the workers
    """

    def __init__(self, pool: SchedulesClient) -> None:
        self._pool = pool

    async def upsert(self, schedule: Schedule, *, timezone: tzinfo | str | None = None) -> ScheduleInfo:
        """Define a schedule, or change the one of its name. The workers of its queue fire it.

        If it is in code too, the next start of a process with that code puts the code's definition back.

        :param schedule: made by `schedule(...)`; if it names no queue, it belongs to the pool's default queue
        :param timezone: the zone of a schedule that names none, such as "Asia/Seoul"; default the zone of whoever fires
            it: its `Timetable`'s, else the worker's, else UTC
        :returns: how it stands; `problem` says whether nobody serves its queue
        :raises SettingsError: it is no schedule
        :raises SerializationError, PayloadTooLarge: its arguments cannot be stored
        """
        if not isinstance(schedule, Schedule):
            raise SettingsError(f"upsert: expected schedule(...), got {schedule!r}")
        queue = checked_queue_name(schedule.queue or self._pool.default_queue_name, self._pool.store.keys)
        if timezone is not None or not schedule.needs_zone:
            schedule = schedule.in_zone(UTC if timezone is None else zone_of(timezone, "upsert: timezone"))
        await self._of(queue).put(record_of(schedule, queue, self._pool), started_ms=None)
        [service] = (await read_services(self._pool.store, [queue])).values()
        if schedule.zone is None and service.timezone:
            await note_zone(self._pool.store, schedule.name, service.timezone)
        info = await self.get(schedule.name)
        if info.problem:
            logger.warning("schedule %s: %s", info.name, info.problem)
        return info

    async def remove(self, name: str) -> bool:
        """Remove a schedule; its jobs stay. If it is in code, the next start of such a process brings it back.

        :returns: whether it was there
        """
        return await self._any.set(_checked(name), "remove") is not None

    async def pause(self, name: str) -> bool:
        """Do not fire a schedule until `resume`, also if processes start meanwhile.

        :returns: whether that changed anything
        :raises ScheduleNotFound: there is none of this name
        """
        return self._found(name, await self._any.set(_checked(name), "pause"))

    async def resume(self, name: str) -> bool:
        """Fire a paused schedule again. The ticks of the pause are not made up for.

        :returns: whether that changed anything
        :raises ScheduleNotFound: there is none of this name
        """
        return self._found(name, await self._any.set(_checked(name), "resume"))

    async def list(self, *, queue: str | None = None) -> _Infos:
        """All schedules, or those of a queue: the next due first."""
        found: _Infos = []
        homes = await schedule_queues(self._pool.store) if queue is None else [queue]
        services = await read_services(self._pool.store, homes)
        for home in homes:
            stored = await self._of(home).read([name for name, _ in await self._of(home).names()])
            found += [_info(each, services[home]) for each in stored.values()]
        return sorted(found, key=lambda info: (info.next_run is None, info.next_run or info.handled_until))

    async def get(self, name: str) -> ScheduleInfo:
        """One schedule.

        :raises ScheduleNotFound: there is none of this name
        """
        stored = await self._stored(name)
        services = await read_services(self._pool.store, [stored.home])
        return _info(stored, services[stored.home])

    async def run_now(self, name: str) -> Job[Any]:
        """Enqueue the job of a schedule at once, also of a paused one. Its ticks stay as they are.

        :returns: the job; under `unique` with `on_conflict` "return" or "replace", and under `debounce`, the one that
            holds the lock
        :raises ScheduleNotFound: there is none of this name
        :raises SettingsError: another serializer wrote its arguments; there is a job of its `job_id`, or one that holds
            the lock of its function
        """
        stored = await self._stored(name)
        queue = stored.home
        schedule = _readable(stored, lambda: schedule_of(stored, self._pool.serializer))
        job_id = schedule.job_id or new_job_id()
        async with AsyncExitStack() as stack:
            called = await within_middleware(self._pool, queue, schedule, stack, job_id)
            now_ms = await redis_time_ms(self._pool.store.redis)
            firing = NewFiring(
                name,
                None,
                rev=stored.rev,
                mark=0,
                to_mark=0,
                next_ms=None,
                note="n",
                overlap="",
                tick=now_ms,
                queue=queue,
                job_id=job_id,
                when=f"+{schedule.defer_ms}" if schedule.defer_ms else "",
                payload=payload_of_tick(called, None, now_ms, self._pool),
                extra=stored.extra,
            )
            verdict, duplicate = await self._of(queue).fire_by_hand(firing)
        if verdict == "changed":
            raise ScheduleNotFound(name)
        if duplicate is not None:
            return self._pool.job(duplicate.id, queue=duplicate.queue)
        job = self._pool.job(job_id, queue=queue)
        if verdict == "refused" and (schedule.job_id or await job.info() is None):
            raise SettingsError(f"schedule {name}: expected no job that has its id or the lock of its function")
        if verdict == "fired":
            self._pool.store.enqueued.add(queue, schedule.function)
        return job

    async def next_runs(self, name: str, count: int = 10) -> _Times:
        """When a schedule will be due, in its time zone, without jitter; [] if it is over. A pause does not count.

        :param count: how many, at most 10,000
        :raises ScheduleNotFound: there is none of this name
        """
        if isinstance(count, bool) or not isinstance(count, int) or not 0 <= count <= MAX_RUNS_AHEAD:
            raise SettingsError(f"next_runs: count: expected an int from 0 to {MAX_RUNS_AHEAD}, got {count!r}")
        stored = await self._stored(name)
        schedule = _readable(stored, lambda: schedule_without_arguments(stored)).in_zone(UTC)
        tick: int | None = max(stored.mark, await redis_time_ms(self._pool.store.redis))
        runs: _Times = []
        while len(runs) < count and tick is not None:
            tick = schedule.next_after(tick)
            if tick is not None and tick > LAST_MOMENT_MS:
                break
            if tick is not None:
                runs.append(datetime.fromtimestamp(tick / 1000, schedule.zone))
        return runs

    async def history(self, name: str) -> _Runs:
        """The latest runs of a schedule, at most 20, the latest first.

        :raises ScheduleNotFound: there is none of this name
        """
        await self._stored(name)
        return [_public_run(run) for run in await self._any.runs(name)]

    def _of(self, queue: str) -> ScheduleStore:
        return ScheduleStore(self._pool.store, queue)

    @property
    def _any(self) -> ScheduleStore:
        """For schedules that are found by their names alone."""
        return self._of(self._pool.default_queue_name)

    async def _stored(self, name: str) -> StoredSchedule:
        found = await self._any.read([_checked(name)])
        if name not in found:
            raise ScheduleNotFound(name)
        return found[name]

    def _found(self, name: str, reply: bool | None) -> bool:
        if reply is None:
            raise ScheduleNotFound(name)
        return reply


def _readable(stored: StoredSchedule, read: Callable[[], Schedule]) -> Schedule:
    try:
        return read()
    except NotReadable as problem:
        raise SettingsError(f"schedule {stored.name}: {problem}") from problem


def _checked(name: Any) -> str:
    if isinstance(name, str):
        return name
    raise SettingsError(f"expected the name of a schedule (str), got {name!r}")


def _info(stored: StoredSchedule, service: Service) -> ScheduleInfo:
    try:
        schedule = schedule_without_arguments(stored)
        words = schedule.words
        schedule = schedule.in_zone(UTC)
    except NotReadable as problem:
        return ScheduleInfo(
            name=stored.name,
            words="?",
            function="?",
            queue=stored.home,
            timezone="?",
            source=_source(stored),
            paused=stored.paused,
            next_run=None,
            handled_until=_time(stored.mark),
            missed="?",
            overlap="?",
            problem=str(problem),
        )
    assert schedule.zone is not None
    due_ms: int | None = stored.due_ms
    if due_ms == 0:  # no scheduler has planned it yet
        tick = schedule.next_after(stored.mark)
        due_ms = None if tick is None else schedule.due_ms(tick)
    return ScheduleInfo(
        name=stored.name,
        words=words,
        function=schedule.function,
        queue=stored.home,
        timezone=zone_name(schedule.zone),
        source=_source(stored),
        paused=stored.paused,
        next_run=None if due_ms is None else _time(due_ms, schedule.zone),
        handled_until=_time(stored.mark, schedule.zone),
        missed=schedule.missed,
        overlap=schedule.overlap,
        problem=stored.problem or ("" if stored.paused or due_ms is None else _unserved(stored, service)),
    )


def _unserved(stored: StoredSchedule, service: Service) -> str:
    """What a schedule lacks: a worker, or a scheduler. A new one may not have been seen yet."""
    is_new = service.now_ms - stored.mark < FIRST_LOOK_MS
    if service.has_worker:
        return "" if service.is_fired or is_new else f"nobody fires the schedules of queue {stored.home!r}"
    fires_none = "" if service.is_fired or is_new else ", and nobody fires its schedules"
    return f"no worker serves queue {stored.home!r}: jobs wait there{fires_none}"


def _source(stored: StoredSchedule) -> Literal["code", "run time"]:
    return "code" if stored.source == "code" else "run time"


def _time(moment_ms: int, zone: tzinfo = UTC) -> datetime:
    return datetime.fromtimestamp(moment_ms / 1000, zone)


def _public_run(run: NotedRun) -> ScheduleRun:
    return ScheduleRun(
        tick=_time(run.tick),
        fired=_time(run.fired_ms),
        how=_HOW[run.how],
        outcome=_OUTCOMES.get(run.outcome) or _STATES.get(run.state, "unknown"),
        job_id=run.job_id,
        ended=None if run.ended_ms is None else _time(run.ended_ms),
        lateness_s=max(0, run.fired_ms - run.due_ms) / 1000,
    )
