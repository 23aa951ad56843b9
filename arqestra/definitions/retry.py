"""When a failed attempt is retried, as a pure policy; and what a job may ask for itself: `Snooze`, `Cancel`.

arq's `Retry(defer=)` and `RetryJob` work beside a policy. What a job asks for wins.

The delays are those of "Exponential Backoff And Jitter" (AWS Architecture Blog, 2015). Full jitter draws from 0 to the
whole delay, equal jitter from half of it to the whole, and "none" takes the whole.
"""

import asyncio
import random
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any, Literal

from ..errors import RemoteError, SettingsError, SoftTimeLimitExceeded, loaded_class
from .durations import Duration, seconds_of

__all__ = ("Backoff", "Cancel", "Snooze", "leaves_of")

Jitter = Literal["full", "equal", "none"]
_JITTERS = ("full", "equal", "none")
ErrorTypes = type[BaseException] | Collection[type[BaseException]]
_MAX_S = 30 * 86_400.0  # a power of the factor that nobody meant; also keeps the arithmetic finite
_random = random.SystemRandom()  # worker processes are forks: from a copied generator all would draw the same delays


class Snooze(Exception):
    """Returned or raised by a job: run it again later; no attempt is counted.

    :param defer: seconds (or timedelta, or text such as "5m") until it is due again
    :raises SettingsError: not such a duration
    """

    def __init__(self, defer: Duration) -> None:
        super().__init__(defer)
        self.defer_s = seconds_of(defer, "Snooze: defer", zero=True)


class Cancel(Exception):
    """Returned or raised by a job that has no purpose any more. It ends as aborted, with the reason; it is not retried.

    :param reason: for whoever asks for the result
    """

    def __init__(self, reason: str = "") -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Backoff:
    """A retry policy: which errors are tried again, how often, and after how long.

    :param on: exceptions to retry; default every `Exception`
    :param unless: exceptions among them not to retry
    :param tries: attempts, the first included; default the function's or the worker's `max_tries`
    :param base: seconds before the first retry
    :param factor: by which the delay grows with each further one
    :param max: seconds that a delay has at most
    :param jitter: "full" (default), "equal" or "none"
    :raises SettingsError: an impossible value
    """

    on: ErrorTypes = (Exception,)
    unless: ErrorTypes = ()
    tries: int | None = None
    base: Duration = 10
    factor: float = 2.0
    max: Duration = 3600
    jitter: Jitter = "full"
    base_s: float = field(init=False, repr=False)
    max_s: float = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "on", _error_types(self.on, "on"))
        object.__setattr__(self, "unless", _error_types(self.unless, "unless"))
        if self.tries is not None and (
            not isinstance(self.tries, int) or isinstance(self.tries, bool) or self.tries < 1
        ):
            raise SettingsError(f"Backoff: tries: expected an int of at least 1, got {self.tries!r}")
        if not isinstance(self.factor, int | float) or isinstance(self.factor, bool) or not 1 <= self.factor <= 1000:
            raise SettingsError(f"Backoff: factor: expected a number from 1 to 1000, got {self.factor!r}")
        if self.jitter not in _JITTERS:
            raise SettingsError(f"Backoff: jitter: expected one of {', '.join(_JITTERS)}, got {self.jitter!r}")
        object.__setattr__(self, "base_s", seconds_of(self.base, "Backoff: base", zero=True))
        object.__setattr__(self, "max_s", min(seconds_of(self.max, "Backoff: max", zero=True), _MAX_S))

    def retries(self, error: BaseException) -> bool:
        """Whether the policy retries this error. It never retries a cancellation: somebody asked for that.

        It retries an exception group if it retries each error in it, or if `on` names a class of groups.
        """
        if isinstance(error, BaseExceptionGroup):
            leaves = leaves_of(error)
            named = any(issubclass(kind, BaseExceptionGroup) and isinstance(error, kind) for kind in _types(self.on))
            if _about(self.unless, error, *leaves):
                return False
            return named or all(self.retries(leaf) for leaf in leaves)
        if isinstance(error, asyncio.CancelledError | KeyboardInterrupt | SystemExit | GeneratorExit):
            return False
        if isinstance(error.__cause__, SoftTimeLimitExceeded):  # the attempt failed with a TimeoutError because of it
            return _about(self.on, error, error.__cause__) and not _about(self.unless, error, error.__cause__)
        return _about(self.on, error) and not _about(self.unless, error)

    def delay_s(self, attempt: int, source: random.Random = _random) -> float:
        """Seconds between an attempt that failed and the next.

        :param attempt: number of the attempt that failed, from 1
        :param source: of the jitter
        """
        try:
            whole = min(self.base_s * self.factor ** (attempt - 1), self.max_s)
        except OverflowError:
            whole = self.max_s
        if self.jitter == "full":
            return source.uniform(0, whole)
        return source.uniform(whole / 2, whole) if self.jitter == "equal" else whole


def _about(types: Any, *errors: BaseException) -> bool:
    return any(isinstance(error, types) or _stands_for(error, types) for error in errors)


def _stands_for(error: BaseException, types: Any) -> bool:
    """Whether it describes an error of these types that another process could not send as itself."""
    described = loaded_class(error.type_name) if isinstance(error, RemoteError) else None
    return described is not None and issubclass(described, types)


def leaves_of(group: BaseException) -> list[BaseException]:
    """The errors in a group, and in the groups in it; any other error is its own leaf."""
    if not isinstance(group, BaseExceptionGroup):
        return [group]
    return [leaf for each in group.exceptions for leaf in leaves_of(each)]


def _types(value: Any) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, tuple | list | set | frozenset) else (value,)


def _error_types(value: Any, what: str) -> tuple[type[BaseException], ...]:
    types = _types(value)
    for each in types:
        if not (isinstance(each, type) and issubclass(each, BaseException)):
            raise SettingsError(f"Backoff: {what}: expected exception classes, got {each!r}")
    return types
