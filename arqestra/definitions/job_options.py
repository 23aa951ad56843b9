"""Options of a job function that arq's `Function` does not have, checked where the function is defined."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ..errors import SettingsError
from .durations import seconds_of
from .limits import ConcurrencyLimit, Entry, RateLimit, concurrency_entry, concurrency_of, rate_entry, rate_of
from .options import check_options
from .redact import shown_value
from .retry import Backoff
from .rules import ACKS, EXECUTOR, PRIORITY
from .unique import Debounce, Lock, Unique

__all__ = ("JobOptions",)

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
        cls, where: str, *, is_async: bool, signature: inspect.Signature, timeout_s: float | None, **options: Any
    ) -> "JobOptions":
        """The options of `@job`, checked.

        :param where: who was given them, for messages: "@job" or "@workflow"
        :raises SettingsError: an impossible value, or options that exclude each other
        """
        check_options(where, {name: value for name, value in options.items() if name != "executor"})
        PRIORITY.check(f"{where}: priority", options["priority"])
        ACKS.check(f"{where}: acks", options["acks"])
        soft_timeout, expires = options["soft_timeout"], options["expires"]
        soft_s = None if soft_timeout is None else seconds_of(soft_timeout, f"{where}: soft_timeout")
        if soft_s is not None and timeout_s is not None and soft_s >= timeout_s:
            raise SettingsError(
                f"{where}: soft_timeout: expected less than timeout ({timeout_s:g} s), got {shown_value(soft_timeout)}"
            )
        unique, debounce = options["unique"], options["debounce"]
        if unique is True:
            unique = Unique()
        if debounce is not None and not isinstance(debounce, Debounce):
            debounce = Debounce(debounce)
        if unique is not None and debounce is not None:
            raise SettingsError(f"{where}: expected unique or debounce or neither, got both")
        return cls(
            soft_timeout_s=soft_s,
            retry=options["retry"],
            rate_limit=rate_of(options["rate_limit"]),
            concurrency=concurrency_of(options["concurrency"]),
            unique=None if unique is None else unique.over(signature),
            debounce=debounce,
            priority=options["priority"],
            expires_s=None if expires is None else seconds_of(expires, f"{where}: expires"),
            acks=options["acks"],
            executor=_executor(where, options["executor"], is_async=is_async),
            on_exhausted=options["on_exhausted"],
            on_expired=options["on_expired"],
        )

    def limits(self, function: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[Entry]:
        """The limits that hold for a job, as the scripts read them.

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


def _executor(where: str, value: Any, *, is_async: bool) -> Any:
    if not is_async:
        EXECUTOR.check(f"{where}: executor", value or "thread")
        return value or "thread"
    if value not in (None, "loop"):
        raise SettingsError(
            f"{where}: executor: expected none for a coroutine function, which runs in the event loop, got "
            f"{shown_value(value)}; write it as a plain def to run it in a thread or a process"
        )
    return "loop"
