"""Pages of jobs in a state, with filters. Each page reads a bounded number of entries and says how many that were."""

from msgspec import Struct

from ...protocol.recent_jobs import ENDED_STATES, EndedJob
from ...store.queues import QueueEntry
from ..app_state import AppState
from ..payload_view import PayloadView, view_payload
from .job_query import STATES, JobFilter, JobRef, JobsQuery
from .job_search import DeadEntry, FoundJob, search_jobs
from .queues import tiles

__all__ = ("JobList", "JobRow", "StateCount", "matching_jobs", "read_jobs")

MAX_INSPECTED = 10_000
MAX_ENDED_INSPECTED = 2_000  # the workers keep one list for each function, and this many come from each


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


async def read_jobs(app_state: AppState, query: JobsQuery) -> JobList:
    """Jobs of a state, the first due or the latest ended first."""
    names = await app_state.queues()
    chosen = [query.queue] if query.queue else names
    max_inspected = MAX_ENDED_INSPECTED if query.state in ENDED_STATES else MAX_INSPECTED
    found = await search_jobs(
        app_state.store,
        chosen,
        query,
        now_ms=app_state.now_ms(),
        after=query.after,
        limit=query.limit,
        max_inspected=max_inspected,
    )
    functions = sorted({name for bucket in (await app_state.stats.hours(24)).values() for _, name in bucket})
    return JobList(
        now_ms=app_state.now_ms(),
        filter=query,
        counts=await _counts(app_state, chosen),
        queues=names,
        functions=functions,
        jobs=[_row_of(app_state, job) for job in found.jobs],
        next=found.next,
        looked_at=found.inspected,
        cut=bool(found.next) and len(found.jobs) < query.limit,
    )


async def matching_jobs(
    app_state: AppState, chosen: JobFilter, limit: int, max_inspected: int
) -> tuple[list[JobRef], bool]:
    """The jobs that match a filter, and whether there may be more.

    :param limit: jobs to return at most
    :param max_inspected: entries to read, about
    """
    names = [chosen.queue] if chosen.queue else await app_state.queues()
    found = await search_jobs(
        app_state.store,
        names,
        chosen,
        now_ms=app_state.now_ms(),
        limit=limit,
        max_inspected=max_inspected,
        payloads=False,
    )
    jobs = dict.fromkeys(JobRef(job.id, job.queue) for job in found.jobs)
    return list(jobs), bool(found.next)


def _row_of(app_state: AppState, job: FoundJob) -> JobRow:
    match job.entry:
        case QueueEntry():
            return _row_of_entry(app_state, job.queue, job.entry)
        case DeadEntry():
            return _row_of_dead(app_state, job.queue, job.entry)
    return _row_of_ended(job.entry)


def _row_of_entry(app_state: AppState, queue: str, entry: QueueEntry) -> JobRow:
    if entry.payload is None:
        return JobRow(
            id=entry.id,
            queue=queue,
            state=entry.state,
            function=None,
            arguments="",
            enqueued_ms=None,
            moment_ms=entry.due_ms,
            note="its payload is gone",
        )
    payload_view = view_payload(entry.payload, app_state.signatures)
    worker = (entry.lease or b"").decode(errors="replace").partition("|")[0].rpartition(".")[0]
    return JobRow(
        id=entry.id,
        queue=queue,
        state=entry.state,
        function=payload_view.function,
        arguments=one_line(payload_view),
        enqueued_ms=payload_view.enqueued_ms,
        moment_ms=entry.due_ms,
        worker=worker if entry.state == "running" else "",
        note=payload_view.note,
    )


def _row_of_dead(app_state: AppState, queue: str, entry: DeadEntry) -> JobRow:
    payload_view = view_payload(entry.data, app_state.signatures)
    error = payload_view.error
    return JobRow(
        id=entry.id,
        queue=queue,
        state="dead",
        function=payload_view.function,
        arguments=one_line(payload_view),
        enqueued_ms=payload_view.enqueued_ms,
        moment_ms=entry.died_ms,
        attempt=payload_view.attempt,
        note=payload_view.note if error is None else f"{error.type.rpartition('.')[2]}: {error.message}"[:300],
    )


def _row_of_ended(job: EndedJob) -> JobRow:
    failure = job.failure
    return JobRow(
        id=job.job_id,
        queue=job.queue,
        state=job.state,
        function=job.function,
        arguments="",
        enqueued_ms=int(job.enqueued.timestamp() * 1000),
        moment_ms=int(job.ended.timestamp() * 1000),
        attempt=job.attempt,
        run_ms=None if job.started is None else job.run_s * 1000,
        worker=job.worker_id,
        note="" if failure is None else f"{failure.type.rpartition('.')[2]}: {failure.message}",
    )


def one_line(payload_view: PayloadView, limit: int = 120) -> str:
    """The arguments of a call on one line.

    :param limit: characters at most
    """
    parts = [" ".join(text.split()) for text in payload_view.args or ()]
    parts += [f"{name}={' '.join(text.split())}" for name, text in (payload_view.kwargs or {}).items()]
    text = ", ".join(parts)
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


async def _counts(app_state: AppState, names: list[str]) -> list[StateCount]:
    """How many jobs are in each state; the statistics have the numbers of ended jobs."""
    found = await tiles(app_state, names[:200])
    sums = {
        "queued": sum(tile.due for tile in found),
        "running": sum(tile.running for tile in found),
        "deferred": sum(tile.deferred for tile in found),
        "held": sum(tile.held for tile in found),
        "waiting": sum(tile.waiting for tile in found),
        "dead": sum(tile.dead for tile in found),
    }
    return [StateCount(state, sums.get(state)) for state in STATES]
