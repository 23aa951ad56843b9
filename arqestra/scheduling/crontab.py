"""`crontab(...)` as Celery writes it, and arq's `cron(...)` fields, as cron expressions."""

from collections.abc import Iterable
from typing import Any

from arq.cron import CronJob
from arq.typing import WEEKDAYS

from ..definitions.redact import shown_value
from ..errors import SettingsError
from .timing import Cron

__all__ = ("CrontabField", "checked_cron", "cron_of_arq", "crontab")

CrontabField = str | int | Iterable[int]

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")


def crontab(
    minute: CrontabField = "*",
    hour: CrontabField = "*",
    day_of_week: CrontabField = "*",
    day_of_month: CrontabField = "*",
    month_of_year: CrontabField = "*",
) -> Cron:
    """A cron expression with the names that Celery uses. All five fields must fit.

    Each is a number, a set of numbers, or text: `"*"`, `"*/15"`, `"8-17"`, `"1,15"`, `"22-2"` (around the end),
    `"mon-fri"`, `"sunday"`.

    :param minute: 0 to 59
    :param hour: 0 to 23
    :param day_of_week: 0 (Sunday) to 6, or names
    :param day_of_month: 1 to 31
    :param month_of_year: 1 to 12, or names
    :raises SettingsError: a field that is none of these
    """
    fields = (
        _field("minute", minute, 0, 59),
        _field("hour", hour, 0, 23),
        _field("day_of_month", day_of_month, 1, 31),
        _field("month_of_year", month_of_year, 1, 12, _MONTHS),
        _field("day_of_week", day_of_week, 0, 6, _DAYS),
    )
    return Cron(" ".join(fields), all_days=True)


def checked_cron(job: CronJob) -> CronJob:
    """Check an arq cron job. If no time fits its fields, arq would search for one for ever.

    :raises SettingsError: a field has an impossible value, or no time fits all fields
    """
    if (
        isinstance(job.microsecond, bool)
        or not isinstance(job.microsecond, int)
        or not 0 <= job.microsecond < 1_000_000
    ):
        raise SettingsError(f"cron: microsecond: expected an int from 0 to 999,999, got {shown_value(job.microsecond)}")
    for name in ("month", "day", "weekday", "hour", "minute", "second"):
        value = getattr(job, name)
        if isinstance(value, Iterable) and not isinstance(value, str):
            setattr(job, name, set(value))  # arq takes no other iterables than sets, lists and tuples
    cron_of_arq(job)
    return job


def cron_of_arq(job: CronJob) -> Cron:
    """When an arq cron job is due."""
    weekday = job.weekday
    if isinstance(weekday, str):
        if weekday.lower() not in WEEKDAYS:
            raise SettingsError(f"cron: weekday: expected one of {', '.join(WEEKDAYS)}, got {shown_value(weekday)}")
        weekday = WEEKDAYS.index(weekday.lower())
    days = None if weekday is None else {(day + 1) % 7 for day in _numbers("cron: weekday", weekday, 0, 6)}
    fields = [
        _arq_field("second", job.second, 0, 59),
        _arq_field("minute", job.minute, 0, 59),
        _arq_field("hour", job.hour, 0, 23),
        _arq_field("day", job.day, 1, 31),
        _arq_field("month", job.month, 1, 12),
        "*" if days is None else _list(days),
    ]
    return Cron(" ".join(fields), all_days=True, offset_ms=round(job.microsecond / 1000))


def _arq_field(name: str, value: Any, least: int, most: int) -> str:
    return "*" if value is None else _list(_numbers(f"cron: {name}", value, least, most))


def _list(numbers: Iterable[int]) -> str:
    """Numbers as cron writes them: three or more in a row as a range."""
    runs: list[list[int]] = []
    for number in sorted(set(numbers)):
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    parts = [f"{run[0]}-{run[-1]}" if len(run) > 2 else ",".join(map(str, run)) for run in runs]
    return ",".join(parts)


def _field(name: str, value: CrontabField, least: int, most: int, names: tuple[str, ...] = ()) -> str:
    if isinstance(value, str):
        try:
            numbers = {number for part in value.split(",") for number in _part(part.strip(), least, most, names)}
        except ValueError:
            allowed = f"{least} to {most}" + (f" or {names[0]} to {names[-1]}" if names else "")
            raise SettingsError(
                f'crontab: {name}: expected {allowed}, alone or as "*", "*/2", "1-5", "1-5/2" or "1,3", got '
                f"{shown_value(value)}"
            ) from None
    else:
        numbers = set(_numbers(f"crontab: {name}", value, least, most))
    return "*" if len(numbers) == most - least + 1 else _list(numbers)


def _part(text: str, least: int, most: int, names: tuple[str, ...]) -> Iterable[int]:
    """The numbers of one part of a field.

    :raises ValueError: it is none
    """
    text, slash, step_text = text.partition("/")
    step = int(step_text) if slash else 1
    if step < 1:
        raise ValueError(text)
    if text == "*":
        return range(least, most + 1, step)
    first_text, dash, last_text = text.partition("-")
    first = _number(first_text, least, most, names)
    if not dash:
        return range(first, (most if slash else first) + 1, step)
    last = _number(last_text, least, most, names)
    numbers = range(first, last + 1) if first <= last else [*range(first, most + 1), *range(least, last + 1)]
    return numbers[::step]


def _number(text: str, least: int, most: int, names: tuple[str, ...]) -> int:
    """A number, or the number of a name. Only the first three letters of a name count, as in Celery.

    :raises ValueError: neither
    """
    short = text[:3].lower()
    if names and short in names and text.isalpha():
        return names.index(short) + least
    number = int(text)
    if not (text.isdigit() and least <= number <= most):
        raise ValueError(text)
    return number


def _numbers(what: str, value: Any, least: int, most: int) -> list[int]:
    numbers = [value] if isinstance(value, int) else list(value) if isinstance(value, Iterable) else []
    if not numbers or isinstance(value, str | bool):
        raise SettingsError(
            f"{what}: expected a number from {least} to {most} or a set of such, got {shown_value(value)}"
        )
    for number in numbers:
        if isinstance(number, bool) or not isinstance(number, int) or not least <= number <= most:
            raise SettingsError(f"{what}: expected numbers from {least} to {most}, got {shown_value(number)}")
    return numbers
