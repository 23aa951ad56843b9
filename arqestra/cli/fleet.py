"""How everything stands at a moment, and what was counted over the last minutes: what `stats --watch` shows."""

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

__all__ = ("FIGURES", "Fleet", "History", "Rates", "read_fleet")

FIGURES = ("enqueued", "complete", "failed", "retried")
MAX_QUEUES = 50
FAILURES = 50
SPAN_S = 300.0  # that is shown
RECENT_S = 5.0  # over which "per second" is meant: workers write what they counted once a second


class Fleet(NamedTuple):
    """How everything stands.

    :ivar queues: the first ones by name
    :ivar queue_count: queues that there are
    :ivar failures: the latest first
    :ivar counted: all that was ever counted, by `FIGURES`
    """

    now_ms: int
    queues: list[QueueSurvey]
    queue_count: int
    workers: list[WorkerInfo]
    failures: list[EndedJob]
    counted: Mapping[str, int]

    @property
    def jobs(self) -> list[JobOnWorker]:
        """The jobs that run, the longest running first."""
        jobs = [job for worker in self.workers if worker.alive for job in worker.presence.jobs]
        return sorted(jobs, key=lambda job: job.since_ms)

    @property
    def running(self) -> int:
        """How many run."""
        return sum(worker.presence.running for worker in self.workers if worker.alive)


async def read_fleet(pool: Pool, chosen_queue: str | None) -> Fleet:
    """How it stands now.

    :param chosen_queue: look at this queue alone
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
    return Fleet(now_ms, found, len(names), workers, failures, _sums(totals, chosen_queue))


def _sums(counters: Mapping[str, int], queue: str | None) -> dict[str, int]:
    """Counters summed over queues and functions: `queue|function|figure` -> number."""
    sums = dict.fromkeys(FIGURES, 0)
    for field, number in counters.items():
        of_queue, _, figure = field.rsplit("|", 2)
        if figure in sums and queue in (None, of_queue):
            sums[figure] += number
    return sums


class Piece(NamedTuple):
    """What was counted in a piece of time."""

    start_s: float
    end_s: float
    counts: Mapping[str, int]


class Rates(NamedTuple):
    """Events per second.

    :ivar recent: in the last seconds
    :ivar course: over the last minutes, the latest last
    """

    recent: float
    course: list[float]


class History:
    """What was counted over the last five minutes.

    :param at_s: a moment
    :param counted: the counters then
    """

    def __init__(self, at_s: float, counted: Mapping[str, int]) -> None:
        self._pieces: deque[Piece] = deque()
        self._at_s, self._counted = at_s, counted

    async def begin(self, pool: Pool, chosen_queue: str | None) -> None:
        """Read what the workers wrote for each of the minutes before."""
        last_minute = int(self._at_s // 60)
        minutes = await read_minutes(pool.store.redis, pool.store.keys, last_minute, int(SPAN_S // 60) + 1)
        for minute, counters in sorted(minutes.items()):
            start_s, end_s = minute * 60, min(minute * 60 + 60, self._at_s)
            if end_s > start_s:
                self._pieces.append(Piece(start_s, end_s, _sums(counters, chosen_queue)))

    def add(self, at_s: float, counted: Mapping[str, int]) -> None:
        """The counters at a later moment."""
        if at_s <= self._at_s:
            return
        counts = {figure: max(0, counted[figure] - self._counted[figure]) for figure in FIGURES}
        self._pieces.append(Piece(self._at_s, at_s, counts))
        self._at_s, self._counted = at_s, counted
        while self._pieces[0].end_s < at_s - SPAN_S:
            self._pieces.popleft()

    def rates(self, figure: str, cells: int) -> Rates:
        """How often something happened.

        :param cells: pieces into which the last minutes are divided
        """
        now_s = self._at_s
        (recent,) = _spread(self._pieces, figure, now_s - RECENT_S, now_s, 1)
        return Rates(recent, _spread(self._pieces, figure, now_s - SPAN_S, now_s, cells))


def _spread(pieces: Iterable[Piece], figure: str, start_s: float, end_s: float, cells: int) -> list[float]:
    """Events per second in each of so many equal parts of a time."""
    length_s = (end_s - start_s) / cells
    found = [0.0] * cells
    for piece in pieces:
        count = piece.counts[figure]
        if not count or piece.end_s <= start_s:
            continue
        per_s = count / (piece.end_s - piece.start_s)
        first = max(0, int((piece.start_s - start_s) / length_s))
        last = min(cells - 1, int((piece.end_s - start_s) / length_s))
        for cell in range(first, last + 1):
            cell_start_s = start_s + cell * length_s
            overlap_s = min(piece.end_s, cell_start_s + length_s) - max(piece.start_s, cell_start_s)
            found[cell] += max(0.0, overlap_s) * per_s / length_s
    return found
