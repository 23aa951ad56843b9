"""Schedules as they are stored in Redis, and the jobs of their ticks.

The definition is JSON, so that anybody can read it, also the dashboard, which unpickles nothing. The arguments are a
payload of the scheduler's serializer, like a job's. Whoever fires the schedule fills in what differs from tick to tick.
"""

import hashlib
from collections.abc import Mapping, Set
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

import msgspec

from ..definitions.limits import schedule_entry
from ..errors import PayloadTooLarge, SettingsError
from ..protocol.serializers import Serializer
from ..protocol.wire import Payload, decode_payload, encode_payload
from ..store.codec import encode_extra
from ..store.schedule_records import ScheduleRecord, StoredSchedule
from .definition import Schedule
from .timing import At, Cron, Every, Timing
from .zone import zone_name, zone_of

__all__ = (
    "Encoder",
    "NotReadable",
    "payload_of_tick",
    "record_of",
    "record_with_other_times",
    "schedule_of",
    "schedule_without_arguments",
)

MAX_AHEAD_OF_UTC_MS = 86_400_000  # Python allows no zone that is further ahead
_json = msgspec.json.Encoder(order="deterministic")
_LASTING = ("jitter_ms", "start_ms", "end_ms", "missed", "grace_ms", "most_missed", "overlap", "expires_ms", "defer_ms")


class NotReadable(Exception):
    """A stored schedule that this process cannot fire; says why."""


class Encoder(Protocol):
    """The parts of a `Pool` that decide how jobs are written."""

    serializer: Serializer
    max_payload_bytes: int
    default_queue_name: str
    expires_extra_ms: int


def record_of(schedule: Schedule, home: str, encoder: Encoder) -> ScheduleRecord:
    """The record of a schedule. If it has no zone, whoever fires it reads it in its own.

    :raises SerializationError, PayloadTooLarge: its arguments cannot be stored
    """
    spec, due_at = _spec_of(schedule, home)
    payload = encode_payload(
        encoder.serializer,
        Payload(
            schedule.function,
            schedule.args,
            dict(schedule.kwargs),
            job_try=None,
            enqueued_ms=0,
            options={"h": dict(schedule.headers)},
        ),
    )
    _check_size(schedule, payload, encoder)
    extra = _extra_of(schedule)
    told = encoder.serializer.dumps(
        _in_order([encoder.serializer.name, schedule.args, dict(schedule.kwargs), dict(schedule.headers)])
    )
    digest = _digest(told, spec, extra)
    return ScheduleRecord(
        schedule.name,
        digest,
        due_at,
        first_mark=_first_mark(schedule),
        serializer=encoder.serializer.name,
        spec=spec,
        payload=payload,
        extra=extra,
    )


def record_with_other_times(stored: StoredSchedule, schedule: Schedule) -> ScheduleRecord:
    """The record of a stored schedule with other times. Its arguments stay as they are, undecoded.

    :param schedule: of `schedule_without_arguments`, with another timing, zone, jitter, or rule for missed ticks
    """
    spec, due_at = _spec_of(schedule, stored.home)
    return ScheduleRecord(
        schedule.name,
        _digest(stored.payload, spec, stored.extra),
        due_at,
        first_mark=_first_mark(schedule),
        serializer=stored.serializer,
        spec=spec,
        payload=stored.payload,
        extra=stored.extra,
    )


def _spec_of(schedule: Schedule, home: str) -> tuple[bytes, str]:
    """The definition without its arguments, and when it is due, as text."""
    timing = _encode_timing(schedule.timing)
    zone = schedule.zone
    lasting = {name: getattr(schedule, name) for name in _LASTING}
    spec = {
        **{"function": schedule.function, "when": timing, "zone": zone and zone_name(zone), "words": schedule.words},
        **{"queue": home, "prefix": schedule.prefix, "job_id": schedule.job_id},
        **{"priority": schedule.priority, **lasting},
    }
    due_at = (timing, spec["zone"], schedule.start_ms, schedule.end_ms)
    return _json.encode(spec), _json.encode(due_at).decode()


def _digest(*parts: bytes) -> str:
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:32]


def _first_mark(schedule: Schedule) -> int | None:
    if not isinstance(schedule.timing, At):
        return None
    if schedule.zone is None:
        return schedule.timing.moment_ms(UTC) - MAX_AHEAD_OF_UTC_MS
    return schedule.timing.moment_ms(schedule.zone) - 1


def schedule_of(stored: StoredSchedule, serializer: Serializer) -> Schedule:
    """The schedule of a record.

    :raises NotReadable: it was written by another serializer, or by a newer version
    """
    if stored.serializer != serializer.name:
        raise NotReadable(
            f"its arguments were written by the serializer {stored.serializer!r}; whoever fires it has to have that "
            f"one, and this process has {serializer.name!r}"
        )
    try:
        payload = decode_payload(serializer, stored.payload)
        return _schedule_of(stored, payload.args, payload.kwargs, payload.options.get("h") or {})
    except Exception as error:
        raise NotReadable(f"its record cannot be read: {type(error).__name__}: {error}") from error


def schedule_without_arguments(stored: StoredSchedule) -> Schedule:
    """The schedule of a record, without its arguments, to be shown; in the zone that was noted, if there is one.

    :raises NotReadable: it was written by a newer version
    """
    try:
        schedule = _schedule_of(stored, (), {}, {})
        return schedule if schedule.zone or not stored.zone else schedule.in_zone(zone_of(stored.zone, "time zone"))
    except Exception as error:
        raise NotReadable(f"its record cannot be read: {type(error).__name__}: {error}") from error


def _schedule_of(stored: StoredSchedule, args: Any, kwargs: Any, headers: Any) -> Schedule:
    spec = msgspec.json.decode(stored.spec)
    return Schedule(
        name=stored.name,
        timing=_decode_timing(spec["when"]),
        function=spec["function"],
        args=tuple(args),
        kwargs=kwargs,
        queue=spec["queue"],
        zone=None if spec["zone"] is None else zone_of(spec["zone"], "schedule: timezone"),
        priority=spec["priority"],
        prefix=spec["prefix"],
        job_id=spec["job_id"],
        headers=headers,
        **{name: spec[name] for name in _LASTING},
    )


def payload_of_tick(schedule: Schedule, tick: int | None, fired_ms: int, encoder: Encoder) -> bytes:
    """The payload of the job of a tick. The tick is None for a run by hand.

    :param fired_ms: when it is enqueued, on Redis' clock
    :raises SerializationError, PayloadTooLarge: its arguments cannot be stored
    """
    headers = {**schedule.headers, "schedule": schedule.name}
    if tick is not None:
        headers["tick"] = datetime.fromtimestamp(tick / 1000, UTC).isoformat(timespec="milliseconds")
    expires_ms = schedule.expires_ms or encoder.expires_extra_ms
    options: dict[str, Any] = {"x": fired_ms + schedule.defer_ms + expires_ms, "h": headers}
    if schedule.priority:
        options["p"] = schedule.priority
    payload = Payload(
        schedule.function, schedule.args, dict(schedule.kwargs), job_try=None, enqueued_ms=fired_ms, options=options
    )
    data = encode_payload(encoder.serializer, payload)
    _check_size(schedule, data, encoder)
    return data


def _in_order(value: Any) -> Any:
    """A form of the value that encodes to the same bytes in every process. Sets have no order of their own."""
    if isinstance(value, Mapping):
        pairs = [[_in_order(key), _in_order(each)] for key, each in value.items()]
        return ["dict", sorted(pairs, key=repr)]
    if isinstance(value, Set):
        return ["set", sorted((_in_order(each) for each in value), key=repr)]
    if isinstance(value, list | tuple):
        return [type(value).__name__, [_in_order(each) for each in value]]
    if is_dataclass(value) and not isinstance(value, type):
        return [type(value).__qualname__, [_in_order(getattr(value, each.name)) for each in fields(value)]]
    return value


def _check_size(schedule: Schedule, payload: bytes, encoder: Encoder) -> None:
    if len(payload) > encoder.max_payload_bytes:
        raise PayloadTooLarge(
            f'schedule "{schedule.name}": expected at most {encoder.max_payload_bytes} bytes of encoded arguments '
            f"(max_payload_bytes), got {len(payload)}; store the data elsewhere and pass a reference to it"
        )


def _extra_of(schedule: Schedule) -> bytes:
    job_options = schedule.job_options
    name, args, kwargs = schedule.function, schedule.args, schedule.kwargs
    entries = [] if job_options is None else job_options.limits(name, args, kwargs)
    lock = None if job_options is None else job_options.lock(name, args, kwargs)
    if schedule.overlap == "queue":
        entries.append(schedule_entry(schedule.name))
    if lock is not None and lock.until:
        entries.append(("u", lock.name, lock.until))
    if not (schedule.priority or entries or lock):
        return b""
    return encode_extra(schedule.priority, lock, entries)


def _encode_timing(timing: Timing) -> dict[str, Any]:
    match timing:
        case Cron(expression, all_days, offset_ms):
            return {"cron": expression, "all_days": all_days, "offset_ms": offset_ms}
        case Every(period_ms, anchor_ms):
            return {"every_ms": period_ms, "anchor_ms": anchor_ms}
        case At(time):
            return {"at": time.isoformat()}
    raise SettingsError(f"schedule: expected a cron expression, crontab(...), every(...) or at(...), got {timing!r}")


def _decode_timing(data: dict[str, Any]) -> Timing:
    if "cron" in data:
        return Cron(data["cron"], data["all_days"], data["offset_ms"])
    if "every_ms" in data:
        return Every(data["every_ms"], data["anchor_ms"])
    return At(datetime.fromisoformat(data["at"]))
