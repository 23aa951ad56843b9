"""`Schedule`: what is enqueued, when, and what happens to ticks that were missed or that overlap."""

import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, tzinfo
from typing import Any, Literal

from arq.cron import CronJob
from arq.utils import to_ms
from arq.worker import Function

from ..definitions.durations import Duration, seconds_of
from ..definitions.function import BoundJob, JobFunction, check_same_callable, target_of
from ..definitions.job_options import JobOptions
from ..definitions.redact import shown_value
from ..definitions.rules import PRIORITY
from ..errors import ArgumentsError, SettingsError
from ..protocol.clock import new_job_id
from .crontab import cron_of_arq
from .describe import describe_duration, describe_timing
from .timing import At, Cron, Every, Timing, moment_of
from .zone import named_zone, zone_name, zone_of

__all__ = ("Schedule", "checked_schedules", "schedule")

GRACE_S = 3600.0
MAX_MISSED = 100
Missed = Literal["skip", "last", "all"]
Overlap = Literal["allow", "skip", "queue"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """A schedule, checked. Made by `schedule(...)`; see there.

    :ivar zone: None: the zone of whoever fires it
    :ivar prefix: the ids of its jobs begin with it, and the tick follows; None: each job has an id of its own
    :ivar job_id: one id for all of its jobs, instead of one for each tick
    :ivar defer_ms: its jobs start so long after their tick, because the function is debounced
    :ivar job_options: limits and locks of a job function
    :ivar target: the callable; None if only its name was given
    """

    name: str
    timing: Timing
    function: str
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    queue: str | None = None
    zone: tzinfo | None = None
    jitter_ms: int = 0
    start_ms: int | None = None
    end_ms: int | None = None
    missed: Missed = "skip"
    grace_ms: int = int(GRACE_S * 1000)
    most_missed: int = MAX_MISSED
    overlap: Overlap = "allow"
    expires_ms: int | None = None
    priority: int = 0
    prefix: str | None = None
    job_id: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    defer_ms: int = 0
    job_options: JobOptions | None = field(default=None, compare=False)
    target: Callable[..., Any] | None = field(default=None, compare=False, repr=False)

    def in_zone(self, default: tzinfo | str) -> "Schedule":
        """The same with a zone, and an interval with an anchor.

        :param default: the zone if it names none; a tzinfo, or a name such as "Asia/Seoul"
        :raises SettingsError: there is no such zone
        """
        made = self if self.zone is not None else replace(self, zone=named_zone(default))
        if isinstance(made.timing, Every) and made.timing.anchor_ms is None:
            made = replace(made, timing=Every(made.timing.period_ms, made.start_ms or 0))
        return made

    @property
    def needs_zone(self) -> bool:
        """Whether it names no zone, and when it is due depends on that."""
        by_wall = isinstance(self.timing, Cron) or (isinstance(self.timing, At) and self.timing.time.tzinfo is None)
        return self.zone is None and by_wall

    def with_headers(self, headers: Mapping[str, str]) -> "Schedule":
        """The same, but its jobs carry other headers."""
        return replace(self, headers=dict(headers))

    def next_after(self, after_ms: int) -> int | None:
        """The first tick after a moment (ms), or None if there is none; without its jitter."""
        assert self.zone is not None
        if self.start_ms is not None:
            after_ms = max(after_ms, self.start_ms - 1)
        tick = self.timing.next_after(after_ms, self.zone)
        return None if tick is None or (self.end_ms is not None and tick > self.end_ms) else tick

    def due_ms(self, tick: int) -> int:
        """When a tick is fired. Its jitter is the same for all schedulers, and no tick overtakes the one before it."""
        if not self.jitter_ms:
            return tick
        following = self.next_after(tick)
        most_ms = self.jitter_ms if following is None else min(self.jitter_ms, following - tick)
        return tick + zlib.crc32(f"{self.name}|{tick}".encode()) * most_ms // 2**32

    def job_id_of(self, tick: int) -> str:
        """Id of the job of a tick. For an arq cron job it is arq's id, so that both can share a queue."""
        return self.job_id or (new_job_id() if self.prefix is None else f"{self.prefix}:{tick}")

    @property
    def of_cron(self) -> bool:
        """Whether it is an arq cron job."""
        return self.prefix is not None

    @property
    def words(self) -> str:
        """When it is due, in words: "every 6 hours, on the hour, Asia/Seoul"."""
        timing = self.timing
        if isinstance(timing, Every) and timing.anchor_ms == self.start_ms:
            timing = Every(timing.period_ms)  # the start is told below
        words = describe_timing(timing, "UTC or the worker's time zone" if self.zone is None else zone_name(self.zone))
        if self.jitter_ms:
            words += f", up to {describe_duration(self.jitter_ms)} later"
        if self.start_ms is not None:
            words += f", from {_utc(self.start_ms)}"
        return words if self.end_ms is None else f"{words}, until {_utc(self.end_ms)}"

    def __str__(self) -> str:
        return f"{self.name}: {self.function} {self.words}"


def schedule(
    when: str | Timing,
    function: JobFunction[..., Any] | BoundJob[..., Any] | Function | str | Any,
    *,
    name: str | None = None,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    queue: str | None = None,
    timezone: tzinfo | str | None = None,
    jitter: Duration = 0,
    start: datetime | str | None = None,
    end: datetime | str | None = None,
    missed: Missed = "skip",
    grace: Duration = GRACE_S,
    most_missed: int = MAX_MISSED,
    overlap: Overlap = "allow",
    expires: Duration | None = None,
    priority: int | None = None,
) -> Schedule:
    """Have a job enqueued again and again, or once at a time: exactly once a tick, however many schedulers there are.

    :param when: a cron expression of five fields (minute, hour, day of month, month, day of week) or six (second
        first), or `crontab(...)`, `every(...)`, `at(...)`
    :param function: a job function, its `.options(...)`, or a function's name
    :param name: of the schedule, its own in this Redis; default the function's
    :param args: arguments of the job
    :param kwargs: its keyword arguments
    :param queue: queue of the job; the schedule belongs to it. Default the function's queue, else the queue of whoever
        defines it: a worker's `cron_queue` or first queue, or a pool's default queue
    :param timezone: in which `when` is read, such as "Asia/Seoul"; default the worker's `timezone`, else UTC
    :param jitter: each tick is fired up to that much later (seconds, timedelta or text such as "30s"), but before the
        next one. All schedulers compute the same delay
    :param start: no tick before that time; a datetime with time zone, or such text
    :param end: no tick after that time
    :param missed: what happens to ticks that were due while no scheduler ran: "skip" them, except the last one if it is
        younger than `grace`; fire only the "last" one, or "all" of them
    :param grace: seconds, timedelta or text
    :param most_missed: how many missed ticks "all" fires at most: the latest ones
    :param overlap: when the job of an earlier tick has not ended: "allow" both, "skip" the tick, or "queue" it until
        the earlier has ended
    :param expires: so long after the tick was fired, the job does not start any more; default 24 hours
    :param priority: of the job, from 0 to 9, the most urgent; default the function's
    :raises SettingsError: a value that is impossible; the message says what was expected
    :raises ArgumentsError: the arguments do not fit the function
    """
    timing = Cron(when) if isinstance(when, str) else when
    if not isinstance(timing, Cron | Every | At):
        raise SettingsError(
            f"schedule: expected a cron expression, crontab(...), every(...) or at(...), got {shown_value(when)}"
        )
    bound = _bound(function)
    arguments, keywords = _arguments(args, kwargs)
    if bound is not None:
        bound.function.check_arguments(arguments, keywords)
    job_options = None if bound is None else bound.function.job_options
    expires_s = None if expires is None else seconds_of(expires, "schedule: expires")
    if expires_s is None and bound is not None:
        expires_s = to_ms(bound.expires) / 1000 if bound.expires else bound.function.job_options.expires_s
    if priority is None:
        priority = 0
        if bound is not None:
            priority = bound.function.job_options.priority if bound.priority is None else bound.priority
    PRIORITY.check("schedule: priority", priority)
    own_queue = None if bound is None else bound.queue or bound.function.queue
    made = Schedule(
        name=_text("name", name) or _name_of(function),
        timing=timing,
        function=_name_of(function),
        args=arguments,
        kwargs=keywords,
        queue=_text("queue", queue) or own_queue,
        zone=None if timezone is None else zone_of(timezone, "schedule: timezone"),
        jitter_ms=round(seconds_of(jitter, "schedule: jitter", zero=True) * 1000),
        start_ms=None if start is None else moment_of(start, "schedule: start"),
        end_ms=None if end is None else moment_of(end, "schedule: end"),
        missed=_one_of("missed", missed, ("skip", "last", "all")),
        grace_ms=round(seconds_of(grace, "schedule: grace", zero=True) * 1000),
        most_missed=_count("most_missed", most_missed),
        overlap=_one_of("overlap", overlap, ("allow", "skip", "queue")),
        expires_ms=None if expires_s is None else round(expires_s * 1000),
        priority=priority,
        headers=dict(bound.headers or {}) if bound is not None else {},
        defer_ms=0
        if job_options is None or job_options.debounce is None
        else round(job_options.debounce.quiet_s * 1000),
        job_options=job_options,
        target=target_of(function),
    )
    if isinstance(timing, Every) and made.jitter_ms >= timing.period_ms:
        raise SettingsError(f"schedule: jitter: expected less than the interval, got {jitter!r}")
    if made.start_ms is not None and made.end_ms is not None and made.start_ms > made.end_ms:
        raise SettingsError(f"schedule: expected start before end, got {start!r} and {end!r}")
    return made


def schedule_of_cron(job: CronJob, name: str) -> Schedule:
    """The schedule of an arq cron job.

    :param name: of the schedule
    """
    return Schedule(
        name=name,
        timing=cron_of_arq(job),
        function=job.name,
        prefix=job.name,
        job_id=job.job_id,
        job_options=getattr(job, "job_options", None),
        target=target_of(job),
    )


def checked_schedules(given: Iterable[Any], *, beside_cron_jobs: bool = False) -> list[Schedule]:
    """The schedules of a list of schedules and arq cron jobs, each with a name of its own.

    Cron jobs of the same name get a number.

    :param beside_cron_jobs: leave out the cron jobs that are not unique, since each worker enqueues its own, as in arq
    :raises SettingsError: something else is in the list, two schedules have one name, two callables do, or a cron job
        is not unique
    """
    found: dict[str, Schedule] = {}
    for each in given:
        if isinstance(each, CronJob) and not each.unique:
            if not beside_cron_jobs:
                raise SettingsError(f"schedules: expected unique cron jobs outside of workers, got {each.name!r}")
        elif isinstance(each, CronJob):
            name, number = each.name, 1
            while name in found:
                number += 1
                name = f"{each.name}#{number}"
            found[name] = schedule_of_cron(each, name)
        elif isinstance(each, Schedule):
            if each.name in found:
                raise SettingsError(
                    f"schedules: expected each name once, got {each.name!r} twice; schedule(..., name=...) gives one"
                )
            found[each.name] = each
        else:
            raise SettingsError(f"schedules: expected schedule(...) or cron(...), got {shown_value(each)}")
    targets: dict[str, Callable[..., Any]] = {}
    for made in found.values():
        if made.target is not None:
            check_same_callable("schedules", made.function, targets.setdefault(made.function, made.target), made.target)
    return list(found.values())


def _bound(function: Any) -> BoundJob[..., Any] | None:
    if isinstance(function, BoundJob):
        if function.defer_by or function.defer_until or function.job_id:
            raise SettingsError("schedule: expected a function without defer_by, defer_until and job_id")
        return function
    return BoundJob(function) if isinstance(function, JobFunction) else None


def _name_of(function: Any) -> str:
    if isinstance(function, str) and function:
        return function
    if isinstance(function, BoundJob):
        return function.function.name
    if isinstance(function, Function):
        return function.name
    if callable(function) and hasattr(function, "__qualname__"):
        return str(function.__qualname__)
    raise SettingsError(f"schedule: expected a job function or its name, got {shown_value(function)}")


def _arguments(args: Any, kwargs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    if isinstance(args, str | bytes | Mapping) or not isinstance(args, Iterable):
        raise ArgumentsError(f"schedule: args: expected a list or tuple, got {type(args).__name__}")
    if kwargs is not None and not isinstance(kwargs, Mapping):
        raise ArgumentsError(f"schedule: kwargs: expected a dict, got {type(kwargs).__name__}")
    return tuple(args), dict(kwargs or {})


def _text(what: str, value: Any) -> str | None:
    if value is None or (isinstance(value, str) and value and "\n" not in value and value.isprintable()):
        return value
    raise SettingsError(
        f"schedule: {what}: expected a str of printable characters, at least one, got {shown_value(value)}"
    )


def _one_of(what: str, value: Any, allowed: tuple[str, ...]) -> Any:
    if value not in allowed:
        raise SettingsError(
            f"schedule: {what}: expected one of {', '.join(map(repr, allowed))}, got {shown_value(value)}"
        )
    return value


def _count(what: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 1000:
        raise SettingsError(f"schedule: {what}: expected an int from 1 to 1000, got {shown_value(value)}")
    return value


def _utc(moment_ms: int) -> str:
    return (datetime(1970, 1, 1) + timedelta(milliseconds=moment_ms)).isoformat(" ", "seconds") + " UTC"
