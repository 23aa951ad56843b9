"""What options of jobs may be: one table for all ways in.

`@job`, `@workflow`, `func`, `cron`, `.options(...)`, `.set(...)`, the keywords of `enqueue_job` and `enqueue_flow`,
pools and workers ask here. So an impossible value is refused where somebody wrote it, and not when a job runs.
"""

from collections.abc import Callable, Mapping
from datetime import datetime
from functools import wraps
from typing import Any, NamedTuple

from arq.utils import import_string
from arq.worker import Function
from arq.worker import func as arq_func

from ..errors import SettingsError
from .durations import LONGEST_S, is_seconds, is_seconds_type, plain_number
from .job_options import MAX_PRIORITY
from .middleware import is_middleware
from .redact import shown_value

__all__ = ("LARGEST_INT", "check_enqueue", "check_options", "func", "is_count", "is_text")

LARGEST_INT = 2**31 - 1
FIRST_DUE_S, LAST_DUE_S = 0, 10**10 - LONGEST_S  # of the order of a queue: the priorities come after 10**13 ms


class _Rule(NamedTuple):
    """:ivar expects: in words, for the message
    :ivar most: what it may be at most, in words
    """

    expects: str
    accepts: Callable[[Any], bool]
    most: str = ""


def is_text(value: Any) -> bool:
    """Whether it is a str that can be the name of something in Redis."""
    if not isinstance(value, str) or not value:
        return False
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def is_count(value: Any, least: int = 1) -> bool:
    """Whether it is an int of that size that every script and server can count up."""
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= LARGEST_INT


def _is_due_time(value: Any) -> bool:
    if not isinstance(value, datetime):
        return False
    try:
        return FIRST_DUE_S <= value.timestamp() < LAST_DUE_S
    except (OverflowError, ValueError, OSError):
        return False


def _is_headers(value: Any) -> bool:
    return isinstance(value, Mapping) and all(isinstance(text, str) for pair in value.items() for text in pair)


def _is_priority(value: Any) -> bool:
    return is_count(value, 0) and value <= MAX_PRIORITY


_TEXT = _Rule("a str of at least one character that UTF-8 can carry", is_text)
_FLAG = _Rule("true or false", lambda value: isinstance(value, bool))
_COUNT = _Rule("an int of at least 1", is_count, " (below 2**31)")
# Of single calls, whose values come out of data.
_SECONDS = _Rule("0 or more seconds", lambda value: is_seconds(plain_number(value), zero=True), " (a century at most)")
_EXPIRY = _Rule(
    "more than 0 seconds", lambda value: is_seconds(plain_number(value), zero=False), " (a century at most)"
)
_MORE_SECONDS = _Rule("more than 0 seconds", lambda value: is_seconds(value, zero=False), " (a century at most)")
_KEPT = _Rule("0 or more seconds", lambda value: is_seconds(value, zero=True, most_s=float("inf")))
_RULES: dict[str, _Rule] = {
    **dict.fromkeys(("name", "queue", "job_id", "flow_id", "default_queue_name"), _TEXT),
    **dict.fromkeys(("keep_result_forever", "unique", "run_at_startup"), _FLAG),
    **dict.fromkeys(("max_tries", "max_payload_bytes"), _COUNT),
    "timeout": _MORE_SECONDS,
    "expires": _EXPIRY,
    "defer_by": _SECONDS,
    "keep_result": _KEPT,
    "defer_until": _Rule("a datetime, from 1970 to 2186", _is_due_time),
    "job_try": _Rule("an int of at least 0", lambda value: is_count(value, 0), " (below 2**31)"),
    "priority": _Rule(f"an int from 0 (default) to {MAX_PRIORITY} (most urgent)", _is_priority),
    "middleware": _Rule("a sequence of Middleware objects", is_middleware),
    "headers": _Rule("a dict of str to str", _is_headers),
    "expires_extra_ms": _Rule(
        "an int of ms, 0 or more",
        lambda value: isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= LONGEST_S * 1000,
        " (a century at most)",
    ),
}
_OF_TIME = (_SECONDS, _EXPIRY, _MORE_SECONDS, _KEPT)


def check_options(where: str, options: Mapping[str, Any]) -> None:
    """Refuse the first option whose value is impossible. None says nothing, and is always allowed.

    :param where: who was given them, for the message
    :raises SettingsError: says what was expected, and what was got
    """
    for name, value in options.items():
        if value is not None:
            _check(_RULES[name], f"{where}: {name}", value)
    if options.get("defer_by") is not None and options.get("defer_until") is not None:
        raise SettingsError(f"{where}: expected defer_by or defer_until or neither, got both")


def _check(rule: _Rule, what: str, value: Any) -> None:
    if rule.accepts(value):
        return
    expects = rule.expects
    if rule in _OF_TIME and not is_seconds_type(value):
        expects = "seconds (int, float or timedelta)"
    raise SettingsError(f"{what}: expected {expects}, got {shown_value(value)}{rule.most}")


def check_enqueue(defer_by: Any, defer_until: Any, expires: Any, priority: Any, job_try: Any) -> None:
    """As `check_options`, for one enqueue. As in arq a job may be deferred by less than nothing, which is at once, and
    `_expires=0` is the default.
    """
    if defer_by is not None and not is_seconds(plain_number(defer_by), zero=True, least_s=-LONGEST_S):
        _check(_SECONDS, "defer_by", defer_by)
    if defer_until is not None:
        _check(_RULES["defer_until"], "defer_until", defer_until)
    if expires is not None and not is_seconds(plain_number(expires), zero=True):
        _check(_EXPIRY, "expires", expires)
    _check(_RULES["priority"], "priority", priority)
    if job_try is not None:
        _check(_RULES["job_try"], "job_try", job_try)


def _with_checked_options(make: Callable[..., Function]) -> Callable[..., Function]:
    """arq's `func`, which refuses an impossible option."""

    @wraps(make)
    def func(coroutine: Any, **settings: Any) -> Function:
        check_options("func", {name: settings.get(name) for name in _OF_FUNC})
        target = import_string(coroutine) if isinstance(coroutine, str) else None
        return make(target if isinstance(target, Function) else coroutine, **settings)

    return func


_OF_FUNC = ("name", "timeout", "keep_result", "keep_result_forever", "max_tries")
func = _with_checked_options(arq_func)
