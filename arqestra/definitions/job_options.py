"""How one job function is to be run, beyond what arq's `Function` says. Checked where it is defined."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ..errors import SettingsError
from .durations import Duration, seconds_of
from .limits import ConcurrencyLimit, Entry, RateLimit, concurrency_entry, concurrency_of, rate_entry, rate_of
from .retry import Backoff
from .unique import Debounce, Lock, Unique

__all__ = ("MAX_PRIORITY", "JobOptions", "checked_priority")

MAX_PRIORITY = 9
Acks = Literal["late", "early"]
Executor = Literal["loop", "thread", "process"]
Hook = Callable[..., Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class JobOptions:
    """Options of a job function. See `job` for what each does.

    :ivar executor: "loop" of a coroutine function, "thread" or "process" of a plain one
    """

    soft_timeout_s: float | None = None
    retry: Backoff | None = None
    rate_limit: RateLimit | None = None
    concurrency: ConcurrencyLimit | None = None
    unique: Unique | None = None
    debounce: Debounce | None = None
    priority: int = 0
    expires_s: float | None = None
    acks: Acks = "late"
    executor: Executor = "loop"
    on_exhausted: Hook | None = None
    on_expired: Hook | None = None

    @classmethod
    def of(
        cls, *, is_async: bool, signature: inspect.Signature, timeout_s: float | None, **options: Any
    ) -> "JobOptions":
        """The options of `@job`, checked.

        :raises SettingsError: an impossible value, or options that exclude each other
        """
        soft_s = _seconds(options["soft_timeout"], "soft_timeout")
        if soft_s is not None and timeout_s is not None and soft_s >= timeout_s:
            raise SettingsError(
                f"@job: soft_timeout: expected less than timeout ({timeout_s:g} s), got {options['soft_timeout']!r}"
            )
        unique, debounce = options["unique"], options["debounce"]
        if unique is True:
            unique = Unique()
        if debounce is not None and not isinstance(debounce, Debounce):
            debounce = Debounce(debounce)
        if unique is not None and debounce is not None:
            raise SettingsError("@job: expected unique or debounce or neither, got both")
        _check_type("unique", unique, Unique, "Unique(...) or True")
        _check_type("retry", options["retry"], Backoff, "Backoff(...)")
        for hook in ("on_exhausted", "on_expired"):
            if options[hook] is not None and not callable(options[hook]):
                raise SettingsError(f"@job: {hook}: expected an async function, got {options[hook]!r}")
        return cls(
            soft_timeout_s=soft_s,
            retry=options["retry"],
            rate_limit=rate_of(options["rate_limit"]),
            concurrency=concurrency_of(options["concurrency"]),
            unique=None if unique is None else unique.over(signature),
            debounce=debounce,
            priority=checked_priority(options["priority"], "@job: priority"),
            expires_s=_seconds(options["expires"], "expires"),
            acks=_one_of("acks", options["acks"], ("late", "early")),
            executor=_executor(options["executor"], is_async=is_async),
            on_exhausted=options["on_exhausted"],
            on_expired=options["on_expired"],
        )

    def limits(self, function: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[Entry]:
        """The limits that a job falls under, as the scripts read them.

        :raises ArgumentsError: a key function failed
        """
        entries: list[Entry] = []
        if self.rate_limit is not None:
            entries.append(rate_entry(self.rate_limit, function, args, kwargs))
        if self.concurrency is not None:
            entries.append(concurrency_entry(self.concurrency, function, args, kwargs))
        return entries

    def lock(self, function: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Lock | None:
        """The lock that a job asks for when it is enqueued.

        :raises ArgumentsError: a key function failed
        """
        asks = self.unique or self.debounce
        return None if asks is None else asks.lock(function, args, kwargs)


def checked_priority(value: Any, what: str) -> int:
    """The priority, from 0 (default) to 9 (most urgent)."""
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_PRIORITY:
        return value
    raise SettingsError(f"{what}: expected an int from 0 (default) to {MAX_PRIORITY} (most urgent), got {value!r}")


def _seconds(value: Duration | None, what: str) -> float | None:
    return None if value is None else seconds_of(value, f"@job: {what}")


def _check_type(option: str, value: Any, expected: type, words: str) -> None:
    if value is not None and not isinstance(value, expected):
        raise SettingsError(f"@job: {option}: expected {words}, got {value!r}")


def _one_of(option: str, value: Any, allowed: tuple[str, ...]) -> Any:
    if value not in allowed:
        raise SettingsError(f"@job: {option}: expected one of {', '.join(map(repr, allowed))}, got {value!r}")
    return value


def _executor(value: Any, *, is_async: bool) -> Any:
    if is_async:
        if value not in (None, "loop"):
            raise SettingsError(
                f"@job: executor: expected none for a coroutine function, which runs in the event loop, got {value!r}; "
                "write it as a plain def to run it in a thread or a process"
            )
        return "loop"
    return _one_of("executor", value or "thread", ("thread", "process"))
