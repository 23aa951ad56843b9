"""The metrics of worker processes: what each has counted since it started, and its state.

A supervisor adds up the metrics of its processes. What a process reported counts as long as the supervisor lives, also
after the process was replaced or killed: so the sums never go down. Each process has a *position* under its supervisor.
Its successor takes the same position, and so the same labels: a restart adds no new series to Prometheus.
"""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from ..protocol.presence import Presence, WorkerInfo

__all__ = (
    "REPORT_EVERY_S",
    "Counters",
    "ProcessMetrics",
    "ProcessTotals",
    "WorkerMetrics",
    "metrics_of_position",
    "metrics_of_worker",
    "sum_counters",
)

REPORT_EVERY_S = 1.0
Counters = Mapping[str, int]


class ProcessMetrics(NamedTuple):
    """What one process reports.

    :ivar counters: all that it has counted: field of the statistics -> number
    :ivar presence: its state, without its jobs
    """

    counters: Counters
    presence: Presence


@dataclass(frozen=True, slots=True)
class WorkerMetrics:
    """A worker as metrics show it.

    :ivar worker: its id in the fleet; for a supervised process its position
    :ivar alive: the worker reported a moment ago; for a position: a process has it
    :ivar stopped: it was told to end, so that it does not run is no fault
    :ivar draining: it takes no more jobs
    :ivar cut_off_s: how long Redis has not answered it; None where only the worker itself knows
    :ivar seen_s: when it last reported, in seconds since the epoch; None if that is not known
    :ivar pids: its processes: two while one replaces the other
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


def sum_counters(parts: Iterable[Counters]) -> dict[str, int]:
    """Counters added up by field."""
    sums: dict[str, int] = {}
    for counters in parts:
        for name, number in counters.items():
            sums[name] = sums.get(name, 0) + number
    return sums


def metrics_of_worker(info: WorkerInfo) -> WorkerMetrics:
    """The metrics of a worker in the registry."""
    presence = info.presence
    return WorkerMetrics(
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
class _Reported:
    """What a process has reported so far."""

    position: int
    at_s: float
    counters: dict[str, int] = field(default_factory=dict)
    presence: Presence | None = None


class ProcessTotals:
    """The metrics of all processes of a supervisor.

    :param positions: how many processes it keeps running
    :param host: on which they run
    :param clock: seconds, monotonic
    """

    def __init__(self, positions: int, host: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._host = host
        self._clock = clock
        self._running: dict[int, _Reported] = {}  # by process id
        self._ended: dict[str, int] = {}  # counters of the processes that have ended
        self._ended_cpu_s = [0.0] * positions
        self._ended_errors = [0] * positions
        self._stopped: set[int] = set()

    def report(self, position: int, pid: int, counters: Counters, presence: Presence | None) -> None:
        """A process reports.

        :param counters: those that have changed since its last report
        :param presence: None if it comes with the next report
        """
        reported = self._running.setdefault(pid, _Reported(position, self._clock()))
        reported.at_s = self._clock()
        reported.counters.update(counters)
        reported.presence = presence or reported.presence

    def process_ended(self, pid: int) -> None:
        """Keep what a process has counted: it has ended."""
        reported = self._running.pop(pid, None)
        if reported is None:
            return
        self._ended = sum_counters([self._ended, reported.counters])
        if reported.presence is not None:
            self._ended_cpu_s[reported.position] += reported.presence.cpu_s
            self._ended_errors[reported.position] += reported.presence.redis_errors

    def position_stopped(self, position: int) -> None:
        """The supervisor runs no process at this position any more."""
        self._stopped.add(position)

    def counters(self) -> Counters:
        """Everything that was counted, also by processes that have ended."""
        return sum_counters([self._ended, *(reported.counters for reported in self._running.values())])

    def workers(self) -> list[WorkerMetrics]:
        """The metrics of each position."""
        return [self._at(position) for position in range(len(self._ended_cpu_s))]

    def _at(self, position: int) -> WorkerMetrics:
        here = [each for each in self._running.values() if each.position == position and each.presence is not None]
        silent_s = min((self._clock() - each.at_s for each in here), default=0.0)
        return metrics_of_position(
            str(position),
            self._host,
            [each.presence for each in here if each.presence is not None],
            silent_s=silent_s,
            ended_cpu_s=self._ended_cpu_s[position],
            ended_errors=self._ended_errors[position],
            stopped=position in self._stopped,
        )


def metrics_of_position(
    name: str,
    host: str,
    presences: Iterable[Presence],
    *,
    silent_s: float = 0.0,
    ended_cpu_s: float = 0.0,
    ended_errors: int = 0,
    stopped: bool = False,
) -> WorkerMetrics:
    """The metrics of a position: its processes together. Where only one value makes sense, the newest process gives it.

    :param host: always the same, whichever process has the position: the labels of a counter must not change
    :param silent_s: since the last report. A process whose loop is blocked reports nothing: its lag is at least this
    :param ended_cpu_s, ended_errors: of the processes that had the position before
    :param stopped: the supervisor runs no process here any more
    """
    by_age = sorted(presences, key=lambda presence: presence.started_ms)
    if not by_age:
        return WorkerMetrics(name, False, stopped, host, cpu_s=round(ended_cpu_s, 2), redis_errors=ended_errors)
    newest = by_age[-1]
    return WorkerMetrics(
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
        # Rounded, as the parts are: in another order the sum of floats may be less, and a counter must not fall.
        cpu_s=round(ended_cpu_s + sum(presence.cpu_s for presence in by_age), 2),
        lag_s=max(newest.lag_ms / 1000, silent_s - REPORT_EVERY_S, 0.0),
        redis_errors=ended_errors + sum(presence.redis_errors for presence in by_age),
        cut_off_s=max(presence.cut_off_s for presence in by_age),
        started_s=newest.started_ms / 1000,
    )
