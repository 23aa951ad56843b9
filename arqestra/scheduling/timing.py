"""When a schedule is due: cron expressions, intervals, and single times. Pure. A *tick* is a moment at which it is due.

The rules for changes of the clock are the same in every zone:

- A schedule that names hours (`0 9 * * *`, `0 */6 * * *`) runs when the wall clock first reaches each of its times. A
  time that does not exist runs when the gap ends. A time that exists twice runs once. Times that fall together are one
  tick.
- A schedule of every hour (`0 * * * *`, `*/5 * * * *`) runs by elapsed time: in the repeated hour once more, and in a
  gap not at all. It keeps its minutes on the wall clock, also where the clock moves by half an hour.
- An interval (`every`) runs by elapsed time. The wall clock does not matter.
"""

import functools
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any, Protocol

from cronsim import CronSim, CronSimError

from ..definitions.durations import Duration, seconds_of
from ..errors import SettingsError
from .zone import EPOCH, first_moment, offset_s, zone_of

__all__ = ("At", "Cron", "Every", "Timing", "at", "datetime_of_text", "every", "last_until")

DAY_S = 86_400
FIRST_YEAR, LAST_YEAR = 1970, 9000  # any moment of which can be told in any zone
MIN_PERIOD_MS = 100
MAX_PERIOD_MS = 36_525 * 86_400_000  # a century: what is due beyond the year 9999 cannot be told as a time
_FIELDS = (
    *("second (0-59)", "minute (0-59)", "hour (0-23)", "day of month (1-31, L, LW)"),
    *("month (1-12 or JAN-DEC)", "day of week (0-7 or SUN-SAT, 5L, MON#2)"),
)
_NICKNAMES = {
    **{"@yearly": "0 0 1 1 *", "@annually": "0 0 1 1 *", "@monthly": "0 0 1 * *", "@weekly": "0 0 * * 0"},
    **{"@daily": "0 0 * * *", "@midnight": "0 0 * * *", "@hourly": "0 * * * *"},
}


class Timing(Protocol):
    """Says when a schedule is due."""

    def next_after(self, after_ms: int, zone: tzinfo) -> int | None:
        """The first tick after a moment (ms since the epoch), or None if there is none."""


@dataclass(frozen=True, slots=True)
class Cron:
    """A cron expression.

    :ivar expression: five fields, or six with seconds first
    :ivar all_days: where both are restricted, day of month and day of week must fit, as Celery and arq have it; else
        one of them is enough, as in cron
    :ivar offset_ms: so long after the full second
    :raises SettingsError: it is none, or no time ever fits it
    """

    expression: str
    all_days: bool = False
    offset_ms: int = 0

    def __post_init__(self) -> None:
        if not isinstance(self.expression, str):
            raise SettingsError(f"schedule: expected a cron expression (str), got {self.expression!r}")
        object.__setattr__(self, "expression", _NICKNAMES.get(self.expression.strip().lower(), self.expression))
        _check_expression(self.expression)
        if _next_wall(self, 0) is None:
            raise SettingsError(f"schedule: expected a cron expression that fits some time, got {self.expression!r}")

    @property
    def every_hour(self) -> bool:
        """Whether it names no hours."""
        return len(simulation(self).hours) == 24

    def next_after(self, after_ms: int, zone: tzinfo) -> int | None:
        after_s = (after_ms - self.offset_ms) // 1000
        found_s = _next_by_elapsed_time(self, after_s, zone) if self.every_hour else _next_on_wall(self, after_s, zone)
        return None if found_s is None else found_s * 1000 + self.offset_ms


@dataclass(frozen=True, slots=True)
class Every:
    """An interval, counted from an anchor, so that no restart shifts it.

    :ivar anchor_ms: None: the start of the schedule, or the epoch
    """

    period_ms: int
    anchor_ms: int | None = None

    def next_after(self, after_ms: int, zone: tzinfo) -> int | None:
        anchor_ms = self.anchor_ms or 0
        return anchor_ms + ((after_ms - anchor_ms) // self.period_ms + 1) * self.period_ms


@dataclass(frozen=True, slots=True)
class At:
    """One time.

    :ivar time: without a zone: on the wall clock of the schedule's zone
    """

    time: datetime

    def next_after(self, after_ms: int, zone: tzinfo) -> int | None:
        moment_ms = self.moment_ms(zone)
        return moment_ms if moment_ms > after_ms else None

    def moment_ms(self, zone: tzinfo) -> int:
        """When that is."""
        if self.time.tzinfo is not None:
            return (self.time - EPOCH.replace(tzinfo=UTC)) // timedelta(milliseconds=1)
        wall_ms = (self.time - EPOCH) // timedelta(milliseconds=1)
        return first_moment(zone, wall_ms // 1000) * 1000 + wall_ms % 1000


def every(period: Duration, *, anchor: datetime | None = None) -> Every:
    """An interval of elapsed time.

    :param period: seconds, a timedelta, or text such as "1h30m"
    :param anchor: a moment from which it is counted; default the schedule's start, else the epoch (so "1d" is at
        midnight UTC)
    :raises SettingsError: an impossible value
    """
    period_ms = round(seconds_of(period, "every", most_s=float("inf")) * 1000)
    if period_ms < MIN_PERIOD_MS:
        raise SettingsError(f"every: expected at least {MIN_PERIOD_MS / 1000:g} seconds, got {period!r}")
    if period_ms > MAX_PERIOD_MS:
        raise SettingsError(f"every: expected at most {MAX_PERIOD_MS // 86_400_000:,} days, got {period!r}")
    return Every(period_ms, None if anchor is None else moment_of(anchor, "every: anchor"))


def at(time: datetime | str) -> At:
    """One time.

    :param time: a datetime, or text in ISO format, behind which the name of a zone may stand; without a zone it is on
        the wall clock of the schedule's zone
    :raises SettingsError: neither
    """
    try:
        return At(_datetime_of(time))
    except ValueError:
        raise SettingsError(
            f'at: expected a datetime or text such as "2030-01-31 09:00", in {FIRST_YEAR} to {LAST_YEAR}, got {time!r}'
        ) from None


def moment_of(value: Any, what: str) -> int:
    """Milliseconds since the epoch of a datetime with a zone, or of such text.

    :raises SettingsError: something else
    """
    try:
        time = _datetime_of(value)
    except ValueError:
        time = None
    if time is None or time.tzinfo is None:
        raise SettingsError(f"{what}: expected a datetime with time zone, got {value!r}")
    return At(time).moment_ms(UTC)


def _datetime_of(value: Any) -> datetime:
    time = datetime_of_text(value) if isinstance(value, str) else value
    if isinstance(time, datetime) and FIRST_YEAR <= time.year <= LAST_YEAR:
        return time
    raise ValueError(value)


def datetime_of_text(text: str) -> datetime:
    """Of text in ISO format, behind which the name of a time zone may stand: "2030-01-31 09:00 Asia/Seoul"."""
    before, _, name = text.strip().rpartition(" ")
    if not name[:1].isalpha():
        return datetime.fromisoformat(text)
    wall, zone = datetime.fromisoformat(before), zone_of(name, "time zone")
    if wall.tzinfo is not None:
        raise ValueError(text)
    return datetime.fromtimestamp(At(wall).moment_ms(zone) / 1000, zone)


def last_until(timing: Timing, after_ms: int, until_ms: int, zone: tzinfo) -> int | None:
    """The last tick in the time after one moment and up to another; None if there is none."""
    first = timing.next_after(after_ms, zone)
    if first is None or first > until_ms:
        return None
    # Before the last tick there is a next one, and from the last tick on there is none: search for where that changes.
    low, high = first - 1, until_ms
    while low + 1 < high:
        middle = (low + high) // 2
        found = timing.next_after(middle, zone)
        if found is not None and found <= until_ms:
            low = found - 1
        else:
            high = middle
    return timing.next_after(low, zone)


# -- cron expressions -------------------------------------------------------------------------------------------------


@functools.lru_cache(maxsize=4096)
def simulation(cron: Cron) -> CronSim:
    """cronsim's iterator of a checked expression; it is set to a time before each use."""
    made = CronSim(cron.expression, EPOCH)
    if cron.all_days:
        made.day_and = True
    return made


def _next_wall(cron: Cron, wall_s: int) -> int | None:
    """The next wall time that fits."""
    simulated = simulation(cron)
    simulated.dt = EPOCH + timedelta(seconds=wall_s)
    try:
        return (next(simulated) - EPOCH) // timedelta(seconds=1)
    except (StopIteration, OverflowError, ValueError):  # none within 50 years, or the calendar ends
        return None


def _next_on_wall(cron: Cron, after_s: int, zone: tzinfo) -> int | None:
    """The next moment at which the wall clock first reaches a time that fits."""
    wall_s: int | None = after_s + offset_s(zone, after_s)
    while wall_s is not None:
        wall_s = _next_wall(cron, wall_s)
        if wall_s is not None and (moment_s := first_moment(zone, wall_s)) > after_s:
            return moment_s
    return None


def _next_by_elapsed_time(cron: Cron, after_s: int, zone: tzinfo) -> int | None:
    """The next moment at which the wall clock shows a time that fits."""
    from_s = after_s
    while True:
        ahead_s = offset_s(zone, from_s)
        wall_s = _next_wall(cron, from_s + ahead_s)
        if wall_s is None:
            return None
        found_s, until_s = wall_s - ahead_s, min(wall_s - ahead_s, from_s + DAY_S)
        change_s = _first_change(zone, from_s, until_s, ahead_s)
        if change_s is not None:
            ahead_s = offset_s(zone, change_s)
            if _fits(cron, change_s + ahead_s):
                return change_s
            from_s = change_s
        elif found_s == until_s:
            return found_s
        else:
            # No clock moves by more than a day, so nothing fits until two days before what was found.
            from_s = max(until_s, found_s - 2 * DAY_S)


def _fits(cron: Cron, wall_s: int) -> bool:
    return _next_wall(cron, wall_s - 1) == wall_s


def _first_change(zone: tzinfo, from_s: int, until_s: int, ahead_s: int) -> int | None:
    """The first moment within at most a day at which the clock is moved."""
    if offset_s(zone, until_s) == ahead_s:
        return None
    low, high = from_s, until_s
    while low + 1 < high:
        middle = (low + high) // 2
        if offset_s(zone, middle) == ahead_s:
            low = middle
        else:
            high = middle
    return high


def _check_expression(expression: str) -> None:
    """Refuse what is no cron expression, and say which field is wrong."""
    fields = expression.split()
    if len(fields) not in (5, 6):
        raise SettingsError(
            "schedule: expected a cron expression of 5 fields (minute, hour, day of month, month, day of week) or 6 "
            f"(second first), got {len(fields)}: {expression!r}"
        )
    fields = fields if len(fields) == 6 else ["0", *fields]
    for index, (field, allowed) in enumerate(zip(fields, _FIELDS, strict=True)):
        others = ["*"] * 6
        others[index] = field
        if not _is_accepted(" ".join(others)):
            raise SettingsError(f"schedule: cron expression {expression!r}: {allowed}: got {field!r}")
    if not _is_accepted(expression):
        raise SettingsError(f"schedule: expected a cron expression that fits some day, got {expression!r}")


def _is_accepted(expression: str) -> bool:
    try:
        CronSim(expression, EPOCH)
    except (CronSimError, ValueError):
        return False
    return True
