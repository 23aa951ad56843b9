"""One job: its arguments, its history, its log and progress, and the flow that it is a part of."""

import asyncio
from typing import Annotated

from msgspec import Meta, Struct

from ...protocol.attempt_errors import AttemptError, decode_attempt_error
from ...protocol.constants import PARKED_SCORE, SPAN_MS, THROTTLED_SCORE
from ...protocol.progress import Progress
from ...store.find import queue_of
from ...store.flows import node_id
from ...store.job_facts import JobFacts, read_dead_result, read_job_facts
from ...store.progress import read_log, read_progress
from ...store.read_flows import node_of_job, read_nodes
from ...store.records import JobSnapshot
from ...store.store import Store
from ..app_state import AppState
from ..payload_view import PayloadView, view_payload
from ..timeline import FailedAttempt, Life, Span, timeline

__all__ = ("JobPage", "JobQuery", "read_job")

LOG_LINES_SHOWN = 500
MAX_RELATIVES = 100


class JobQuery(Struct, frozen=True):
    """Which job.

    :ivar queue: where to look for it first; without it all queues are looked at
    """

    id: Annotated[str, Meta(min_length=1, max_length=1000)]
    queue: Annotated[str, Meta(max_length=1000)] = ""


class Attempt(Struct, frozen=True):
    """An attempt that failed."""

    number: int
    type: str
    message: str
    traceback: str
    worker: str
    started_ms: int
    ended_ms: int


class Note(Struct, frozen=True):
    """A line of the job's log."""

    at_ms: int
    attempt: int
    text: str


class ProgressView(Struct, frozen=True):
    """How far the job says it is."""

    done: float
    total: float | None
    message: str
    at_ms: int
    attempt: int
    share: float | None


class Relative(Struct, frozen=True):
    """A job of the same flow."""

    id: str
    queue: str
    function: str
    state: str


class JobPage(Struct, frozen=True):
    """All that is known of a job.

    :ivar state: "queued", "deferred", "running", "held", "waiting", "complete", "failed", "aborted", "expired", "dead"
        or "unknown": its payload is there and no queue has it
    :ivar contents: what was asked for, and what came out if it has ended
    :ivar lease_ends_ms: until when its worker has it
    :ivar crashes: leases of it that ran out
    :ivar kept_ms: how long its result is kept from now on
    :ivar flow: the flow or workflow that it belongs to, or is; "" if none
    :ivar retryable, abortable, deletable, runnable: what can be done with it
    :ivar not_retryable: why it cannot be run once more, where one would expect that it can
    """

    now_ms: int
    id: str
    queue: str
    state: str
    contents: PayloadView | None
    due_ms: int | None
    attempts: int
    worker: str
    lease_ends_ms: int | None
    crashes: int
    abort_asked_ms: int | None
    died_ms: int | None
    kept_ms: int | None
    errors: list[Attempt]
    log: list[Note]
    progress: ProgressView | None
    spans: list[Span]
    flow: str
    parents: list[Relative]
    children: list[Relative]
    retryable: bool
    abortable: bool
    deletable: bool
    runnable: bool
    not_retryable: str


async def read_job(app_state: AppState, query: JobQuery) -> JobPage | None:
    """What is known of a job; None if nothing is."""
    store = app_state.store
    queue = query.queue or await _located(app_state, query.id)
    snapshot = await store.peek(query.id, queue, payload=True)
    facts, progress, log = await asyncio.gather(
        read_job_facts(store, queue, query.id),
        read_progress(store, query.id),
        read_log(store, query.id, LOG_LINES_SHOWN),
    )
    data = await _data_of(store, queue, query.id, snapshot, facts)
    if data is None and snapshot.score is None:
        return None
    payload_view = None if data is None else view_payload(data, app_state.signatures)
    if payload_view is not None and payload_view.queue and payload_view.queue != queue:
        queue = payload_view.queue
        facts = await read_job_facts(store, queue, query.id)
    errors = [_attempt(decode_attempt_error(entry)) for entry in snapshot.errors]
    state = _state(snapshot, facts, payload_view)
    worker, lease_ends_ms, due_ms, crashes = _lease(snapshot)
    if due_ms is None and state in ("queued", "deferred"):
        due_ms = snapshot.score
    flow, parents, children = await _relatives(app_state, query.id, queue)
    ended = payload_view is not None and payload_view.success is not None
    retryable = ended and payload_view is not None and payload_view.success is False
    return JobPage(
        now_ms=snapshot.now_ms,
        id=query.id,
        queue=queue,
        state=state,
        contents=payload_view,
        due_ms=due_ms,
        attempts=facts.attempts or (payload_view.attempt if ended and payload_view else 0) or 0,
        worker=worker,
        lease_ends_ms=lease_ends_ms,
        crashes=crashes,
        abort_asked_ms=facts.abort_requested_ms,
        died_ms=facts.died_ms,
        kept_ms=facts.result_ttl_ms,
        errors=errors,
        log=[Note(_ms(line.at), line.attempt, line.text) for line in log],
        progress=_progress_view(progress),
        spans=timeline(
            Life(state, due_ms, await _running_since(app_state, query.id) if state == "running" else None),
            payload_view,
            [FailedAttempt(each.number, each.started_ms, each.ended_ms) for each in errors],
            snapshot.now_ms,
        ),
        flow=flow,
        parents=parents,
        children=children,
        retryable=retryable,
        abortable=state in ("queued", "deferred", "running", "held", "waiting"),
        deletable=state != "running",
        runnable=state == "deferred",
        not_retryable=_why_not(state, payload_view),
    )


async def _data_of(store: Store, queue: str, job_id: str, snapshot: JobSnapshot, facts: JobFacts) -> bytes | None:
    """Its result, else that of the dead set, else its payload."""
    data = snapshot.result
    if data is None and snapshot.payload is None and facts.died_ms is not None:
        data = await read_dead_result(store.redis, store.keys, queue, job_id)
    return snapshot.payload if data is None else data


def _progress_view(progress: Progress | None) -> ProgressView | None:
    if progress is None:
        return None
    return ProgressView(
        done=progress.done,
        total=progress.total,
        message=progress.message,
        at_ms=_ms(progress.at),
        attempt=progress.attempt,
        share=progress.share,
    )


async def _running_since(app_state: AppState, job_id: str) -> int | None:
    """When this attempt started, if it is one of the hundred jobs that its worker reports."""
    for worker in await app_state.cache.get("workers", app_state.pool.workers):
        for job in worker.presence.jobs:
            if job.id == job_id:
                return job.since_ms
    return None


def _why_not(state: str, payload_view: PayloadView | None) -> str:
    """Why the dashboard does not offer to run an ended job again."""
    if payload_view is None or state in ("queued", "deferred", "running", "held", "waiting"):
        return ""
    if payload_view.success is None:
        return f"The dashboard cannot tell how it ended ({payload_view.note}), so it does not offer to retry it."
    return ""


async def _located(app_state: AppState, job_id: str) -> str:
    """The queue that has the job; the default one if none is found."""
    return await queue_of(app_state.store, job_id, await app_state.queues()) or app_state.pool.default_queue_name


def _attempt(error: AttemptError) -> Attempt:
    return Attempt(
        number=error.job_try,
        type=error.type,
        message=error.message,
        traceback=error.traceback,
        worker=error.worker,
        started_ms=_ms(error.started),
        ended_ms=_ms(error.ended),
    )


def _state(snapshot: JobSnapshot, facts: JobFacts, payload_view: PayloadView | None) -> str:
    if payload_view is not None and payload_view.success is not None:
        if payload_view.success:
            return "complete"
        return "dead" if facts.died_ms is not None else _failed_state(payload_view)
    if facts.died_ms is not None and snapshot.payload is None:
        return "dead"
    if snapshot.result is not None:
        return "ended"
    if snapshot.score is None:
        return "unknown"
    if snapshot.in_progress:
        return "running"
    if snapshot.score >= PARKED_SCORE:
        return "waiting"
    if snapshot.score >= THROTTLED_SCORE:
        return "held"
    return "deferred" if snapshot.score > snapshot.now_ms else "queued"


def _failed_state(payload_view: PayloadView) -> str:
    """How a job ended that did not complete, by the type of its error."""
    kind = "" if payload_view.error is None else payload_view.error.type.rpartition(".")[2]
    message = "" if payload_view.error is None else payload_view.error.message
    if kind in ("CancelledError", "JobCancelled"):
        return "aborted"
    return "expired" if kind == "JobExecutionFailed" and "expired" in message else "failed"


def _lease(snapshot: JobSnapshot) -> tuple[str, int | None, int | None, int]:
    """Worker, end of its lease, due time and crashes, of a job that runs on a worker of ours."""
    parts = (snapshot.lease or b"").decode(errors="replace").split("|")
    if not snapshot.in_progress or len(parts) != 4:
        return "", None, None, 0
    due = float(parts[2])
    return parts[0].rpartition(".")[0], int(parts[1]), int(due if due >= 0 else due % SPAN_MS), int(parts[3])


async def _relatives(app_state: AppState, job_id: str, queue: str) -> tuple[str, list[Relative], list[Relative]]:
    """The flow of a job, and the jobs before and after it."""
    node = await node_of_job(app_state.store, queue, job_id)
    if node is None:
        return "", [], []
    flow, number = node
    if number == 0:
        return flow, [], []
    nodes = {node.number: node for node in await read_nodes(app_state.store, flow)}
    own = nodes.get(number)
    if own is None or own.job_id not in (job_id, node_id(flow, number)):
        return "", [], []

    def relatives(numbers: list[int]) -> list[Relative]:
        found = [nodes[each] for each in numbers if each in nodes and nodes[each].kind == "job"]
        return [Relative(node.job_id, node.queue, node.function, node.state[:1]) for node in found[:MAX_RELATIVES]]

    children = [node.number for node in nodes.values() if number in node.parents]
    return flow, relatives(list(own.parents)), relatives(children)


def _ms(moment: object) -> int:
    return int(moment.timestamp() * 1000)  # type: ignore[attr-defined]
