"""The data of `stats --watch`: the fleet at one moment, and the counters of the last five minutes."""

import asyncio
from collections import deque
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from ..client.pool import Pool
from ..protocol.clock import timestamp_ms
from ..protocol.presence import JobOnWorker, WorkerInfo
from ..protocol.recent_jobs import EndedJob
from ..store.queues import QueueSurvey
from ..store.statistics import read_minutes, read_totals
from .queues import survey_or_none

__all__ = ("COUNTERS", "Fleet", "History", "Rates", "read_fleet")

COUNTERS = ("enqueued", "complete", "failed", "retried")
MAX_QUEUES = 50
FAILURES = 50
HISTORY_S = 300.0
RECENT_S = 5.0  # "per second" is the mean over this: workers write their counters once a second


class Fleet(NamedTuple):
    """The fleet at one moment.

    :ivar queues: the first ones by name
    :ivar queue_count: how many queues there are
    :ivar failures: the latest first
    :ivar counters: the totals since ever, by `COUNTERS`
    """

    now_ms: int
    queues: list[QueueSurvey]
    queue_count: int
    workers: list[WorkerInfo]
    failures: list[EndedJob]
    counters: Mapping[str, int]

    @property
    def jobs(self) -> list[JobOnWorker]:
        """The running jobs, the longest running first."""
        jobs = [job for worker in self.workers if worker.alive for job in worker.presence.jobs]
        return sorted(jobs, key=lambda job: job.since_ms)

    @property
    def running(self) -> int:
        """How many jobs run."""
        return sum(worker.presence.running for worker in self.workers if worker.alive)


async def read_fleet(pool: Pool, chosen_queue: str | None) -> Fleet:
    """Read the fleet now.

    :param chosen_queue: read only this queue
    """
    workers, used = await asyncio.gather(pool.workers(), pool.used_queues())
    names = sorted({*used, *(queue for worker in workers for queue in worker.presence.queues)})
    if chosen_queue is not None:
        names = [chosen_queue]
        workers = [worker for worker in workers if chosen_queue in worker.presence.queues]
    queues, failures, totals = await asyncio.gather(
        asyncio.gather(*(survey_or_none(pool, name) for name in names[:MAX_QUEUES])),
        pool.recent(state="failed", queue=chosen_queue, limit=FAILURES),
        read_totals(pool.store.redis, pool.store.keys),
    )
    now_ms = timestamp_ms() + pool.clock_offset_ms
    found = [each for each in queues if each is not None]
    return Fleet(
        now_ms=now_ms,
        queues=found,
        queue_count=len(names),
        workers=workers,
        failures=failures,
        counters=_sums(totals, chosen_queue),
    )


def _sums(fields: Mapping[str, int], queue: str | None) -> dict[str, int]:
    """Counters summed over queues and functions.

    :param fields: `queue|function|counter` -> number
    :param queue: only of this queue; None for all
    """
    sums = dict.fromkeys(COUNTERS, 0)
    for field, number in fields.items():
        of_queue, _, counter = field.rsplit("|", 2)
        if counter in sums and queue in (None, of_queue):
            sums[counter] += number
    return sums


class Interval(NamedTuple):
    """What was counted in an interval of time."""

    start_s: float
    end_s: float
    counts: Mapping[str, int]


class Rates(NamedTuple):
    """Events per second.

    :ivar recent: over the last seconds
    :ivar series: over the last minutes, the latest last
    """

    recent: float
    series: list[float]


class History:
    """The counters of the last five minutes.

    :param at_s: the time of the first snapshot, in seconds since the epoch
    :param counters: its counters
    """

    def __init__(self, at_s: float, counters: Mapping[str, int]) -> None:
        self._intervals: deque[Interval] = deque()
        self._at_s, self._counters = at_s, counters

    async def begin(self, pool: Pool, chosen_queue: str | None) -> None:
        """Read the counters that workers wrote for the minutes before."""
        last_minute = int(self._at_s // 60)
        minutes = await read_minutes(pool.store.redis, pool.store.keys, last_minute, int(HISTORY_S // 60) + 1)
        for minute, fields in sorted(minutes.items()):
            start_s, end_s = minute * 60, min(minute * 60 + 60, self._at_s)
            if end_s > start_s:
                self._intervals.append(Interval(start_s, end_s, _sums(fields, chosen_queue)))

    def add(self, at_s: float, counters: Mapping[str, int]) -> None:
        """Add the counters of a later snapshot."""
        if at_s <= self._at_s:
            return
        counts = {name: max(0, counters[name] - self._counters[name]) for name in COUNTERS}
        self._intervals.append(Interval(self._at_s, at_s, counts))
        self._at_s, self._counters = at_s, counters
        while self._intervals[0].end_s < at_s - HISTORY_S:
            self._intervals.popleft()

    def rates(self, counter: str, cells: int) -> Rates:
        """How often something happened per second.

        :param cells: into how many cells to divide the last minutes
        """
        now_s = self._at_s
        (recent,) = _spread(self._intervals, counter, now_s - RECENT_S, now_s, 1)
        return Rates(recent, _spread(self._intervals, counter, now_s - HISTORY_S, now_s, cells))


def _spread(intervals: Iterable[Interval], counter: str, start_s: float, end_s: float, cells: int) -> list[float]:
    """Events per second in each cell of a time that is divided into equal cells."""
    length_s = (end_s - start_s) / cells
    found = [0.0] * cells
    for interval in intervals:
        count = interval.counts[counter]
        if not count or interval.end_s <= start_s:
            continue
        per_s = count / (interval.end_s - interval.start_s)
        first = max(0, int((interval.start_s - start_s) / length_s))
        last = min(cells - 1, int((interval.end_s - start_s) / length_s))
        for cell in range(first, last + 1):
            cell_start_s = start_s + cell * length_s
            overlap_s = min(interval.end_s, cell_start_s + length_s) - max(interval.start_s, cell_start_s)
            found[cell] += max(0.0, overlap_s) * per_s / length_s
    return found
