"""Jobs by state, with filters, in pages. Every look is bounded: of a long queue it says how much was looked at."""

import re
from collections.abc import AsyncIterator
from typing import Annotated, Literal, NamedTuple, get_args

import msgspec
from msgspec import Meta, Struct

from ...ended import ENDED_STATES
from ...store.dead import read_dead
from ...store.look import QueueEntry, browse
from ..contents import Contents, Signatures, contents_of, glance
from ..site import Site
from .ended import MOST_LOOKED_AT as MOST_ENDED
from .ended import EndedFilter, ended_page
from .queues import tiles

__all__ = (
    "QUEUE_STATES",
    "STATES",
    "JobFilter",
    "JobList",
    "JobRef",
    "JobRow",
    "JobsQuery",
    "StateCount",
    "matching",
    "read_jobs",
)

QUEUE_STATES = ("queued", "running", "deferred", "held", "waiting")
State = Literal[
    "queued", "running", "deferred", "held", "waiting", "failed", "retried", "dead", "complete", "aborted", "expired"
]
STATES: tuple[State, ...] = get_args(State)
WITHIN_MS = {"15m": 900_000, "1h": 3_600_000, "24h": 86_400_000, "7d": 604_800_000}
MOST_LOOKED_AT = 10_000
DEAD_A_READ = 200
PIECE = 500  # entries of a queue that are looked at at once
LIMIT = 50
Text = Annotated[str, Meta(max_length=1000)]
Moment = Annotated[int, Meta(ge=0, le=253_370_764_800_000)]


class JobFilter(Struct, frozen=True, kw_only=True):
    """Which jobs.

    :ivar id: part of the id
    :ivar within: that ended (of jobs in a queue: were enqueued, of dead ones: died) in the last so much time
    :ivar since_ms, before_ms: the same from a time, and before one
    :ivar error, place: of failed attempts: type of the error and where it was raised
    """

    state: State = "queued"
    queue: Text = ""
    function: Text = ""
    id: Text = ""
    within: Literal["", "15m", "1h", "24h", "7d"] = ""
    since_ms: Moment | None = None
    before_ms: Moment | None = None
    error: Text = ""
    place: Text = ""

    def since(self, now_ms: int) -> int | None:
        """From when on."""
        return now_ms - WITHIN_MS[self.within] if self.within else self.since_ms

    @property
    def is_all(self) -> bool:
        """Whether nothing but the state is asked for: then a queue need not be read to be filtered."""
        return not (self.function or self.id or self.within or self.since_ms or self.before_ms)


class JobsQuery(JobFilter, frozen=True, kw_only=True):
    """Which jobs, and which page of them.

    :ivar after: `next` of the page before
    """

    after: Text = ""
    limit: Annotated[int, Meta(ge=1, le=500)] = LIMIT


class JobRef(Struct, frozen=True):
    """A job."""

    id: Text
    queue: Text


class JobRow(Struct, frozen=True):
    """A job in a list.

    :ivar moment_ms: of a job in a queue when it is or was due, else when it ended
    :ivar note: its error, or why it is not shown
    """

    id: str
    queue: str
    state: str
    function: str | None
    arguments: str
    enqueued_ms: int | None
    moment_ms: int | None
    attempt: int | None = None
    run_ms: float | None = None
    worker: str = ""
    note: str = ""


class StateCount(Struct, frozen=True):
    """Jobs in a state; None where that is not counted."""

    state: str
    jobs: int | None


class JobList(Struct, frozen=True):
    """A page of jobs.

    :ivar next: `after` of the next page; "" if this is the last one
    :ivar looked_at: entries that were looked at for this page
    :ivar cut: there may be more than were looked at; the next page goes on there
    """

    now_ms: int
    filter: JobsQuery
    counts: list[StateCount]
    queues: list[str]
    functions: list[str]
    jobs: list[JobRow]
    next: str
    looked_at: int
    cut: bool


class _Page:
    """What a page consists of, while it is gathered."""

    def __init__(self) -> None:
        self.rows: list[JobRow] = []
        self.next = ""
        self.looked_at = 0
        self.cut = False


async def read_jobs(site: Site, query: JobsQuery) -> JobList:
    """Jobs of a state, the first due or the latest ended first."""
    names = await site.queues()
    page = await _page(site, query)
    functions = sorted({place[1] for bucket in (await site.counted.hours(24)).values() for place in bucket})
    return JobList(
        now_ms=site.now_ms(),
        filter=query,
        counts=await _counts(site, [query.queue] if query.queue else names),
        queues=names,
        functions=functions,
        jobs=page.rows,
        next=page.next,
        looked_at=page.looked_at,
        cut=page.cut,
    )


async def matching(site: Site, chosen: JobFilter, most: int) -> tuple[list[JobRef], bool]:
    """The jobs that match a filter, and whether there may be more.

    :param most: that are returned
    """
    found: dict[tuple[str, str], JobRef] = {}
    after, looked_at = "", 0
    while True:
        query = msgspec.convert({**msgspec.structs.asdict(chosen), "after": after, "limit": 500}, JobsQuery)
        page = await _page(site, query)
        looked_at += page.looked_at
        for row in page.rows:
            if len(found) == most:
                return list(found.values()), True
            found.setdefault((row.queue, row.id), JobRef(row.id, row.queue))
        after = page.next
        if not after:
            return list(found.values()), page.cut
        if looked_at > 20 * most:
            return list(found.values()), True


async def _page(site: Site, query: JobsQuery) -> _Page:
    names = [query.queue] if query.queue else await site.queues()
    if query.state in ENDED_STATES:
        return await _ended(site, query, names)
    start = _cursor(query.after)
    page = _Page()
    for name in names:
        if start is not None and name < start.queue:
            continue
        first = start if start is not None and name == start.queue else _Cursor(name, -1, 0)
        rows = _dead(site, query, first, page) if query.state == "dead" else _queued(site, query, first, page)
        async for row, following in rows:
            if len(page.rows) == query.limit or page.looked_at >= MOST_LOOKED_AT:
                page.cut = len(page.rows) < query.limit
                page.next = str(following)
                return page
            if row is not None:
                page.rows.append(row)
    return page


class _Cursor(NamedTuple):
    """Where a page begins: a queue, a place in it (-1 for where the state begins), entries to pass over."""

    queue: str
    place: int
    skip: int

    def __str__(self) -> str:
        return f"{self.place}.{self.skip}@{self.queue}"


def _cursor(after: str) -> _Cursor | None:
    """Anything else than a cursor is the beginning."""
    match = re.fullmatch(r"(-1|\d{1,12})\.(\d{1,6})@(.+)", after, re.DOTALL)
    return None if match is None else _Cursor(match[3], int(match[1]), int(match[2]))


# Of each job the cursor at which it is the first; None of a piece that has none.
_Rows = AsyncIterator[tuple[JobRow | None, _Cursor]]


async def _queued(site: Site, query: JobsQuery, start: _Cursor, page: _Page) -> _Rows:
    """Jobs in a queue."""
    since_ms = query.since(site.now_ms())
    at = start
    while True:
        found = await browse(site.store, at.queue, state=query.state, place=at.place, payloads=PIECE)
        for number, entry in enumerate(found.entries[at.skip :], at.skip):
            if query.is_all or _entry_fits(entry, query, since_ms):
                yield _row_of(at.queue, entry, site.signatures), at._replace(skip=number)
        page.looked_at += PIECE
        if found.next_place < 0:
            return
        at = _Cursor(at.queue, found.next_place, 0)
        yield None, at


def _row_of(queue: str, entry: QueueEntry, signatures: Signatures) -> JobRow:
    if entry.payload is None:
        return JobRow(entry.id, queue, entry.state, None, "", None, entry.due_ms, note="its payload is gone")
    contents = contents_of(entry.payload, signatures)
    worker = (entry.lease or b"").decode(errors="replace").partition("|")[0].rpartition(".")[0]
    return JobRow(
        *(entry.id, queue, entry.state, contents.function, one_line(contents)),
        *(contents.enqueued_ms, entry.due_ms),
        worker=worker if entry.state == "running" else "",
        note=contents.note,
    )


def one_line(contents: Contents, limit: int = 120) -> str:
    """Arguments as a call has them, at most so many characters."""
    parts = [" ".join(text.split()) for text in contents.args or ()]
    parts += [f"{name}={' '.join(text.split())}" for name, text in (contents.kwargs or {}).items()]
    text = ", ".join(parts)
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def _entry_fits(entry: QueueEntry, query: JobsQuery, since_ms: int | None) -> bool:
    """Whether a job in a queue is one of those that are asked for; thousands are looked at for that."""
    if query.id and query.id not in entry.id:
        return False
    function, enqueued_ms = (None, None) if entry.payload is None else glance(entry.payload)
    return _fits(function, enqueued_ms, query, since_ms)


def _fits(function: str | None, moment_ms: int | None, query: JobsQuery, since_ms: int | None) -> bool:
    if query.function and function != query.function:
        return False
    if since_ms is not None and (moment_ms is None or moment_ms < since_ms):
        return False
    return query.before_ms is None or (moment_ms is not None and moment_ms < query.before_ms)


async def _dead(site: Site, query: JobsQuery, start: _Cursor, page: _Page) -> _Rows:
    """Jobs in the dead set of a queue."""
    place = max(0, start.place)
    since_ms = query.since(site.now_ms())
    while entries := await read_dead(site.store.redis, site.store.keys, start.queue, place, DEAD_A_READ):
        for job_id, died_ms, data in entries:
            contents = contents_of(data, site.signatures)
            error = contents.error
            row = JobRow(
                *(job_id, start.queue, "dead", contents.function, one_line(contents), contents.enqueued_ms, died_ms),
                attempt=contents.attempt,
                note=contents.note if error is None else f"{error.type}: {error.message}"[:300],
            )
            fits = query.id in job_id and _fits(row.function, died_ms, query, since_ms)
            yield (row if fits else None), _Cursor(start.queue, place, 0)
            place += 1
            page.looked_at += 1


async def _ended(site: Site, query: JobsQuery, names: list[str]) -> _Page:
    chosen = EndedFilter(
        query.state, query.function, query.id, query.error, query.place, query.since(site.now_ms()), query.before_ms
    )
    found = await ended_page(site.store, names, chosen, query.after, query.limit)
    page = _Page()
    page.next, page.looked_at, page.cut = found.next, found.looked_at, found.looked_at >= MOST_ENDED
    for job in found.jobs:
        failure = job.failure
        page.rows.append(
            JobRow(
                *(job.job_id, job.queue, job.state, job.function, ""),
                *(int(job.enqueued.timestamp() * 1000), int(job.ended.timestamp() * 1000)),
                attempt=job.attempt,
                run_ms=None if job.started is None else job.run_s * 1000,
                worker=job.worker_id,
                note="" if failure is None else f"{failure.type}: {failure.message}",
            )
        )
    return page


async def _counts(site: Site, names: list[str]) -> list[StateCount]:
    """Of jobs in queues how many there are; of ended ones that is what the statistics tell."""
    found = await tiles(site, names[:200])
    sums = {
        "queued": sum(tile.due for tile in found),
        "running": sum(tile.running for tile in found),
        "deferred": sum(tile.deferred for tile in found),
        "held": sum(tile.held for tile in found),
        "waiting": sum(tile.waiting for tile in found),
        "dead": sum(tile.dead for tile in found),
    }
    return [StateCount(state, sums.get(state)) for state in STATES]
