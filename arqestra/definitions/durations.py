"""Lengths of time as an option takes them: seconds, a timedelta, or text such as "90s" or "1h30m"."""

import re
from datetime import timedelta
from decimal import Decimal
from math import isfinite
from numbers import Real
from typing import Any

from arq.utils import to_ms, to_seconds

from ..errors import SettingsError
from .redact import shown_value

__all__ = ("LONGEST_S", "TEXT_OR_SECONDS", "Duration", "is_seconds", "keep_ms", "plain_number", "seconds_of")

Duration = int | float | timedelta | str

LONGEST_S = 36_525 * 86_400  # a century; in the queue, a later time would look like a parked workflow
LONGEST_KEEP_S = 100 * 365 * 86400  # Redis refuses much longer TTLs

TEXT_OR_SECONDS = "a century at most (a number, a timedelta, or text such as '90s' or '1h30m')"

_UNITS_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_TEXT = re.compile(rf"(?:{_PART.pattern})+")


def keep_ms(seconds: float | timedelta) -> int:
    """How many ms something is kept; a century at most."""
    return to_ms(min(to_seconds(seconds), LONGEST_KEEP_S))


def plain_number(value: Any) -> Any:
    """A number that may be numpy's, a Decimal or a Fraction, as a float. Anything else stays as it is."""
    if isinstance(value, int | float) or not isinstance(value, Real | Decimal):
        return value
    try:
        return float(value)
    except (ValueError, OverflowError):  # a signalling NaN; too large
        return value


def _is_seconds_type(value: Any) -> bool:
    """Whether it is a number of seconds or a timedelta, of whatever size."""
    return isinstance(value, int | float | timedelta) and not isinstance(value, bool)


def is_seconds(value: Any, *, zero: bool, least_s: float = 0, most_s: float = LONGEST_S) -> bool:
    """Whether it is a number of seconds, or a timedelta, that one can wait for: not nan, infinite or True.

    :param zero: whether it may be 0, or less than half a millisecond
    """
    if not _is_seconds_type(value):
        return False
    try:
        seconds = to_seconds(value)
        number = float(seconds)
    except OverflowError:
        return False
    return isfinite(number) and least_s <= number <= most_s and (zero or round(number * 1000) > 0)


def seconds_of(value: Any, what: str, *, zero: bool = False, most_s: float = LONGEST_S) -> float:
    """Seconds of a duration.

    :param value: a number of seconds, a timedelta, or text of numbers with the units ms, s, m, h and d
    :param what: the option's name, for the message
    :param zero: whether 0 is allowed
    :param most_s: the longest that is
    :raises SettingsError: anything else
    """
    seconds = value
    if isinstance(value, str) and _TEXT.fullmatch(value):
        seconds = sum(float(number) * _UNITS_S[unit] for number, unit in _PART.findall(value))
    if is_seconds(seconds, zero=zero, most_s=most_s):
        return float(to_seconds(seconds))
    least = "0 or more" if zero else "more than 0"
    raise SettingsError(f"{what}: expected {least} seconds, {TEXT_OR_SECONDS}, got {shown_value(value)}")
