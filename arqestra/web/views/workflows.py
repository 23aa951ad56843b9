"""Flows and durable workflows: how far they are, their graphs, their histories."""

import asyncio
from typing import Annotated

from arq.jobs import ResultNotFound
from msgspec import Meta, Struct

from ...errors import JobNotRetryable
from ...flow.handle import FlowGraph, FlowProgress
from ...flow.rounds import RetryableWorkflow
from ...flow.rounds import resume_workflow as resume
from ...store.read_flows import FlowRecord, list_flows, read_events, read_flow
from ..app_state import AppState
from ..payload_view import view_payload
from ..retrying import gets_input, rerun_of, retry_job

__all__ = (
    "FlowList",
    "FlowPage",
    "FlowView",
    "WorkflowQuery",
    "WorkflowsQuery",
    "cancel_workflow",
    "read_workflow",
    "read_workflows",
    "resume_workflow",
    "retry_workflow",
)

MAX_NODES = 1_000
EVENTS_PER_PAGE = 200
EVENT_KINDS = {"s": "step ended", "t": "timer", "g": "signal", "e": "value", "x": "cancelled", "d": "time is over"}
STATES = {"c": "complete", "f": "failed", "a": "aborted", "x": "expired", "u": "upstream failed", "s": "skipped"}


class FlowView(Struct, frozen=True):
    """A flow.

    :ivar kind: "graph", or "workflow" for a durable one
    :ivar status: "running", "complete", "failed" or "cancelled"
    :ivar states: how many of its jobs ended in which state
    :ivar blocked: of a workflow that is blocked by code: why
    """

    id: str
    kind: str
    name: str
    status: str
    total: int
    done: int
    active: int
    waiting: int
    states: dict[str, int]
    events: int
    replays: int
    blocked: str
    cancelled: str | None
    created_ms: int | None
    ended_ms: int | None


class WorkflowsQuery(Struct, frozen=True):
    """Those that run, or those that have ended and are kept."""

    ended: bool = False
    limit: Annotated[int, Meta(ge=1, le=200)] = 50


class WorkflowQuery(Struct, frozen=True):
    """Which flow.

    :ivar offset: of its history: events to pass over
    """

    id: Annotated[str, Meta(min_length=1, max_length=1000)]
    offset: Annotated[int, Meta(ge=0, le=100_000)] = 0


class FlowList(Struct, frozen=True):
    """Flows, the latest first."""

    now_ms: int
    ended: bool
    flows: list[FlowView]


class NodeView(Struct, frozen=True):
    """A job or a join."""

    number: int
    kind: str
    job_id: str
    function: str
    queue: str
    state: str
    fault: int | None


class EdgeView(Struct, frozen=True):
    """What comes before what; `on_error`: the second runs only if the first failed."""

    before: int
    after: int
    on_error: bool


class EventView(Struct, frozen=True):
    """An event of a durable workflow's history.

    :ivar number: of the step that it is about; 0 for the workflow
    :ivar detail: state of a step, name of a signal
    """

    place: int
    kind: str
    number: int
    at_ms: int
    function: str
    detail: str


class FlowPage(Struct, frozen=True):
    """One flow.

    :ivar left_out: nodes beyond the first thousand
    """

    now_ms: int
    flow: FlowView
    nodes: list[NodeView]
    edges: list[EdgeView]
    left_out: int
    history: list[EventView]
    next_event: int | None
    cancellable: bool
    retryable: bool
    resumable: bool


async def read_workflows(app_state: AppState, query: WorkflowsQuery) -> FlowList:
    """Flows that run, or those that have ended."""
    ids = await list_flows(app_state.store, ended=query.ended, limit=query.limit)
    found = await asyncio.gather(*(_flow(app_state, flow_id) for flow_id in ids))
    return FlowList(app_state.now_ms(), query.ended, [flow for flow in found if flow is not None])


async def read_workflow(app_state: AppState, query: WorkflowQuery) -> FlowPage | None:
    """One flow; None if it is not there."""
    flow = await _flow(app_state, query.id)
    if flow is None:
        return None
    graph = await app_state.pool.flow(query.id).graph()
    history: list[EventView] = []
    if flow.kind == "workflow":
        names = {node.number: node.function for node in graph.nodes}
        events = await read_events(app_state.store, query.id, query.offset, EVENTS_PER_PAGE)
        history = [_event(place, data, names) for place, data in enumerate(events, query.offset + 1)]
    following = query.offset + EVENTS_PER_PAGE
    return FlowPage(
        now_ms=app_state.now_ms(),
        flow=flow,
        nodes=[_node(node) for node in graph.nodes[:MAX_NODES]],
        edges=_edges(graph),
        left_out=max(0, len(graph.nodes) - MAX_NODES),
        history=history,
        next_event=following if flow.events > following else None,
        cancellable=flow.status == "running",
        retryable=flow.status in ("failed", "cancelled"),
        resumable=flow.status in ("failed", "cancelled"),
    )


def _node(node: object) -> NodeView:
    fields = ("number", "kind", "job_id", "function", "queue", "state", "fault")
    return NodeView(*(getattr(node, name) for name in fields))


def _edges(graph: FlowGraph) -> list[EdgeView]:
    shown = {node.number for node in graph.nodes[:MAX_NODES]}
    return [
        EdgeView(edge.before, edge.after, edge.on_error)
        for edge in graph.edges
        if edge.before in shown and edge.after in shown
    ]


def _event(place: int, data: bytes, names: dict[int, str]) -> EventView:
    """An event from `kind number time value`. The value of a signal may be a pickle, so it is not decoded."""
    parts = data.split(b" ", 3)
    kind, number, at_ms = parts[0].decode(errors="replace"), int(parts[1]), int(parts[2])
    value = parts[3] if len(parts) > 3 else b""
    detail = ""
    if kind == "s":
        detail = STATES.get(value[:1].decode(errors="replace"), "")
    elif kind == "g":
        detail = value.split(b" ", 2)[1].decode(errors="replace") if value.count(b" ") > 1 else ""
    return EventView(
        place=place,
        kind=EVENT_KINDS.get(kind, kind),
        number=number,
        at_ms=at_ms,
        function=names.get(number, ""),
        detail=detail,
    )


async def _flow(app_state: AppState, flow_id: str) -> FlowView | None:
    record = await read_flow(app_state.store, flow_id)
    if record is None:
        return None
    try:
        progress = await app_state.pool.flow(flow_id).progress()
    except ResultNotFound:
        progress = FlowProgress(0, 0, 0, 0, {})
    return FlowView(
        id=flow_id,
        kind="workflow" if record.kind == "w" else "graph",
        name=record.name,
        status=await _status(app_state, flow_id, record),
        total=progress.total,
        done=progress.done,
        active=progress.active,
        waiting=progress.waiting,
        states=dict(progress.states),
        events=progress.events,
        replays=progress.replays,
        blocked=progress.blocked,
        cancelled=record.cancelled,
        created_ms=_moment(record, "created"),
        ended_ms=_moment(record, "ended"),
    )


async def _status(app_state: AppState, flow_id: str, record: FlowRecord) -> str:
    """The status as `FlowHandle.status` has it, without decoding the result of a workflow."""
    if record.state != "ended":
        return "running"
    if record.kind != "w":
        if record.output_state[:1] == "c":
            return "complete"
        return "failed" if record.cancelled is None else "cancelled"
    snapshot = await app_state.store.peek(flow_id, _queue_of(app_state, record))
    payload_view = None if snapshot.result is None else view_payload(snapshot.result, app_state.signatures)
    if payload_view is None or payload_view.success is not False:
        return "complete"
    kind = "" if payload_view.error is None else payload_view.error.type.rpartition(".")[2]
    return "cancelled" if kind in ("CancelledError", "JobCancelled") or record.cancelled is not None else "failed"


def _queue_of(app_state: AppState, record: FlowRecord) -> str:
    return record.fields.get("queue", app_state.pool.default_queue_name)


def _moment(record: FlowRecord, name: str) -> int | None:
    text = record.fields.get(name)
    return int(float(text)) if text else None


async def cancel_workflow(app_state: AppState, flow_id: str) -> bool:
    """Abort what runs of a flow and drop what waits; False if it had ended or is not there."""
    return await app_state.pool.flow(flow_id).cancel("cancelled by the dashboard")


async def retry_workflow(app_state: AppState, flow_id: str) -> int:
    """Run the jobs of a flow that did not complete once more; a failed workflow from its start.

    :returns: how many jobs run again
    """
    record = await read_flow(app_state.store, flow_id)
    if record is not None and record.kind == "w":
        await retry_job(app_state.store, flow_id, _queue_of(app_state, record))
        return 1
    return await app_state.pool.flow(flow_id).retry()


async def resume_workflow(app_state: AppState, flow_id: str) -> int:
    """Go on with a workflow that failed or was aborted at its failed step; of a graph, what did not complete of it.

    :returns: how many steps or jobs are tried anew
    """
    record = await read_flow(app_state.store, flow_id)
    if record is not None and record.kind == "w":
        queue = _queue_of(app_state, record)
        rerun = await rerun_of(app_state.store, flow_id, queue)
        if gets_input(rerun[0]):
            raise JobNotRetryable("its first argument is of the flow that it is a job of: resume that")
        return await resume(app_state.store, flow_id, queue, RetryableWorkflow(*rerun))
    return await app_state.pool.flow(flow_id).resume()
