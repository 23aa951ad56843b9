"""Searches for the jobs that a filter chooses: `jobs list` shows them, and bulk changes change the same ones."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple

from arq.jobs import DeserializationError

from ..client.pool import Pool
from ..handles.queue import DeadJob
from ..protocol.recent_jobs import EndedJob
from ..protocol.wire import decode_payload
from ..store.job_facts import results_kept
from ..store.queues import QueueEntry, browse
from .arguments import ShownArguments, shown
from .output import iso

__all__ = ("ENDED", "MAX_ENDED", "Ended", "JobRow", "Queued", "Search", "State", "find_ended")

Queued = Literal["queued", "deferred", "running", "held", "waiting"]
Ended = Literal["complete", "failed", "aborted", "expired", "retried"]
State = Literal[Queued, "dead", Ended]
ENDED = ("complete", "failed", "aborted", "expired", "retried")
MAX_INSPECTED = 10_000
MAX_ENDED = 10_000
DEAD_PER_READ = 200
PAGE = 500


@dataclass(frozen=True, slots=True)
class JobRow:
    """A job in a list.

    :ivar function: None if its payload does not decode with the serializer
    :ivar moment_ms: when it is or was due; of a dead one, when it died
    """

    id: str
    queue: str
    state: str
    function: str | None
    arguments: ShownArguments
    enqueued_ms: int | None
    moment_ms: int | None
    note: str = ""

    @classmethod
    def of_entry(cls, pool: Pool, queue: str, entry: QueueEntry) -> "JobRow":
        """The row of a job in a queue."""
        function, arguments, enqueued_ms, note = None, ShownArguments([], {}), None, ""
        if entry.payload is None:
            note = "its payload is gone"
        else:
            try:
                payload = decode_payload(pool.serializer, entry.payload)
                function, enqueued_ms = payload.function, payload.enqueued_ms
                arguments = shown(function, payload.args, payload.kwargs)
            except DeserializationError:
                note = _other_serializer(pool)
        return cls(
            id=entry.id,
            queue=queue,
            state=entry.state,
            function=function,
            arguments=arguments,
            enqueued_ms=enqueued_ms,
            moment_ms=entry.due_ms,
            note=note,
        )

    @classmethod
    def of_dead(cls, pool: Pool, dead: DeadJob) -> "JobRow":
        """The row of a job in the dead set."""
        arguments = shown(dead.function or "", dead.args, dead.kwargs)
        note = dead.reason if dead.function is not None else _other_serializer(pool)
        died_ms = int(dead.died.timestamp() * 1000)
        return cls(
            id=dead.job_id,
            queue=dead.queue,
            state="dead",
            function=dead.function,
            arguments=arguments,
            enqueued_ms=None,
            moment_ms=died_ms,
            note=note,
        )

    def document(self) -> dict[str, Any]:
        """The row as JSON."""
        return {
            "id": self.id,
            "queue": self.queue,
            "state": self.state,
            "function": self.function,
            "args": self.arguments.args,
            "kwargs": self.arguments.kwargs,
            "enqueued": iso(self.enqueued_ms),
            ("died" if self.state == "dead" else "due"): iso(self.moment_ms),
            "note": self.note or None,
        }


def _other_serializer(pool: Pool) -> str:
    return f"not {pool.serializer.name}: see --serializer"


class Search:
    """Searches one queue for jobs that have not ended, or are dead.

    :param function: the name of their function; None for any
    :param oldest_ms: enqueued (dead: died) then or later; None for any time
    :ivar inspected: entries that were read
    :ivar entries: entries that the queue has
    :ivar cut: not all entries were read
    """

    def __init__(self, pool: Pool, queue: str, function: str | None, oldest_ms: int | None) -> None:
        self._pool, self._queue = pool, queue
        self._function, self._oldest_ms = function, oldest_ms
        self.inspected = self.entries = 0
        self.cut = False

    async def queued(self, state: str, limit: int, max_inspected: int | None = MAX_INSPECTED) -> AsyncIterator[JobRow]:
        """The jobs in the queue itself.

        :param limit: how many rows the caller wants
        :param max_inspected: entries to read at most; None for all
        """
        seen: set[str] = set()
        payloads = limit + 1 if self._function is None and self._oldest_ms is None else MAX_INSPECTED
        # Running jobs have two places: those of our workers are the first that are not due, because leases are short;
        # those of stock workers are the first in the queue. -1 is where a state begins.
        for start in (-1, 0) if state == "running" else (-1 if state else 0,):
            position, budget = start, max_inspected
            while budget is None or budget > 0:
                page = await browse(self._pool.store, self._queue, state=state, place=position, payloads=payloads)
                self.entries = page.total
                self.inspected = max(self.inspected, page.next_place if page.next_place >= 0 else page.total)
                for entry in page.entries:
                    if entry.id not in seen:
                        seen.add(entry.id)
                        row = JobRow.of_entry(self._pool, self._queue, entry)
                        if self._fits(row.function, row.enqueued_ms):
                            yield row
                position = page.next_place
                budget = None if budget is None else budget - PAGE
                if position < 0:
                    break
            else:
                self.cut = True

    async def dead(self) -> AsyncIterator[JobRow]:
        """The jobs in its dead set, the latest first."""
        queue = self._pool.queue(self._queue)
        self.entries = await queue.dead_count()
        while jobs := await queue.dead(offset=self.inspected, limit=DEAD_PER_READ):
            for job in jobs:
                self.inspected += 1
                if self._oldest_ms is not None and job.died.timestamp() * 1000 < self._oldest_ms:
                    return
                if self._fits_dead(job):
                    yield JobRow.of_dead(self._pool, job)

    def _fits(self, function: str | None, enqueued_ms: int | None) -> bool:
        if self._function is not None and function != self._function:
            return False
        return self._oldest_ms is None or (enqueued_ms is not None and enqueued_ms >= self._oldest_ms)

    def _fits_dead(self, job: DeadJob) -> bool:
        return self._function is None or job.function == self._function


class EndedFound(NamedTuple):
    """Attempts that have ended, each with whether the result of its job is still kept.

    :ivar more: there are more, or there may be more because the search stopped
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
