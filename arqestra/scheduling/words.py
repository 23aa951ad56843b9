"""Schedules in words: "every 6 hours, on the hour, Asia/Seoul"."""

from collections.abc import Iterable

from cronsim.explain import Expression

from .timing import At, Cron, Every, Timing, simulation

__all__ = ("duration_in_words", "in_words")

_UNITS = (("day", 86_400_000), ("hour", 3_600_000), ("minute", 60_000), ("second", 1000), ("ms", 1))


def in_words(timing: Timing, zone: str) -> str:
    """When it is due.

    :param zone: name of the time zone
    """
    match timing:
        case Every(period_ms=period_ms):
            return f"every {duration_in_words(period_ms)}"
        case At(time=time) if time.tzinfo is not None:
            return f"once, at {time.isoformat(' ', 'seconds')}"
        case At(time=time):
            return f"once, at {time.isoformat(' ', 'seconds')}, {zone}"
        case Cron():
            return f"{_cron_in_words(timing)}, {zone}"
    return f"{timing}, {zone}"


def duration_in_words(duration_ms: int) -> str:
    """A length of time: "90 seconds" as "1 minute 30 seconds", one of one unit without its number: "minute"."""
    parts = []
    for unit, unit_ms in _UNITS:
        count, duration_ms = divmod(duration_ms, unit_ms)
        if count:
            parts.append((count, unit))
    if len(parts) == 1 and parts[0][0] == 1:
        return parts[0][1]
    return " ".join(f"{count} {unit}{'s' if count > 1 and unit != 'ms' else ''}" for count, unit in parts)


def _cron_in_words(cron: Cron) -> str:
    fields = cron.expression.upper().split()
    fields = fields if len(fields) == 6 else ["0", *fields]
    if fields[3:] == ["*", "*", "*"]:
        simulated = simulation(cron)
        plain = _times_in_words(simulated.seconds, simulated.minutes, simulated.hours)
        if plain is not None:
            return plain
    explained = Expression(fields)
    if cron.all_days:
        explained.day_and = True
    words = explained.explain()
    return words[0].lower() + words[1:]


def _times_in_words(seconds: set[int], minutes: set[int], hours: set[int]) -> str | None:
    """Times that come again in equal steps, every day; None for others."""
    if len(hours) == 24 and len(minutes) == 60:
        return _steps(seconds, 60, "second") or (_steps_of_one("minute", seconds, "second"))
    if len(hours) == 24 and len(seconds) == 1:
        at = "" if seconds == {0} else f", at second {min(seconds)}"
        steps = _steps(minutes, 60, "minute")
        return f"{steps}{at}" if steps else _steps_of_one("hour", minutes, "minute", at)
    if len(minutes) == len(seconds) == 1 and len(hours) > 1:
        steps = _steps(hours, 24, "hour")
        if steps:
            sharp = minutes == {0} and seconds == {0}
            past = f"at minute {min(minutes)}" if seconds == {0} else f"at {min(minutes):02d}:{min(seconds):02d}"
            return f"{steps}, {'on the hour' if sharp else past}"
    return None


def _steps(numbers: Iterable[int], cycle: int, unit: str) -> str | None:
    """ "every 15 minutes" of {0, 15, 30, 45}."""
    ordered = sorted(numbers)
    if len(ordered) < 2 or cycle % len(ordered):
        return None
    step = cycle // len(ordered)
    if ordered != list(range(0, cycle, step)):
        return None
    return f"every {unit}" if step == 1 else f"every {step} {unit}s"


def _steps_of_one(unit: str, numbers: set[int], part: str, at: str = "") -> str | None:
    """ "every hour, at minute 30" of a single minute."""
    if len(numbers) != 1:
        return None
    (number,) = numbers
    if number == 0:
        return f"every {unit}, on the hour{at}" if unit == "hour" else f"every {unit}{at}"
    return f"every {unit}, at {part} {number}{at}"
