"""What a scheduler remembers of its schedules: their definitions, and which it cannot fire for a while."""

import time
from typing import NamedTuple

from ..store.schedule_records import DueSchedule
from .definition import Schedule

__all__ = ("KnownSchedule", "KnownSchedules", "Postponements")

FORGET_S = 600.0  # a definition that was not used for so long is read again
FIRST_BACKOFF_S, MAX_BACKOFF_S = 1.0, 60.0


class KnownSchedule(NamedTuple):
    """A schedule as it was read.

    :ivar rev: its revision in Redis; a change makes a new one
    :ivar extra: priority, limits and lock of its jobs, encoded
    """

    rev: str
    schedule: Schedule
    extra: bytes


class KnownSchedules:
    """Definitions that were read, until they change, or until nobody uses them any more.

    There are two generations: every ten minutes the older one is dropped. What is used moves into the younger one.
    """

    def __init__(self) -> None:
        self._young: dict[str, KnownSchedule] = {}
        self._old: dict[str, KnownSchedule] = {}
        self._turned_s = time.monotonic()

    def recall(self, due: DueSchedule) -> KnownSchedule | None:
        """The definition of a due schedule; None if it is not known, or has changed since it was read."""
        old = self._old.pop(due.name, None)
        known = self._young.get(due.name) or old
        if known is None or known.rev != due.rev:
            return None
        self._young[due.name] = known
        return known

    def add(self, name: str, known: KnownSchedule) -> None:
        """Remember a definition."""
        self._young[name] = known

    def function_of(self, name: str) -> str | None:
        """The function of a schedule that was just fired."""
        known = self._young.get(name)
        return None if known is None else known.schedule.function

    def forget_unused(self) -> bool:
        """Every ten minutes, forget what was not used since the last time; returns whether it was time to."""
        if time.monotonic() - self._turned_s <= FORGET_S:
            return False
        self._turned_s = time.monotonic()
        self._old, self._young = self._young, {}
        return True


class Postponed(NamedTuple):
    """A schedule that could not be fired here: at which revision, until when it waits (s), and for how long."""

    rev: str
    until_s: float
    backoff_s: float


class Postponements:
    """The schedules that could not be fired here. Each is left to others for a while, longer each time."""

    def __init__(self) -> None:
        self._postponed: dict[str, Postponed] = {}

    def __bool__(self) -> bool:
        return bool(self._postponed)

    def has(self, due: DueSchedule) -> bool:
        """Whether a schedule still waits. A change of its definition ends that."""
        postponed = self._postponed.get(due.name)
        return postponed is not None and postponed.rev == due.rev and time.monotonic() < postponed.until_s

    def add(self, due: DueSchedule) -> float:
        """Postpone a schedule, and return for how many seconds."""
        before = self._postponed.get(due.name)
        if before is None or before.rev != due.rev:
            backoff_s = FIRST_BACKOFF_S
        else:
            backoff_s = min(MAX_BACKOFF_S, before.backoff_s * 2)
        self._postponed[due.name] = Postponed(due.rev, time.monotonic() + backoff_s, backoff_s)
        return backoff_s

    def remove(self, name: str) -> None:
        """A schedule was fired."""
        self._postponed.pop(name, None)

    def forget_past(self) -> None:
        """Forget those that do not wait any more."""
        now_s = time.monotonic()
        self._postponed = {name: each for name, each in self._postponed.items() if each.until_s > now_s}
