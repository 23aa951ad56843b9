"""What the value of a setting or an option may be: in words, and as a check.

One rule has both, so that a message, docs/settings.md and the check itself never say different things. The tables that
use the rules: `worker/settings.py` for a worker's settings, `options.py` for the options of jobs, enqueues and pools.
"""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from ..errors import SettingsError
from .durations import LONGEST_S, TEXT_OR_SECONDS, is_seconds, plain_number, seconds_of
from .limits import concurrency_of, rate_of
from .redact import shown_value
from .unique import Debounce, Unique

__all__ = (
    "ACKS",
    "CALLABLE",
    "CALL_MORE_SECONDS",
    "CALL_SECONDS",
    "CONCURRENCY",
    "COUNT",
    "COUNT_OR_ZERO",
    "CRASHES",
    "DEBOUNCE",
    "DICT",
    "DUE_TIME",
    "DURATION",
    "EXECUTOR",
    "FLAG",
    "HEADERS",
    "HOOK",
    "HOOK_OF_ERROR",
    "KEEP_SECONDS",
    "LARGEST_INT",
    "LEASE_SECONDS",
    "MAX_CRASHES",
    "MAX_PRIORITY",
    "MEMORY",
    "MORE_SECONDS",
    "MS",
    "PORT",
    "PRIORITY",
    "RATE_LIMIT",
    "SECONDS",
    "TEXT",
    "UNIQUE",
    "Rule",
    "instance_of",
    "is_count",
    "is_int",
    "is_sequence",
    "is_text",
    "memory_bytes",
    "one_of",
)

LARGEST_INT = 2**31 - 1
MAX_PRIORITY = 9
MAX_CRASHES = 1_000  # an early acknowledgement counts as so many: `EARLY_CRASHES` in protocol/constants.py
FIRST_DUE_S, LAST_DUE_S = 0, 10**10 - LONGEST_S  # of the order of a queue: the priorities come after 10**13 ms
MB = 1024 * 1024
_MEMORY = re.compile(r"(\d+(?:\.\d+)?)\s*(KB|MB|GB|K|M|G)", re.IGNORECASE)


class Rule(NamedTuple):
    """What a value may be.

    :ivar expects: in words, with the unit, so that "expected ..., got ..." is a sentence
    :ivar accepts: whether a value is that; it never raises
    """

    expects: str
    accepts: Callable[[Any], bool]

    def check(self, what: str, value: Any) -> None:
        """Refuse a value that is something else.

        :param what: who was given it: the name of a setting, perhaps with a function's before it
        :raises SettingsError: names it, and says what was expected and what was got
        """
        if not self.accepts(value):
            raise SettingsError(f"{what}: expected {self.expects}, got {shown_value(value)}")


def is_int(value: Any) -> bool:
    """Whether it is an int; True and False are none."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_count(value: Any, least: int = 1) -> bool:
    """Whether it is an int of that size that every script and server can count up."""
    return is_int(value) and least <= value <= LARGEST_INT


def is_text(value: Any) -> bool:
    """Whether it is a str that can be the name of something in Redis."""
    if not isinstance(value, str) or not value:
        return False
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def is_sequence(value: Any) -> bool:
    """Whether it is a list, a tuple or the like. Text and bytes are meant as one thing."""
    return isinstance(value, Sequence) and not isinstance(value, str | bytes | bytearray)


def memory_bytes(value: Any) -> int:
    """Bytes of an int or of text such as "512MB" (1 MB is 1024 * 1024 bytes); 0 for anything else."""
    if is_int(value):
        return int(value)
    match = _MEMORY.fullmatch(value) if isinstance(value, str) else None
    return int(float(match[1]) * {"K": 1024, "M": MB, "G": 1024 * MB}[match[2][0].upper()]) if match else 0


def one_of(*values: str) -> Rule:
    """The rule for one of a few words."""
    return Rule(f"one of {', '.join(map(repr, values))}", lambda value: isinstance(value, str) and value in values)


def _makes(make: Callable[[Any], Any]) -> Callable[[Any], bool]:
    """Whether a function that checks its argument takes a value."""

    def accepts(value: Any) -> bool:
        try:
            make(value)
        except SettingsError:
            return False
        return True

    return accepts


def instance_of(kind: type, expects: str) -> Rule:
    """The rule for an object of a class."""
    return Rule(expects, lambda value: isinstance(value, kind))


def _is_due_time(value: Any) -> bool:
    if not isinstance(value, datetime):
        return False
    try:
        return FIRST_DUE_S <= value.timestamp() < LAST_DUE_S
    except (OverflowError, ValueError, OSError):
        return False


def _is_headers(value: Any) -> bool:
    return isinstance(value, Mapping) and all(isinstance(text, str) for pair in value.items() for text in pair)


FLAG = Rule("true or false", lambda value: isinstance(value, bool))
TEXT = Rule("a str of at least one character that UTF-8 can carry", is_text)
DICT = Rule("a dict", lambda value: isinstance(value, dict))
HEADERS = Rule("a dict of str to str", _is_headers)
CALLABLE = Rule("a callable", callable)
HOOK = Rule("an async function of ctx", callable)  # or what returns an awaitable, as a test's mock does
HOOK_OF_ERROR = Rule("an async function of (ctx, error)", callable)
COUNT = Rule("an int of at least 1 (below 2**31)", is_count)
COUNT_OR_ZERO = Rule("an int of at least 0 (below 2**31)", lambda value: is_count(value, 0))
CRASHES = Rule(f"an int of 1 to {MAX_CRASHES:,}", lambda value: is_count(value) and value <= MAX_CRASHES)
PORT = Rule("a port, 0 to 65535", lambda value: is_int(value) and 0 <= value <= 65535)
MEMORY = Rule("bytes of at least 1 MB, as an int or text such as '512MB'", lambda value: memory_bytes(value) >= MB)
MS = Rule("an int of ms, 0 or more, a century at most", lambda value: is_int(value) and 0 <= value <= LONGEST_S * 1000)

_TYPES = "(int, float or timedelta)"
SECONDS = Rule(f"0 or more seconds, a century at most {_TYPES}", lambda value: is_seconds(value, zero=True))
MORE_SECONDS = Rule(f"more than 0 seconds, a century at most {_TYPES}", lambda value: is_seconds(value, zero=False))
LEASE_SECONDS = Rule(
    f"at least 0.05 seconds, a century at most {_TYPES}", lambda value: is_seconds(value, zero=False, least_s=0.05)
)
KEEP_SECONDS = Rule(f"0 or more seconds {_TYPES}", lambda value: is_seconds(value, zero=True, most_s=math.inf))
# Of single calls, whose values come out of data: also a Decimal, or numpy's numbers.
CALL_SECONDS = Rule(SECONDS.expects, lambda value: is_seconds(plain_number(value), zero=True))
CALL_MORE_SECONDS = Rule(MORE_SECONDS.expects, lambda value: is_seconds(plain_number(value), zero=False))
DURATION = Rule(f"more than 0 seconds, {TEXT_OR_SECONDS}", _makes(lambda value: seconds_of(value, "")))
DUE_TIME = Rule("a datetime, from 1970 to 2186", _is_due_time)

PRIORITY = Rule(
    f"an int from 0 (default) to {MAX_PRIORITY} (most urgent)",
    lambda value: is_count(value, 0) and value <= MAX_PRIORITY,
)
RATE_LIMIT = Rule("a count and a period, such as '10/m' (s, m, h, d, also '10/5m'), or RateLimit(...)", _makes(rate_of))
CONCURRENCY = Rule("an int of at least 1 (a million at most), or ConcurrencyLimit(...)", _makes(concurrency_of))
UNIQUE = Rule("Unique(...) or True", lambda value: isinstance(value, bool | Unique))
DEBOUNCE = Rule(
    f"{DURATION.expects}, or Debounce(...)", lambda value: isinstance(value, Debounce) or DURATION.accepts(value)
)
ACKS = one_of("late", "early")
EXECUTOR = one_of("thread", "process")
