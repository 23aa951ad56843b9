"""Changes when a schedule is due, and runs it at once, whichever serializer wrote its arguments."""

import dataclasses
from dataclasses import dataclass
from typing import Annotated, Literal

from msgspec import Meta, Struct

from ..client.pool import Pool
from ..definitions.middleware import Middleware
from ..errors import ScheduleNotFound, SettingsError
from ..handles.job import Job
from ..protocol.clock import new_job_id
from ..protocol.serializers import SERIALIZERS, Serializer
from ..scheduling.definition import Schedule
from ..scheduling.describe import describe_duration
from ..scheduling.encode import NotReadable, record_with_other_times, schedule_without_arguments
from ..scheduling.schedules import Schedules
from ..scheduling.timing import At, Cron, Every, Timing, at, every
from ..scheduling.zone import zone_of
from ..store.schedule_records import NewFiring, StoredSchedule
from ..store.schedules import ScheduleStore
from ..store.server import redis_time_ms
from ..store.store import Store
from .pickles import outline, retry_payload

__all__ = ("ScheduleEdit", "edit_schedule", "run_schedule", "stored_schedule", "when_text")


class ScheduleEdit(Struct, frozen=True, forbid_unknown_fields=True):
    """When a schedule is to be due.

    :ivar when: a cron expression, "every 90s" or a time in ISO 8601
    :ivar timezone: in which it is read; "" for the one that it has
    :ivar jitter_s: each tick is fired up to so much later
    :ivar missed: what happens to ticks that were due while no scheduler ran
    """

    name: Annotated[str, Meta(min_length=1, max_length=1000)]
    when: Annotated[str, Meta(min_length=1, max_length=200)]
    timezone: Annotated[str, Meta(max_length=100)] = ""
    jitter_s: Annotated[float, Meta(ge=0, le=86_400)] = 0
    missed: Literal["skip", "last", "all"] = "skip"


async def stored_schedule(store: Store, name: str) -> StoredSchedule:
    """A schedule as Redis has it.

    :raises ScheduleNotFound: there is none of this name
    """
    found = await ScheduleStore(store, "").read([name])
    if name not in found:
        raise ScheduleNotFound(name)
    return found[name]


async def edit_schedule(pool: Pool, edit: ScheduleEdit) -> tuple[str, str]:
    """Change when a schedule is due; returns in words when it was due before, and when it is due after that.

    :raises ScheduleNotFound: there is none of this name
    :raises SettingsError: an impossible value
    """
    stored = await stored_schedule(pool.store, edit.name)
    schedule = _described(stored)
    if schedule.of_cron:
        raise SettingsError("an arq cron job is changed in its code, where its workers have it from")
    changed = dataclasses.replace(
        schedule,
        timing=_timing(edit.when, schedule),
        zone=zone_of(edit.timezone, "time zone") if edit.timezone else schedule.zone,
        jitter_ms=round(edit.jitter_s * 1000),
        missed=edit.missed,
    )
    if isinstance(changed.timing, Every) and changed.jitter_ms >= changed.timing.period_ms:
        raise SettingsError("jitter: expected less than the interval")
    await ScheduleStore(pool.store, stored.home).put(record_with_other_times(stored, changed), started_ms=None)
    return _words(schedule), _words(changed)


def _words(schedule: Schedule) -> str:
    return f"{schedule.words} (missed ticks: {schedule.missed})"


def _timing(text: str, schedule: Schedule) -> Timing:
    text = text.strip()
    if text.lower().startswith("every "):
        made = every(text[6:].strip())
        before = schedule.timing.anchor_ms if isinstance(schedule.timing, Every) else None
        return Every(made.period_ms, schedule.start_ms or 0 if before is None else before)
    if text[:4].isdigit() and text[4:5] == "-":
        return at(text)
    return Cron(text)


def when_text(schedule: Schedule) -> str:
    """When a schedule is due, as `ScheduleEdit.when` takes it."""
    match schedule.timing:
        case Cron(expression=expression):
            return expression
        case Every(period_ms=period_ms):
            return f"every {period_ms / 1000:g}s"
        case At(time=time):
            return time.isoformat()
    return describe_duration(0)


@dataclass(frozen=True)
class _Client:
    """The pool with the serializer of one schedule. `Schedules` takes it as its pool."""

    pool: Pool
    serializer: Serializer
    middleware: tuple[Middleware, ...] = ()

    @property
    def store(self) -> Store:
        return self.pool.store

    @property
    def max_payload_bytes(self) -> int:
        return self.pool.max_payload_bytes

    @property
    def default_queue_name(self) -> str:
        return self.pool.default_queue_name

    @property
    def expires_extra_ms(self) -> int:
        return self.pool.expires_extra_ms

    def job(self, job_id: str, *, queue: str | None = None) -> Job[object]:
        return self.pool.job(job_id, queue=queue)


async def run_schedule(pool: Pool, name: str) -> str:
    """Enqueue the job of a schedule at once; returns its id.

    :raises ScheduleNotFound: there is none of this name
    :raises SettingsError: its arguments cannot be read, or something holds the id or the lock of its job
    """
    stored = await stored_schedule(pool.store, name)
    if stored.serializer in ("msgpack", "json"):
        client = _Client(pool, SERIALIZERS[stored.serializer])
        return (await Schedules(client).run_now(name)).job_id  # type: ignore[arg-type] # read-only attributes
    return await _run_pickled(pool, stored)


async def _run_pickled(pool: Pool, stored: StoredSchedule) -> str:
    schedule = _described(stored)
    found = outline(stored.payload)
    if found is None or found.fields.get("f") != schedule.function:
        raise SettingsError(
            f"its arguments were written by the serializer {stored.serializer!r}, which the dashboard does not read: "
            "run it by `arqestra cron run`"
        )
    now_ms = await redis_time_ms(pool.store.redis)
    job_id = schedule.job_id or new_job_id()
    life_ms = schedule.defer_ms + (schedule.expires_ms or pool.expires_extra_ms)
    try:
        payload = retry_payload(stored.payload, found, now_ms, life_ms)
    except ValueError as error:
        raise SettingsError(f"its arguments are a pickle that is not run again unread: {error}") from None
    firing = NewFiring(
        name=stored.name,
        due_ms=None,
        rev=stored.rev,
        mark=0,
        to_mark=0,
        next_ms=None,
        note="n",
        overlap="",
        tick=now_ms,
        queue=stored.home,
        job_id=job_id,
        when=f"+{schedule.defer_ms}" if schedule.defer_ms else "",
        payload=payload,
        extra=stored.extra,
    )
    outcome, duplicate = await ScheduleStore(pool.store, stored.home).fire_by_hand(firing)
    if outcome == "changed":
        raise ScheduleNotFound(stored.name)
    if outcome == "refused":
        raise SettingsError(f"schedule {stored.name}: a job has its id, or holds the lock of its function")
    return job_id if duplicate is None else duplicate.id


def _described(stored: StoredSchedule) -> Schedule:
    try:
        return schedule_without_arguments(stored)
    except NotReadable as problem:
        raise SettingsError(str(problem)) from problem
