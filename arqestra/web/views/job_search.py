"""Finds the jobs that a filter chooses: queue after queue, a bounded number of entries at a time.

It returns raw entries; `jobs.py` makes rows of them.
"""

import re
from collections.abc import AsyncIterator, Sequence
from typing import NamedTuple

from ...protocol.recent_jobs import ENDED_STATES, EndedJob
from ...store.job_facts import read_dead
from ...store.queues import QueueEntry, browse
from ...store.store import Store
from ..payload_view import peek
from .ended import EndedFilter, ended_page
from .job_query import JobFilter

__all__ = ("DeadEntry", "FoundJob", "FoundJobs", "search_jobs")

DEAD_PER_READ = 200
ENTRIES_PER_READ = 500


class DeadEntry(NamedTuple):
    """A job in the dead set: id, when it died (ms), its result."""

    id: str
    died_ms: int
    data: bytes


class FoundJob(NamedTuple):
    """A job that fits the filter, with its raw entry."""

    id: str
    queue: str
    entry: QueueEntry | DeadEntry | EndedJob


class FoundJobs(NamedTuple):
    """Jobs that fit the filter.

    :ivar next: cursor of the next page; "" if these were the last
    :ivar inspected: how many entries the search has read
    """

    jobs: list[FoundJob]
    next: str
    inspected: int


class _Cursor(NamedTuple):
    """Where a page begins.

    :ivar position: in the queue; -1 for where the state begins
    :ivar skip: entries to pass over from there
    """

    queue: str
    position: int
    skip: int

    def __str__(self) -> str:
        return f"{self.position}.{self.skip}@{self.queue}"


class _Search(NamedTuple):
    """What to search for, and where.

    :ivar payloads: whether to read the payloads of jobs in queues
    """

    store: Store
    chosen: JobFilter
    since_ms: int | None
    payloads: bool


# For each entry: the job if it fits, and the cursor of the page that begins with it.
_Rows = AsyncIterator[tuple[FoundJob | None, _Cursor]]


async def search_jobs(
    store: Store,
    queues: Sequence[str],
    chosen: JobFilter,
    *,
    now_ms: int,
    after: str = "",
    limit: int,
    max_inspected: int,
    payloads: bool = True,
) -> FoundJobs:
    """The jobs that fit a filter: the first due or the latest ended first.

    :param after: `next` of the page before
    :param limit: jobs to return at most
    :param max_inspected: entries to read, about
    :param payloads: whether to read the payloads of jobs in queues; a filter that needs them gets them anyway
    """
    since_ms = chosen.since(now_ms)
    if chosen.state in ENDED_STATES:
        ended = EndedFilter(
            state=chosen.state,
            function=chosen.function,
            id=chosen.id,
            error=chosen.error,
            place=chosen.place,
            since_ms=since_ms,
            before_ms=chosen.before_ms,
        )
        page = await ended_page(store, queues, ended, after=after, limit=limit, max_inspected=max_inspected)
        return FoundJobs([FoundJob(job.job_id, job.queue, job) for job in page.jobs], page.next, page.inspected)
    search = _Search(store, chosen, since_ms, payloads or chosen.needs_payloads)
    start = _cursor(after)
    jobs: list[FoundJob] = []
    inspected = 0
    for queue in queues:
        if start is not None and queue < start.queue:
            continue
        first = start if start is not None and queue == start.queue else _Cursor(queue, -1, 0)
        async for job, following in _dead(search, first) if chosen.state == "dead" else _queued(search, first):
            if len(jobs) == limit or inspected >= max_inspected:
                return FoundJobs(jobs, str(following), inspected)
            inspected += 1
            if job is not None:
                jobs.append(job)
    return FoundJobs(jobs, "", inspected)


def _cursor(after: str) -> _Cursor | None:
    """The cursor in a text; None, which is the beginning, if there is none."""
    match = re.fullmatch(r"(-1|\d{1,12})\.(\d{1,6})@(.+)", after, re.DOTALL)
    return None if match is None else _Cursor(match[3], int(match[1]), int(match[2]))


async def _queued(search: _Search, start: _Cursor) -> _Rows:
    """The jobs in one queue."""
    at = start
    while True:
        payloads = ENTRIES_PER_READ if search.payloads else 0
        found = await browse(search.store, at.queue, state=search.chosen.state, place=at.position, payloads=payloads)
        for number, entry in enumerate(found.entries[at.skip :], at.skip):
            fits = _entry_fits(entry, search)
            yield FoundJob(entry.id, at.queue, entry) if fits else None, at._replace(skip=number)
        if found.next_place < 0:
            return
        at = _Cursor(at.queue, found.next_place, 0)


def _entry_fits(entry: QueueEntry, search: _Search) -> bool:
    if search.chosen.id and search.chosen.id not in entry.id:
        return False
    if not search.chosen.needs_payloads:
        return True
    function, enqueued_ms = (None, None) if entry.payload is None else peek(entry.payload)
    return search.chosen.fits(function, enqueued_ms, search.since_ms)


async def _dead(search: _Search, start: _Cursor) -> _Rows:
    """The jobs in the dead set of one queue."""
    redis, keys = search.store.redis, search.store.keys
    position = max(0, start.position)
    while entries := await read_dead(redis, keys, start.queue, position, DEAD_PER_READ):
        for entry in (DeadEntry(*each) for each in entries):
            fits = search.chosen.id in entry.id
            if fits and search.chosen.needs_payloads:
                function = peek(entry.data)[0] if search.chosen.function else None
                fits = search.chosen.fits(function, entry.died_ms, search.since_ms)
            yield FoundJob(entry.id, start.queue, entry) if fits else None, _Cursor(start.queue, position, 0)
            position += 1
