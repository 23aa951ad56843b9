"""Which jobs a filter chooses: `jobs list` shows them, and bulk changes are made to the same ones."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Literal, NamedTuple

from ..client.pool import Pool
from ..handles.queue import DeadJob
from ..protocol.recent_jobs import EndedJob
from ..store.job_facts import results_kept
from ..store.queues import browse
from .job_view import Row

__all__ = ("ENDED", "MAX_ENDED", "Ended", "Queued", "Search", "State", "find_ended")

Queued = Literal["queued", "deferred", "running", "held", "waiting"]
Ended = Literal["complete", "failed", "aborted", "expired", "retried"]
State = Literal[Queued, "dead", Ended]
ENDED = ("complete", "failed", "aborted", "expired", "retried")
MAX_INSPECTED = 10_000
MAX_ENDED = 10_000
DEAD_PER_READ = 200
PAGE = 500


class Search:
    """Jobs of a queue that fit a filter and have not ended, or are dead.

    :param function: name of their function; None for any
    :param oldest_ms: enqueued (dead: died) then or later; None for any time
    :ivar looked_at: entries that were looked at
    :ivar entries: that there are
    :ivar cut: not all were looked at
    """

    def __init__(self, pool: Pool, queue: str, function: str | None, oldest_ms: int | None) -> None:
        self._pool, self._queue = pool, queue
        self._function, self._oldest_ms = function, oldest_ms
        self.looked_at = self.entries = 0
        self.cut = False

    async def queued(self, state: str, limit: int, most: int | None = MAX_INSPECTED) -> AsyncIterator[Row]:
        """Of the queue itself.

        :param limit: rows that are wanted
        :param most: entries to look at; None for all, however many there are
        """
        seen: set[str] = set()
        payloads = limit + 1 if self._function is None and self._oldest_ms is None else MAX_INSPECTED
        # Running jobs of ours are the first that are not due, since leases are short; those of stock workers are the
        # first in the queue. -1 is where a state begins.
        for start in (-1, 0) if state == "running" else (-1 if state else 0,):
            place, budget = start, most
            while budget is None or budget > 0:
                page = await browse(self._pool.store, self._queue, state=state, place=place, payloads=payloads)
                self.entries = page.total
                self.looked_at = max(self.looked_at, page.next_place if page.next_place >= 0 else page.total)
                for entry in page.entries:
                    if entry.id not in seen:
                        seen.add(entry.id)
                        row = Row.of_entry(self._pool, self._queue, entry)
                        if self._fits(row.function, row.enqueued_ms):
                            yield row
                place = page.next_place
                budget = None if budget is None else budget - PAGE
                if place < 0:
                    break
            else:
                self.cut = True

    async def dead(self) -> AsyncIterator[Row]:
        """Of its dead set, the latest first."""
        queue = self._pool.queue(self._queue)
        self.entries = await queue.dead_count()
        while jobs := await queue.dead(offset=self.looked_at, limit=DEAD_PER_READ):
            for job in jobs:
                self.looked_at += 1
                if self._oldest_ms is not None and job.died.timestamp() * 1000 < self._oldest_ms:
                    return
                if self._fits_dead(job):
                    yield Row.of_dead(self._pool, job)

    def _fits(self, function: str | None, enqueued_ms: int | None) -> bool:
        if self._function is not None and function != self._function:
            return False
        return self._oldest_ms is None or (enqueued_ms is not None and enqueued_ms >= self._oldest_ms)

    def _fits_dead(self, job: DeadJob) -> bool:
        return self._function is None or job.function == self._function


class EndedFound(NamedTuple):
    """Attempts that have ended, and of each whether its job's result is still kept.

    :ivar more: there are more, or may be, since no more are read
    """

    jobs: list[tuple[EndedJob, bool]]
    more: bool


async def find_ended(
    pool: Pool, state: str, *, queue: str | None, function: str | None, oldest_ms: int | None, limit: int
) -> EndedFound:
    """The newest attempts that ended in a state, from the lists of recent jobs.

    :param queue: None for all queues
    """
    since = None if oldest_ms is None else datetime.fromtimestamp(oldest_ms / 1000, UTC)
    found = await pool.recent(state=state, function=function, queue=queue, since=since, limit=min(limit + 1, MAX_ENDED))
    jobs = found[:limit]
    kept = await results_kept(pool.store, [(job.queue, job.job_id) for job in jobs])
    return EndedFound(list(zip(jobs, kept, strict=True)), len(found) in (limit + 1, MAX_ENDED))
