"""Jobs by state, with filters, in pages. Every look is bounded: of a long queue it says how much was looked at."""

from msgspec import Struct

from ...protocol.recent_jobs import ENDED_STATES, EndedJob
from ...store.look import QueueEntry
from ..app_state import Site
from ..payload_view import Contents, contents_of
from .job_query import STATES, JobFilter, JobRef, JobsQuery
from .job_search import DeadEntry, Found, gather
from .queues import tiles

__all__ = ("JobList", "JobRow", "StateCount", "matching", "read_jobs")

MAX_LOOKED_AT = 10_000
MAX_ENDED_LOOKED_AT = 2_000  # they come from a list for each function, so many from each


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


async def read_jobs(site: Site, query: JobsQuery) -> JobList:
    """Jobs of a state, the first due or the latest ended first."""
    names = await site.queues()
    chosen = [query.queue] if query.queue else names
    look_at = MAX_ENDED_LOOKED_AT if query.state in ENDED_STATES else MAX_LOOKED_AT
    found = await gather(
        *(site.store, chosen, query), now_ms=site.now_ms(), after=query.after, limit=query.limit, look_at=look_at
    )
    functions = sorted({place[1] for bucket in (await site.counted.hours(24)).values() for place in bucket})
    return JobList(
        now_ms=site.now_ms(),
        filter=query,
        counts=await _counts(site, chosen),
        queues=names,
        functions=functions,
        jobs=[_row_of(site, job) for job in found.jobs],
        next=found.next,
        looked_at=found.looked_at,
        cut=bool(found.next) and len(found.jobs) < query.limit,
    )


async def matching(site: Site, chosen: JobFilter, most: int, look_at: int) -> tuple[list[JobRef], bool]:
    """The jobs that match a filter, and whether there may be more.

    :param most: that are returned
    :param look_at: entries to look at
    """
    names = [chosen.queue] if chosen.queue else await site.queues()
    found = await gather(
        *(site.store, names, chosen), now_ms=site.now_ms(), limit=most, look_at=look_at, payloads=False
    )
    jobs = dict.fromkeys(JobRef(job.id, job.queue) for job in found.jobs)
    return list(jobs), bool(found.next)


def _row_of(site: Site, job: Found) -> JobRow:
    match job.entry:
        case QueueEntry():
            return _row_of_entry(site, job.queue, job.entry)
        case DeadEntry():
            return _row_of_dead(site, job.queue, job.entry)
    return _row_of_ended(job.entry)


def _row_of_entry(site: Site, queue: str, entry: QueueEntry) -> JobRow:
    if entry.payload is None:
        return JobRow(entry.id, queue, entry.state, None, "", None, entry.due_ms, note="its payload is gone")
    contents = contents_of(entry.payload, site.signatures)
    worker = (entry.lease or b"").decode(errors="replace").partition("|")[0].rpartition(".")[0]
    return JobRow(
        *(entry.id, queue, entry.state, contents.function, one_line(contents)),
        *(contents.enqueued_ms, entry.due_ms),
        worker=worker if entry.state == "running" else "",
        note=contents.note,
    )


def _row_of_dead(site: Site, queue: str, entry: DeadEntry) -> JobRow:
    contents = contents_of(entry.data, site.signatures)
    error = contents.error
    return JobRow(
        *(entry.id, queue, "dead", contents.function, one_line(contents), contents.enqueued_ms, entry.died_ms),
        attempt=contents.attempt,
        note=contents.note if error is None else f"{error.type.rpartition('.')[2]}: {error.message}"[:300],
    )


def _row_of_ended(job: EndedJob) -> JobRow:
    failure = job.failure
    return JobRow(
        *(job.job_id, job.queue, job.state, job.function, ""),
        *(int(job.enqueued.timestamp() * 1000), int(job.ended.timestamp() * 1000)),
        attempt=job.attempt,
        run_ms=None if job.started is None else job.run_s * 1000,
        worker=job.worker_id,
        note="" if failure is None else f"{failure.type.rpartition('.')[2]}: {failure.message}",
    )


def one_line(contents: Contents, limit: int = 120) -> str:
    """Arguments as a call has them, at most so many characters."""
    parts = [" ".join(text.split()) for text in contents.args or ()]
    parts += [f"{name}={' '.join(text.split())}" for name, text in (contents.kwargs or {}).items()]
    text = ", ".join(parts)
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


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
