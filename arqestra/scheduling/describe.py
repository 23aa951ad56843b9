"""Schedules in words: "every 6 hours, on the hour, Asia/Seoul".

The words of a cron expression come from the numbers that its fields stand for, and not from how they are written:
`1-31` is every day. If cron needs only one of day of month and day of week to fit, the words say "or".
"""

from collections.abc import Callable, Collection, Iterable
from datetime import datetime, timedelta
from itertools import product

from cronsim import CronSim

from .timing import At, Cron, Every, Timing, simulation

__all__ = ("describe_duration", "describe_timing")

_UNITS = (("day", 86_400_000), ("hour", 3_600_000), ("minute", 60_000), ("second", 1000), ("ms", 1))
_DAYS = ("Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday")
_MONTHS = (
    *("January", "February", "March", "April", "May", "June", "July", "August", "September", "October"),
    *("November", "December"),
)
_ORDINALS = ("first", "second", "third", "fourth", "fifth")
MAX_TIMES = 6  # of a day, that are named one by one


def describe_timing(timing: Timing, zone: str) -> str:
    """Say when a schedule is due.

    :param zone: name of the time zone
    """
    match timing:
        case Every(period_ms=period_ms, anchor_ms=anchor_ms):
            words = f"every {describe_duration(period_ms)}"
            return words if not anchor_ms or anchor_ms % period_ms == 0 else f"{words}, counted from {_utc(anchor_ms)}"
        case At(time=time) if time.tzinfo is not None:
            return f"once, at {time.isoformat(' ', 'seconds')}"
        case At(time=time):
            return f"once, at {time.isoformat(' ', 'seconds')}, {zone}"
        case Cron():
            return f"{_describe_cron(timing)}, {zone}"
    return f"{timing}, {zone}"


def describe_duration(duration_ms: int) -> str:
    """A length of time: 90 s is "1 minute 30 seconds". One of a unit has no number: 60 s is "minute"."""
    parts = []
    for unit, unit_ms in _UNITS:
        count, duration_ms = divmod(duration_ms, unit_ms)
        if count:
            parts.append((count, unit))
    if len(parts) == 1 and parts[0][0] == 1:
        return parts[0][1]
    return " ".join(f"{count} {unit}{'s' if count > 1 and unit != 'ms' else ''}" for count, unit in parts)


def _utc(moment_ms: int) -> str:
    return (datetime(1970, 1, 1) + timedelta(milliseconds=moment_ms)).isoformat(" ") + " UTC"


def _describe_cron(cron: Cron) -> str:
    simulated = simulation(cron)
    times = _steps_of_the_day(simulated.seconds, simulated.minutes, simulated.hours)
    days, months = _describe_days(simulated), simulated.months
    only_in = "" if len(months) == 12 else f", only in {_list(_runs(months), lambda month: _MONTHS[month - 1])}"
    if times is not None:
        return times + (f", {days}" if days else "") + only_in
    return f"{_times_one_by_one(simulated)} {days or 'every day'}{only_in}"


# -- times of the day ---------------------------------------------------------------------------------------------


def _steps_of_the_day(seconds: Collection[int], minutes: Collection[int], hours: Collection[int]) -> str | None:
    """Times in equal steps, or too many to name one by one; None for a few times."""
    sharp = "" if set(seconds) == {0} else f", at second {min(seconds)}"
    if len(hours) == 24 and len(minutes) == 60:
        found = _steps(seconds, 60, "second") or (f"every minute{sharp}" if len(seconds) == 1 else None)
    elif len(hours) == 24 and len(seconds) == 1:
        steps = _steps(minutes, 60, "minute")
        found = f"{steps}{sharp}" if steps else _hourly(minutes, sharp)
    elif len(minutes) == len(seconds) == 1 and len(hours) > 1 and (steps := _steps(hours, 24, "hour")):
        past = f"at {min(minutes):02d}:{min(seconds):02d}" if sharp else f"at minute {min(minutes)}"
        found = f"{steps}, {'on the hour' if set(minutes) == {0} and not sharp else past}"
    else:
        found = None
    if found is None and len(seconds) * len(minutes) * len(hours) > MAX_TIMES:
        return _general(seconds, minutes, hours)
    return found


def _hourly(minutes: Collection[int], sharp: str) -> str | None:
    """ "every hour, at minute 30" of a single minute."""
    if len(minutes) != 1:
        return None
    return f"every hour, {'on the hour' if set(minutes) == {0} else f'at minute {min(minutes)}'}{sharp}"


def _general(seconds: Collection[int], minutes: Collection[int], hours: Collection[int]) -> str:
    """ "every 15 minutes of hours 9 through 17"."""
    of_hours = f" of {_numbers(hours, 24, 'hour')}"
    if set(seconds) == {0}:
        return (_steps(minutes, 60, "minute") or f"at {_numbers(minutes, 60, 'minute')}") + of_hours
    head = _steps(seconds, 60, "second") or f"at {_numbers(seconds, 60, 'second')}"
    return f"{head} of {_numbers(minutes, 60, 'minute')}{of_hours}"


def _times_one_by_one(simulated: CronSim) -> str:
    """ "at 09:00 and 17:00"."""
    times = product(sorted(simulated.hours), sorted(simulated.minutes), sorted(simulated.seconds))
    sharp = simulated.seconds == {0}
    return "at " + _joined(
        f"{hour:02d}:{minute:02d}" if sharp else f"{hour:02d}:{minute:02d}:{second:02d}"
        for hour, minute, second in times
    )


def _steps(numbers: Iterable[int], cycle: int, unit: str) -> str | None:
    """ "every 15 minutes" of {0, 15, 30, 45}."""
    ordered = sorted(numbers)
    if len(ordered) < 2 or cycle % len(ordered):
        return None
    step = cycle // len(ordered)
    if ordered != list(range(0, cycle, step)):
        return None
    return f"every {unit}" if step == 1 else f"every {step} {unit}s"


def _numbers(numbers: Collection[int], cycle: int, unit: str) -> str:
    """ "hours 9 through 17"."""
    if len(numbers) == cycle:
        return f"every {unit}"
    return f"{unit}{'s' if len(numbers) > 1 else ''} {_list(_runs(numbers), str)}"


# -- days ---------------------------------------------------------------------------------------------------------


def _describe_days(simulated: CronSim) -> str:
    """ "on the 13th of the month or on Friday"; "" for every day."""
    dates, weekdays = _describe_dates(simulated.days), _describe_weekdays(simulated.weekdays)
    if not simulated.day_and:  # one of them is enough
        return f"on {dates} or on {weekdays}" if dates and weekdays else ""
    if dates and weekdays:
        return f"on {dates} if it is {weekdays}"
    return f"on {dates or weekdays}" if dates or weekdays else ""


def _describe_dates(days: Collection[int]) -> str:
    """ "the 1st and 15th of the month"; "" for all."""
    numbers = [day for day in days if day > 0]
    if len(numbers) == 31:
        return ""
    items = [_describe_run(run, _ordinal) for run in _runs(numbers)]
    items += ["last weekday"] * (CronSim.LAST_WEEKDAY in days) + ["last day"] * (CronSim.LAST in days)
    return f"the {_joined(items)} of the month"


def _describe_weekdays(weekdays: Collection[int | tuple[int, int]]) -> str:
    """ "Monday through Friday", "the second Monday of the month"; "" for all."""
    plain = {day % 7 for day in weekdays if isinstance(day, int)}
    if len(plain) == 7:
        return ""
    from_monday = [(day - 1) % 7 for day in plain]
    items = [_describe_run(run, lambda day: _DAYS[(day + 1) % 7]) for run in _runs(from_monday)]
    counted = sorted({(day[0] % 7, day[1]) for day in weekdays if isinstance(day, tuple)})
    items += [
        f"the {'last' if nth == CronSim.LAST else _ORDINALS[nth - 1]} {_DAYS[day]} of the month" for day, nth in counted
    ]
    return _joined(items)


def _ordinal(day: int) -> str:
    ending = {1: "st", 2: "nd", 3: "rd"}.get(day % 10, "th") if day not in (11, 12, 13) else "th"
    return f"{day}{ending}"


# -- lists --------------------------------------------------------------------------------------------------------


def _runs(numbers: Iterable[int]) -> list[list[int]]:
    """Numbers in order, those in a row together."""
    runs: list[list[int]] = []
    for number in sorted(set(numbers)):
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return [piece for run in runs for piece in ([run] if len(run) > 2 else [[number] for number in run])]


def _describe_run(run: list[int], name: Callable[[int], str]) -> str:
    return name(run[0]) if len(run) == 1 else f"{name(run[0])} through {name(run[-1])}"


def _list(runs: Iterable[list[int]], name: Callable[[int], str]) -> str:
    return _joined(_describe_run(run, name) for run in runs)


def _joined(items: Iterable[str]) -> str:
    """ "a, b and c"."""
    *most, last = items
    return f"{', '.join(most)} and {last}" if most else last
