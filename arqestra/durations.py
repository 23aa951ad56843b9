"""Lengths of time as an option takes them: seconds, a timedelta, or text such as "90s" or "1h30m"."""

import re
from datetime import timedelta
from typing import Any

from arq.utils import to_ms, to_seconds

from .errors import SettingsError

__all__ = ("Duration", "keep_ms", "seconds_of")

Duration = int | float | timedelta | str

LONGEST_KEEP_S = 100 * 365 * 86400  # Redis has a bound as well, and refuses what is beyond it

_UNITS_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_TEXT = re.compile(rf"(?:{_PART.pattern})+")


def keep_ms(seconds: float | timedelta) -> int:
    """For how many ms something is kept: as long as it is said, a century at most."""
    return to_ms(min(to_seconds(seconds), LONGEST_KEEP_S))


def seconds_of(value: Any, what: str, *, zero: bool = False) -> float:
    """Seconds of a duration.

    :param value: a number of seconds, a timedelta, or text of numbers with the units ms, s, m, h and d
    :param what: the option's name, for the message
    :param zero: whether 0 is allowed
    :raises SettingsError: anything else
    """
    seconds: float | None = None
    if isinstance(value, timedelta):
        seconds = value.total_seconds()
    elif isinstance(value, int | float) and not isinstance(value, bool):
        seconds = float(value)
    elif isinstance(value, str) and _TEXT.fullmatch(value):
        seconds = sum(float(number) * _UNITS_S[unit] for number, unit in _PART.findall(value))
    least = "0 or more" if zero else "more than 0"
    if seconds is None or not (0 <= seconds < float("inf")) or (seconds == 0 and not zero):
        raise SettingsError(
            f"{what}: expected {least} seconds (a number, a timedelta, or text such as '90s' or '1h30m'), got {value!r}"
        )
    return seconds
