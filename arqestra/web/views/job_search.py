"""Gathering the jobs of a state, queue after queue, a bounded piece at a time. What is shown of each is made later."""

import re
from collections.abc import AsyncIterator, Sequence
from typing import NamedTuple

from ...protocol.recent_jobs import ENDED_STATES, EndedJob
from ...store.dead import read_dead
from ...store.look import QueueEntry, browse
from ...store.store import Store
from ..payload_view import glance
from .ended import EndedFilter, ended_page
from .job_query import JobFilter

__all__ = ("DeadEntry", "Found", "Gathered", "gather")

DEAD_PER_READ = 200
PIECE = 500  # entries of a queue that are looked at at once


class DeadEntry(NamedTuple):
    """A job in the dead set: id, when it died (ms), its result."""

    id: str
    died_ms: int
    data: bytes


class Found(NamedTuple):
    """A job that fits, as it was found."""

    id: str
    queue: str
    entry: QueueEntry | DeadEntry | EndedJob


class Gathered(NamedTuple):
    """Jobs that fit.

    :ivar next: where to go on; "" if these were the last
    :ivar looked_at: entries that were looked at
    """

    jobs: list[Found]
    next: str
    looked_at: int


class _Cursor(NamedTuple):
    """Where a page begins: a queue, a place in it (-1 for where the state begins), entries to pass over."""

    queue: str
    place: int
    skip: int

    def __str__(self) -> str:
        return f"{self.place}.{self.skip}@{self.queue}"


class _Look(NamedTuple):
    """What is looked for.

    :ivar payloads: whether they are wanted of jobs in queues
    """

    store: Store
    chosen: JobFilter
    since_ms: int | None
    payloads: bool


# Of each entry that was looked at, the job if it fits, and the cursor at which it is the first.
_Rows = AsyncIterator[tuple[Found | None, _Cursor]]


async def gather(
    store: Store,
    queues: Sequence[str],
    chosen: JobFilter,
    *,
    now_ms: int,
    after: str = "",
    limit: int,
    look_at: int,
    payloads: bool = True,
) -> Gathered:
    """Jobs that fit, the first due or the latest ended first.

    :param after: `next` of the jobs before
    :param limit: jobs to return at most
    :param look_at: entries to look at, about
    :param payloads: whether they are wanted of jobs in queues; a filter that needs them has them anyway
    """
    since_ms = chosen.since(now_ms)
    if chosen.state in ENDED_STATES:
        ended = EndedFilter(
            *(chosen.state, chosen.function, chosen.id, chosen.error, chosen.place),
            *(since_ms, chosen.before_ms),
        )
        page = await ended_page(store, queues, ended, after, limit, look_at)
        return Gathered([Found(job.job_id, job.queue, job) for job in page.jobs], page.next, page.looked_at)
    look = _Look(store, chosen, since_ms, payloads or chosen.needs_payloads)
    start = _cursor(after)
    jobs: list[Found] = []
    looked_at = 0
    for queue in queues:
        if start is not None and queue < start.queue:
            continue
        first = start if start is not None and queue == start.queue else _Cursor(queue, -1, 0)
        async for job, following in _dead(look, first) if chosen.state == "dead" else _queued(look, first):
            if len(jobs) == limit or looked_at >= look_at:
                return Gathered(jobs, str(following), looked_at)
            looked_at += 1
            if job is not None:
                jobs.append(job)
    return Gathered(jobs, "", looked_at)


def _cursor(after: str) -> _Cursor | None:
    """Anything else than a cursor is the beginning."""
    match = re.fullmatch(r"(-1|\d{1,12})\.(\d{1,6})@(.+)", after, re.DOTALL)
    return None if match is None else _Cursor(match[3], int(match[1]), int(match[2]))


async def _queued(look: _Look, start: _Cursor) -> _Rows:
    """Jobs in a queue."""
    at = start
    while True:
        payloads = PIECE if look.payloads else 0
        found = await browse(look.store, at.queue, state=look.chosen.state, place=at.place, payloads=payloads)
        for number, entry in enumerate(found.entries[at.skip :], at.skip):
            fits = _entry_fits(entry, look)
            yield Found(entry.id, at.queue, entry) if fits else None, at._replace(skip=number)
        if found.next_place < 0:
            return
        at = _Cursor(at.queue, found.next_place, 0)


def _entry_fits(entry: QueueEntry, look: _Look) -> bool:
    if look.chosen.id and look.chosen.id not in entry.id:
        return False
    if not look.chosen.needs_payloads:
        return True
    function, enqueued_ms = (None, None) if entry.payload is None else glance(entry.payload)
    return look.chosen.fits(function, enqueued_ms, look.since_ms)


async def _dead(look: _Look, start: _Cursor) -> _Rows:
    """Jobs in the dead set of a queue."""
    redis, keys = look.store.redis, look.store.keys
    place = max(0, start.place)
    while entries := await read_dead(redis, keys, start.queue, place, DEAD_PER_READ):
        for entry in (DeadEntry(*each) for each in entries):
            fits = look.chosen.id in entry.id
            if fits and look.chosen.needs_payloads:
                function = glance(entry.data)[0] if look.chosen.function else None
                fits = look.chosen.fits(function, entry.died_ms, look.since_ms)
            yield Found(entry.id, start.queue, entry) if fits else None, _Cursor(start.queue, place, 0)
            place += 1
