"""Retrying a graph, and resuming a workflow at its failed step: what runs again, and what that needs."""

import asyncio
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from arq.jobs import ResultNotFound

from ..errors import FlowRunning, JobNotRetryable
from ..protocol.serializers import Serializer
from ..protocol.wire import decode_result, encode_payload, retry_payload
from ..store.job_facts import read_dead_result
from ..store.read_flows import StoredNode
from ..store.store import Store
from ..store.workflows import Resumed, mark_to_resume, resume_queued

__all__ = ("RetryableWorkflow", "mark_workflows", "nodes_to_retry", "read_retryable", "resume_workflow")

ABORTING_WAIT_S, ABORTING_POLL_S = 10.0, 0.05  # for steps that are being aborted since the workflow ended


class RetryableWorkflow(NamedTuple):
    """A workflow that failed or was aborted, and can run once more.

    :ivar result: as it was read; if somebody changes it meanwhile, nothing runs
    :ivar payload: runs it once more
    :ivar queue: "" if its result does not say
    """

    result: bytes
    payload: bytes
    queue: str
    priority: int


async def read_retryable(store: Store, serializer: Serializer, flow_id: str, queue: str) -> RetryableWorkflow:
    """Read what a workflow needs to run once more.

    :raises JobNotRetryable: it completed, it has no kept result, or it got its first argument of another flow
    :raises DeserializationError: its result is none of this serializer
    """
    snapshot = await store.peek(flow_id, queue)
    result = snapshot.result
    if result is None:
        result = await read_dead_result(store.redis, store.keys, queue, flow_id)
    if not result:
        raise JobNotRetryable(f"workflow {flow_id}: expected a kept result of one that failed, found none")
    info, _ = decode_result(serializer, result)
    if info.success:
        raise JobNotRetryable(f"workflow {flow_id}: expected one that failed, it completed; enqueue it anew instead")
    options: dict[str, Any] = serializer.loads(result).get("o") or {}
    if "in" in options:
        raise JobNotRetryable(f"workflow {flow_id}: its first argument is of the flow that it is a job of: resume that")
    payload = retry_payload(serializer, result, snapshot.now_ms)
    home = "" if info.queue_name == "<unknown>" else info.queue_name
    return RetryableWorkflow(result, encode_payload(serializer, payload), home, payload.options.get("p", 0))


async def resume_workflow(store: Store, flow_id: str, queue: str, workflow: RetryableWorkflow) -> int:
    """Run a workflow that failed or was aborted from its failed step on.

    :returns: how many steps are tried once more
    :raises FlowRunning: it, or a step of it, has not ended
    :raises ResultNotFound: its history is not kept any more
    :raises JobNotRetryable: somebody else has changed it meanwhile
    """
    home = workflow.queue or queue
    read, payload, priority = workflow.result, workflow.payload, workflow.priority
    for _ in range(round(ABORTING_WAIT_S / ABORTING_POLL_S)):
        done = await resume_queued(store, flow_id, home, result=read, payload=payload, priority=priority)
        if done.verdict != "busy":
            break
        await asyncio.sleep(ABORTING_POLL_S)
    return _checked(flow_id, done)


async def mark_workflows(store: Store, nodes: Mapping[int, StoredNode], numbers: set[int]) -> None:
    """Have the workflows among nodes that are to run again go on at their failed steps.

    :raises FlowRunning: a step of one of them has not ended
    """
    for number in sorted(numbers):
        node = nodes[number]
        if node.kind == "job" and node.state[:1] in ("f", "a"):
            done = await mark_to_resume(store, node.job_id, node.queue)
            if done.verdict == "busy":
                _checked(node.job_id, done)


def _checked(flow_id: str, done: Resumed) -> int:
    if done.verdict == "queued":
        return done.steps
    if done.verdict == "busy":
        raise FlowRunning(f"workflow {flow_id}: {done.steps} of its steps are still being aborted; try again later")
    if done.verdict == "exists":
        raise FlowRunning(f"workflow {flow_id}: expected it to have ended, it is queued or runs")
    if done.verdict == "missing":
        raise ResultNotFound(f"workflow {flow_id}: its history is not kept; Job.retry() runs it from its beginning")
    raise JobNotRetryable(f"workflow {flow_id}: it was changed by somebody else meanwhile ({done.verdict})")


def nodes_to_retry(nodes: Mapping[int, StoredNode]) -> set[int]:
    """The nodes that run again.

    These are the nodes that did not complete, all that comes after them, and those whose result is needed but was not
    kept.
    """
    again = {number for number, node in nodes.items() if node.state[:1] not in ("c", "s")}
    while True:
        found = {
            parent
            for number in again
            for parent in _values_of(nodes, number)
            if parent not in again and nodes[parent].state == "c0"
        }
        for number in sorted(nodes):  # parents have lower numbers
            if any(parent in again or parent in found for parent in nodes[number].parents):
                found.add(number)
        if found <= again:
            return again
        again |= found


def _values_of(nodes: Mapping[int, StoredNode], number: int) -> Iterator[int]:
    """The jobs whose results a node gets."""
    pending = list(nodes[number].parents)
    while pending:
        parent = pending.pop()
        if parent in nodes:
            yield parent
            if nodes[parent].kind == "join":
                pending += nodes[parent].parents
