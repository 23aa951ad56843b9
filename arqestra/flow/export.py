"""Exporting the history of workflows, for `arqestra.testing.replay`. It reads, and changes nothing."""

from typing import Any, NamedTuple

from arq.jobs import ResultNotFound

from ..errors import ArgumentsError
from ..protocol.serializers import Serializer
from ..protocol.wire import function_of, succeeded
from ..store.flows import FlowStore
from ..store.read_flows import node_of_job
from ..store.read_history import ListedWorkflow, StoredWorkflow, list_workflows, payload_in_graph, read_workflow
from ..store.store import Store
from .history_document import WorkflowExport, encode_document
from .values import FlowGone, FlowValues

__all__ = ("MAX_EXPORTED", "FoundWorkflows", "WorkflowExports", "export_workflow", "export_workflows", "find_workflows")

MAX_EXPORTED = 1_000  # by one call
MAX_LOOKED_AT = 20_000  # flows that run, and as many that have ended


class FoundWorkflows(NamedTuple):
    """The latest workflows of a function.

    :ivar ids: the latest first
    :ivar all_seen: False if there are so many flows that only the latest were looked at
    """

    ids: list[str]
    all_seen: bool


class WorkflowExports(NamedTuple):
    """What `Pool.export_workflows` found.

    :ivar histories: documents, the latest workflow first
    :ivar missing: id -> why it could not be exported: it was removed meanwhile, or its arguments are not kept
    :ivar all_seen: False if there are so many flows that only the latest were looked at
    """

    histories: list[dict[str, Any]]
    missing: dict[str, str]
    all_seen: bool


async def export_workflow(store: Store, serializer: Serializer, flow_id: str) -> dict[str, Any]:
    """Export one workflow; see `Pool.export_workflow`."""
    if not isinstance(flow_id, str):
        raise ArgumentsError(f"export_workflow: expected the id of a workflow, got {flow_id!r}")
    stored = await read_workflow(store, flow_id)
    if stored is None:
        raise ResultNotFound(f"workflow {flow_id}: expected one that a worker has begun and that is kept, found none")
    record = stored.history.record
    if record.get("kind") != "w":
        raise ArgumentsError(f"flow {flow_id}: expected a workflow, got a graph of jobs")
    if "started" not in record and record.get("state") != "ended":  # one that never waited ends without
        raise ResultNotFound(f"workflow {flow_id}: expected one that has begun, no worker has run it yet")
    data = stored.payload or stored.result
    if data is None:
        raise ResultNotFound(f"workflow {flow_id}: its history is there, its arguments are not kept (keep_result=0?)")
    function, _ = function_of(serializer, data)
    export = WorkflowExport(
        flow_id=flow_id,
        function=function,
        queue=stored.queue,
        serializer=serializer.name,
        status=_status(serializer, stored),
        payload=stored.payload,
        result=None if stored.payload is not None else stored.result,
        input=await _input(store, serializer, flow_id, stored),
        history=stored.history,
    )
    return encode_document(export)


def _status(serializer: Serializer, stored: StoredWorkflow) -> str:
    if stored.payload is not None or stored.result is None:
        return "running"
    return "complete" if succeeded(serializer, stored.result) else "failed"


async def _input(store: Store, serializer: Serializer, flow_id: str, stored: StoredWorkflow) -> bytes | None:
    """The first argument of a workflow that is a job of a graph, if it gets it from there."""
    graph_id, number = await node_of_job(store, stored.queue, flow_id) or ("", 0)
    data = stored.payload or (await payload_in_graph(store, graph_id, number) if number else None) or stored.result
    assert data is not None
    options = function_of(serializer, data)[1]
    if "in" not in options:
        return None
    values = FlowValues(FlowStore(store), serializer, graph_id)
    try:
        read = values.failure if "er" in options else values.referred
        return serializer.dumps({"v": await read(options["in"])})
    except FlowGone as gone:
        raise ResultNotFound(f"workflow {flow_id}: its first argument is not kept: {gone}") from None


async def find_workflows(store: Store, function: Any, last: int) -> FoundWorkflows:
    """The latest workflows of a function that run, or have ended and are kept.

    :param function: made by `@workflow`, or its name
    :param last: how many at most
    """
    name = function if isinstance(function, str) else getattr(function, "name", None)
    if not isinstance(name, str):
        raise ArgumentsError(f"export_workflows: expected a function made by @workflow or its name, got {function!r}")
    if isinstance(last, bool) or not isinstance(last, int) or not 1 <= last <= MAX_EXPORTED:
        raise ArgumentsError(f"export_workflows: last: expected an int from 1 to {MAX_EXPORTED:,}, got {last!r}")
    running, more_run = await list_workflows(store, ended=False, limit=MAX_LOOKED_AT)
    ended, more_ended = await list_workflows(store, ended=True, limit=MAX_LOOKED_AT)
    found = {each.flow_id: each for each in [*ended, *running] if each.function == name}
    latest = sorted(found.values(), key=_age, reverse=True)[:last]
    return FoundWorkflows([each.flow_id for each in latest], not (more_run or more_ended))


def _age(workflow: ListedWorkflow) -> tuple[int, str]:
    return workflow.created_ms, workflow.flow_id


async def export_workflows(store: Store, serializer: Serializer, function: Any, last: int) -> WorkflowExports:
    """Export the latest workflows of a function; see `Pool.export_workflows`."""
    found = await find_workflows(store, function, last)
    histories: list[dict[str, Any]] = []
    missing: dict[str, str] = {}
    for flow_id in found.ids:
        try:
            histories.append(await export_workflow(store, serializer, flow_id))
        except ResultNotFound as gone:
            missing[flow_id] = str(gone)
    return WorkflowExports(histories, missing, found.all_seen)
