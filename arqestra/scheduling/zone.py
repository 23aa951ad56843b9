"""Time zones: when the wall clock of a zone reaches a time, the same rule for every zone.

A wall time stands for one moment: *the first at which the clock on the wall has reached it*. If the clock is put
forward over a time, that time stands for the moment at which the gap ends. If the clock is put back, a time exists
twice, and stands for the first of the two.

Moments are seconds since the epoch. A wall time is the same number, as if the zone were UTC.
"""

import os
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from ..errors import SettingsError

__all__ = ("first_moment", "local_zone", "named_zone", "offset_s", "zone_name", "zone_of")

EPOCH = datetime(1970, 1, 1)
_ZONEINFO_FOLDER = "zoneinfo/"


def offset_s(zone: tzinfo, moment_s: int) -> int:
    """Seconds that the wall clock is ahead of UTC at a moment."""
    offset = datetime.fromtimestamp(moment_s, zone).utcoffset()
    return 0 if offset is None else round(offset.total_seconds())


def first_moment(zone: tzinfo, wall_s: int) -> int:
    """The first moment at which the wall clock has reached a time."""
    wall = (EPOCH + timedelta(seconds=wall_s)).replace(tzinfo=zone)
    before_s, after_s = _seconds(wall.replace(fold=0).utcoffset()), _seconds(wall.replace(fold=1).utcoffset())
    if before_s >= after_s:  # the offset before the change gives the first of two
        return wall_s - before_s
    # Within a gap. The clock is put forward somewhere between these two moments: search for the first after it.
    low, high = wall_s - after_s, wall_s - before_s
    while low < high:
        middle = (low + high) // 2
        if offset_s(zone, middle) == before_s:
            low = middle + 1
        else:
            high = middle
    return high


def _seconds(offset: timedelta | None) -> int:
    return 0 if offset is None else round(offset.total_seconds())


def zone_of(value: Any, what: str) -> tzinfo:
    """The zone that an option means.

    :param value: a name such as "Asia/Seoul", an offset such as "+09:00", or a `ZoneInfo`, `timezone` or pytz zone
    :param what: the option, for the message
    :raises SettingsError: no such zone, or a tzinfo that has no name by which others would know it
    """
    name = value if isinstance(value, str) else getattr(value, "key", None) or getattr(value, "zone", None)
    if isinstance(value, timezone):
        return value
    if isinstance(name, str):
        try:
            return _fixed(name) or ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            pass
    raise SettingsError(f'{what}: expected a time zone such as "Asia/Seoul" or ZoneInfo("Asia/Seoul"), got {value!r}')


def named_zone(value: tzinfo | str | None) -> tzinfo | None:
    """The zone of a worker's setting: arq takes any tzinfo, also one without a name."""
    try:
        return None if value is None else zone_of(value, "timezone")
    except SettingsError:
        if isinstance(value, tzinfo):
            return value
        raise


def zone_name(zone: tzinfo) -> str:
    """The name by which `zone_of` finds a zone again."""
    key = getattr(zone, "key", None)
    if isinstance(key, str):
        return key
    total_s = offset_s(zone, 0)
    if total_s == 0:
        return "UTC"
    minutes, seconds = divmod(abs(total_s), 60)
    text = f"{'-' if total_s < 0 else '+'}{minutes // 60:02d}:{minutes % 60:02d}"
    return f"{text}:{seconds:02d}" if seconds else text


def _fixed(name: str) -> tzinfo | None:
    """The zone of an offset such as +09:00."""
    if name[:1] not in ("+", "-"):
        return None
    return datetime.strptime(name, "%z").tzinfo


def local_zone() -> tzinfo:
    """The zone of this machine, with its changes between summer and winter as far as the system tells its name."""
    candidates = [os.environ.get("TZ", "").removeprefix(":")]
    try:
        candidates.append(str(Path("/etc/localtime").resolve()).rpartition(_ZONEINFO_FOLDER)[2])
        candidates.append(Path("/etc/timezone").read_text(encoding="utf-8").strip())
    except OSError:
        pass
    now = datetime.now().astimezone()
    for name in candidates:
        try:
            zone = ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            continue
        if now.astimezone(zone).utcoffset() == now.utcoffset():
            return zone
    return now.tzinfo or UTC
