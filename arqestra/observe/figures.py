"""The figures of worker processes: what each has counted since it started, and how it is.

A supervisor adds up those of its processes. What a process told counts as long as the supervisor lives, also after the
process was replaced or killed: so the sums never go down. Figures belong to a *place*, the post that a process stands
at: its successor goes on with the same labels, and there are no more of them than there are posts.
"""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from ..protocol.presence import Presence, WorkerInfo

__all__ = (
    "EVERY_S",
    "Counters",
    "ProcessFigures",
    "ProcessSums",
    "WorkerFigures",
    "added",
    "figures_of_place",
    "figures_of_worker",
)

EVERY_S = 1.0  # how often a process tells
Counters = Mapping[str, int]


class ProcessFigures(NamedTuple):
    """What one process tells.

    :ivar counters: all that it has counted: field of the statistics -> number
    :ivar presence: how it is, without its jobs
    """

    counters: Counters
    presence: Presence


@dataclass(frozen=True, slots=True)
class WorkerFigures:
    """A worker as metrics show it.

    :ivar worker: its id in the fleet; of a process its place under the supervisor
    :ivar alive: it was heard of a moment ago; of a place: a process stands there
    :ivar stopped: it does not live because it was told to end, and nobody is to miss it
    :ivar draining: it takes no more jobs
    :ivar cut_off_s: how long Redis has not answered it; None where only the worker itself knows
    :ivar seen_s: when it was last heard of, seconds since the epoch; None if that is not known
    :ivar pids: its processes: two while one relieves the other
    """

    worker: str
    alive: bool
    stopped: bool = False
    host: str = ""
    version: str = ""
    pids: tuple[int, ...] = ()
    slots: int = 0
    running: int = 0
    waiting: int = 0
    draining: bool = False
    rss_bytes: int = 0
    cpu_s: float = 0.0
    lag_s: float = 0.0
    redis_errors: int = 0
    cut_off_s: float | None = None
    started_s: float | None = None
    seen_s: float | None = None


def added(parts: Iterable[Counters]) -> dict[str, int]:
    """Counters added up by field."""
    sums: dict[str, int] = {}
    for counters in parts:
        for name, number in counters.items():
            sums[name] = sums.get(name, 0) + number
    return sums


def figures_of_worker(info: WorkerInfo) -> WorkerFigures:
    """A worker of the registry."""
    presence = info.presence
    return WorkerFigures(
        worker=info.worker_id,
        alive=info.alive,
        host=presence.host,
        version=presence.version,
        pids=(presence.pid,),
        slots=presence.slots,
        running=presence.running,
        waiting=presence.waiting,
        draining=presence.draining,
        rss_bytes=presence.rss_bytes,
        cpu_s=presence.cpu_s,
        lag_s=presence.lag_ms / 1000,
        redis_errors=presence.redis_errors,
        started_s=presence.started_ms / 1000,
        seen_s=info.seen.timestamp(),
    )


@dataclass(slots=True)
class Told:
    """What a process has told so far."""

    place: int
    heard_s: float
    counters: dict[str, int] = field(default_factory=dict)
    presence: Presence | None = None


class ProcessSums:
    """The figures of all processes of a supervisor.

    :param places: how many posts it has
    :param host: on which it runs, and they
    :param clock: seconds, monotonic
    """

    def __init__(self, places: int, host: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._host = host
        self._clock = clock
        self._living: dict[int, Told] = {}  # by process id
        self._left: dict[str, int] = {}  # counters of those that have ended
        self._left_cpu_s = [0.0] * places
        self._left_errors = [0] * places
        self._stopped: set[int] = set()

    def hear(self, place: int, pid: int, counters: Counters, presence: Presence | None) -> None:
        """A process tells.

        :param counters: those that have changed since it told before
        :param presence: None: it comes with the next message
        """
        told = self._living.setdefault(pid, Told(place, self._clock()))
        told.heard_s = self._clock()
        told.counters.update(counters)
        told.presence = presence or told.presence

    def ended(self, pid: int) -> None:
        """A process has ended: what it counted stays counted."""
        told = self._living.pop(pid, None)
        if told is None:
            return
        self._left = added([self._left, told.counters])
        if told.presence is not None:
            self._left_cpu_s[told.place] += told.presence.cpu_s
            self._left_errors[told.place] += told.presence.redis_errors

    def stopped(self, place: int) -> None:
        """Nobody is to stand at this place any more."""
        self._stopped.add(place)

    def counters(self) -> Counters:
        """Everything that was counted, by those that run and those that have ended."""
        return added([self._left, *(told.counters for told in self._living.values())])

    def workers(self) -> list[WorkerFigures]:
        """Each place."""
        return [self._at(place) for place in range(len(self._left_cpu_s))]

    def _at(self, place: int) -> WorkerFigures:
        told = [each for each in self._living.values() if each.place == place and each.presence is not None]
        silent_s = min((self._clock() - each.heard_s for each in told), default=0.0)
        return figures_of_place(
            str(place),
            self._host,
            [each.presence for each in told if each.presence is not None],
            silent_s=silent_s,
            left_cpu_s=self._left_cpu_s[place],
            left_errors=self._left_errors[place],
            stopped=place in self._stopped,
        )


def figures_of_place(
    name: str,
    host: str,
    presences: Iterable[Presence],
    *,
    silent_s: float = 0.0,
    left_cpu_s: float = 0.0,
    left_errors: int = 0,
    stopped: bool = False,
) -> WorkerFigures:
    """A place: what its processes hold together. The newest one counts for what there is one of.

    :param host: the same at all times, whoever stands there: labels of counters must not change
    :param silent_s: since one of them last told: a loop that is blocked tells nothing, and is as late as that
    :param left_cpu_s, left_errors: of the processes that stood there before
    :param stopped: nobody is to stand there any more
    """
    by_age = sorted(presences, key=lambda presence: presence.started_ms)
    if not by_age:
        return WorkerFigures(name, False, stopped, host, cpu_s=left_cpu_s, redis_errors=left_errors)
    newest = by_age[-1]
    return WorkerFigures(
        worker=name,
        alive=True,
        host=host,
        version=newest.version,
        pids=tuple(presence.pid for presence in by_age),
        slots=newest.slots,
        running=sum(presence.running for presence in by_age),
        waiting=sum(presence.waiting for presence in by_age),
        draining=newest.draining,
        rss_bytes=sum(presence.rss_bytes for presence in by_age),
        cpu_s=left_cpu_s + sum(presence.cpu_s for presence in by_age),
        lag_s=max(newest.lag_ms / 1000, silent_s - EVERY_S, 0.0),
        redis_errors=left_errors + sum(presence.redis_errors for presence in by_age),
        cut_off_s=max(presence.cut_off_s for presence in by_age),
        started_s=newest.started_ms / 1000,
    )
