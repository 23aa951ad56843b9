"""Unique locks, one job of a kind at a time, whoever enqueues it; and debounce."""

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple

from ..errors import SettingsError
from .durations import Duration, seconds_of
from .limits import KeyFunction, key_text

__all__ = ("Debounce", "Lock", "Unique")

OnConflict = Literal["reject", "return", "replace"]
_CONFLICTS = ("reject", "return", "replace")


class Lock(NamedTuple):
    """The lock that one enqueue asks for, as `store/lua/enqueue.lua` reads it. Times in ms.

    :ivar name: function and key
    :ivar until: "started", "finished", or "" for `ttl_ms`
    :ivar max_wait_ms: of a debounce: how far it may put the job off in all; 0 without limit
    """

    name: str
    until: str
    on_conflict: str
    ttl_ms: int = 0
    max_wait_ms: int = 0


@dataclass(frozen=True, slots=True)
class Unique:
    """A lock that a job has from its enqueue on. A second enqueue meanwhile is refused, or returns the first job.

    `Pool.enqueue` and `enqueue_many` of the job function itself ask for it; an enqueue by name knows no function. A
    lock belongs to a job that has not ended: whatever ends the job frees the lock.

    :param key: a function of the job's arguments; default all of them
    :param until: "started" (its first attempt begins), "finished" (it has ended), or seconds from the enqueue
    :param on_conflict: "reject": None is returned; "return": the job that has the lock is returned; "replace": that
        job, if it has not started, gets these arguments and this due time and is returned; a running one is left alone,
        and None is returned
    :raises SettingsError: an impossible value
    """

    key: KeyFunction | None = None
    until: Literal["started", "finished"] | Duration = "finished"
    on_conflict: OnConflict = "reject"
    until_s: float = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if self.key is not None and not callable(self.key):
            raise SettingsError(f"Unique: key: expected a function of the job's arguments, got {self.key!r}")
        if self.on_conflict not in _CONFLICTS:
            raise SettingsError(
                f"Unique: on_conflict: expected one of {', '.join(_CONFLICTS)}, got {self.on_conflict!r}"
            )
        named = self.until in ("started", "finished")
        object.__setattr__(
            self,
            "until_s",
            0.0 if named else seconds_of(self.until, "Unique: until ('started', 'finished' or seconds)"),
        )

    def over(self, signature: inspect.Signature) -> "Unique":
        """The same, for the calls of one function.

        Without a key, two calls are the same if they give the function the same arguments: by position, by name or by
        default.
        """
        if self.key is not None:
            return self

        def every_argument(*args: Any, **kwargs: Any) -> Any:
            bound = signature.bind(None, *args, **kwargs)
            bound.apply_defaults()
            return list(bound.arguments.items())[1:]

        return replace(self, key=every_argument)

    def lock(self, function: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Lock:
        """The lock of one job.

        :raises ArgumentsError: the key function failed
        """
        name = f"{function}:{key_text(self.key, args, kwargs, f'Unique of {function}')}"
        until = "" if self.until_s else str(self.until)
        return Lock(name, until, self.on_conflict, round(self.until_s * 1000))


@dataclass(frozen=True, slots=True)
class Debounce:
    """Enqueues in quick succession become one run, with the last arguments, when there was quiet for a while.

    :param quiet: seconds without a further enqueue after which the job starts
    :param key: a function of the job's arguments; default one for all calls of the function
    :param max_wait: seconds after the first enqueue at which it starts in any case; default never
    :raises SettingsError: an impossible value
    """

    quiet: Duration
    key: KeyFunction | None = None
    max_wait: Duration | None = None
    quiet_s: float = field(init=False, repr=False)
    max_wait_s: float = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if self.key is not None and not callable(self.key):
            raise SettingsError(f"Debounce: key: expected a function of the job's arguments, got {self.key!r}")
        object.__setattr__(self, "quiet_s", seconds_of(self.quiet, "Debounce: quiet"))
        most = 0.0 if self.max_wait is None else seconds_of(self.max_wait, "Debounce: max_wait")
        if self.max_wait is not None and most < self.quiet_s:
            raise SettingsError(f"Debounce: max_wait: expected at least quiet ({self.quiet!r}), got {self.max_wait!r}")
        object.__setattr__(self, "max_wait_s", most)

    def lock(self, function: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Lock:
        """The lock of one job."""
        name = f"{function}:debounce:{key_text(self.key, args, kwargs, f'Debounce of {function}')}"
        return Lock(name, "started", "replace", 0, round(self.max_wait_s * 1000))
