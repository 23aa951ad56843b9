"""What options of jobs may be: one table for all ways in.

`@job`, `@workflow`, `func`, `cron`, `.options(...)`, `.set(...)`, and the keywords of `enqueue_job` and `enqueue_flow`
ask here. So an impossible value is refused where somebody wrote it, and not when a job runs. A function's signature has
the names, types and defaults of its options, and its docstring says what each does. docs/settings.md is made of all
three.
"""

from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any

from arq.utils import import_string
from arq.worker import Function
from arq.worker import func as arq_func

from ..errors import SettingsError
from .durations import LONGEST_S, is_seconds, plain_number
from .retry import Backoff
from .rules import (
    ACKS,
    CALL_MORE_SECONDS,
    CALL_SECONDS,
    CONCURRENCY,
    COUNT,
    COUNT_OR_ZERO,
    DEBOUNCE,
    DUE_TIME,
    DURATION,
    EXECUTOR,
    FLAG,
    HEADERS,
    HOOK,
    HOOK_OF_ERROR,
    KEEP_SECONDS,
    MORE_SECONDS,
    PRIORITY,
    RATE_LIMIT,
    TEXT,
    UNIQUE,
    Rule,
    instance_of,
    one_of,
)

__all__ = ("check_enqueue", "check_options", "func", "rule_of")

_RULES: dict[str, Rule] = {
    **dict.fromkeys(("name", "queue", "queue_name", "job_id", "flow_id"), TEXT),
    "timeout": MORE_SECONDS,
    "soft_timeout": DURATION,
    "keep_result": KEEP_SECONDS,
    "keep_result_forever": FLAG,
    "max_tries": COUNT,
    "job_try": COUNT_OR_ZERO,
    "retry": instance_of(Backoff, "Backoff(...)"),
    "rate_limit": RATE_LIMIT,
    "concurrency": CONCURRENCY,
    "unique": UNIQUE,
    "debounce": DEBOUNCE,
    "priority": PRIORITY,
    "expires": CALL_MORE_SECONDS,
    "defer_by": CALL_SECONDS,
    "defer_until": DUE_TIME,
    "headers": HEADERS,
    "acks": ACKS,
    "executor": EXECUTOR,
    "on_exhausted": HOOK_OF_ERROR,
    "on_expired": HOOK,
    "on_failure": one_of("fail", "continue"),
}
# Where a name means something else than elsewhere, by who takes it.
_RULES_OF: dict[str, dict[str, Rule]] = {
    "@job": {"expires": DURATION},
    "@workflow": {"expires": DURATION, "timeout": DURATION},
    "cron": {"unique": FLAG, "run_at_startup": FLAG},
    "apply_async": {"countdown": CALL_SECONDS, "eta": DUE_TIME, "task_id": TEXT},
}


def rule_of(where: str, name: str) -> Rule | None:
    """The rule of an option; None if its values are not judged here.

    :param where: who takes it: "@job", "cron", ...
    """
    return _RULES_OF.get(where, _RULES).get(name) or _RULES.get(name)


def check_options(where: str, options: Mapping[str, Any]) -> None:
    """Refuse the first option whose value is impossible. None means "not given".

    :param where: who got the options, for the message
    :raises SettingsError: says what was expected, and what was got
    """
    for name, value in options.items():
        if value is not None:
            rule = rule_of(where, name)
            assert rule is not None, name
            rule.check(f"{where}: {name}", value)
    if options.get("defer_by") is not None and options.get("defer_until") is not None:
        raise SettingsError(f"{where}: expected defer_by or defer_until or neither, got both")


def check_enqueue(defer_by: Any, defer_until: Any, expires: Any, priority: Any, job_try: Any) -> None:
    """Check the options of one enqueue.

    As in arq, a job may be deferred by a negative time, which means at once, and `_expires=0` means the default.
    """
    if defer_by is not None and not is_seconds(plain_number(defer_by), zero=True, least_s=-LONGEST_S):
        CALL_SECONDS.check("defer_by", defer_by)
    if defer_until is not None:
        DUE_TIME.check("defer_until", defer_until)
    if expires is not None and not is_seconds(plain_number(expires), zero=True):
        CALL_MORE_SECONDS.check("expires", expires)
    PRIORITY.check("priority", priority)
    if job_try is not None:
        COUNT_OR_ZERO.check("job_try", job_try)


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
