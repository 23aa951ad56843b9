"""Reading the whole history of a workflow, for people and for a replay elsewhere. Nothing is changed.

A worker that is about to go on with a workflow reads it by `FlowStore.history`, which counts a replay.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ..protocol.constants import NODE_SEPARATOR
from ..protocol.keys import DEFAULT_QUEUE
from .flows import WorkflowHistory, decode_fields, decode_node, text_of_fields
from .job_facts import read_dead_result
from .link import with_retries
from .store import Store

__all__ = ("ListedWorkflow", "StoredWorkflow", "list_workflows", "payload_in_graph", "read_workflow")

EVENTS_PER_READ = 500
TRIES = 5  # while it continues as new, or is resumed, again and again
LISTED_PER_READ = 500
STEP_ENDED = b"s"
OF_THIS_RUN = ["started", "rounds", "resumed"]  # of its record: another history has other ones


class StoredWorkflow(NamedTuple):
    """What Redis has of a workflow.

    :ivar payload: what was enqueued; None once the job has ended
    :ivar result: the encoded result of the job; None while it runs, or if it is not kept
    """

    history: WorkflowHistory
    payload: bytes | None
    result: bytes | None

    @property
    def queue(self) -> str:
        return self.history.record.get("queue", DEFAULT_QUEUE)


class ListedWorkflow(NamedTuple):
    """A workflow in a list.

    :ivar created_ms: when a worker wrote of it first
    """

    flow_id: str
    function: str
    created_ms: int


async def read_workflow(store: Store, flow_id: str) -> StoredWorkflow | None:
    """All that is kept of a workflow; None if there is none of this id.

    The record is read first and the log last. What is written meanwhile only adds to both, in the same order, so the
    one fits the other.
    """
    found: StoredWorkflow | None = None
    for _ in range(TRIES):
        found = await _read_once(store, flow_id)
        if found is None:
            break
        after = await store.redis.hmget(store.keys.flow(flow_id), OF_THIS_RUN)  # type: ignore[misc]
        before = [found.history.record.get(name) for name in OF_THIS_RUN]
        if before == [None if value is None else value.decode() for value in after]:
            break
    return found


async def _read_once(store: Store, flow_id: str) -> StoredWorkflow | None:
    keys = store.keys

    async def read(_: bool) -> list[Any]:
        async with store.redis.pipeline(transaction=False) as pipe:
            pipe.time()
            pipe.hgetall(keys.flow(flow_id))
            pipe.hgetall(keys.flow_nodes(flow_id))
            pipe.llen(keys.flow_log(flow_id))
            pipe.get(keys.job(flow_id))
            pipe.get(keys.result(flow_id))
            replies: list[Any] = await pipe.execute()
            return replies

    (seconds, microseconds), head, fields, count, payload, result = await with_retries(read)
    if not head:
        return None
    record = text_of_fields(_flat(head))
    nodes, timers, waits = decode_fields(_flat(fields))
    events = await _events(store, flow_id, count)
    if payload is None and result is None:
        result = await read_dead_result(store.redis, keys, record.get("queue", DEFAULT_QUEUE), flow_id)
    now_ms = seconds * 1000 + microseconds // 1000
    history = WorkflowHistory(
        now_ms=now_ms, seen=len(events), record=record, nodes=nodes, timers=timers, events=events, waits=waits
    )
    return StoredWorkflow(history, payload, result)


def _flat(fields: Mapping[bytes, bytes]) -> list[bytes]:
    return [part for field in fields.items() for part in field]


async def _events(store: Store, flow_id: str, count: int) -> list[tuple[bytes, bytes | None]]:
    """The first so many events, each with the result of the step that ended."""
    found: list[tuple[bytes, bytes | None]] = []
    for first in range(0, count, EVENTS_PER_READ):
        last = min(first + EVENTS_PER_READ, count) - 1
        events: list[bytes] = await store.redis.lrange(store.keys.flow_log(flow_id), first, last)  # type: ignore[misc]
        results = await _results(store, flow_id, events)
        found += [(event, results.get(place)) for place, event in enumerate(events)]
    return found


async def _results(store: Store, flow_id: str, events: Sequence[bytes]) -> dict[int, bytes | None]:
    """The results of the steps that ended, by the place of the event."""
    parts = [event.split(b" ", 2) for event in events]
    steps = {place: part[1].decode() for place, part in enumerate(parts) if part[0] == STEP_ENDED}
    if not steps:
        return {}
    keys = [store.keys.result(f"{flow_id}{NODE_SEPARATOR}{number}") for number in steps.values()]
    return dict(zip(steps, await store.redis.mget(keys), strict=True))


async def payload_in_graph(store: Store, graph_id: str, number: int) -> bytes | None:
    """The payload of a job of a graph, which is kept as long as the graph; None if there is none."""
    node: bytes | None = await store.redis.hget(store.keys.flow_nodes(graph_id), str(number))  # type: ignore[misc]
    return (decode_node(node).payload or None) if node is not None else None


async def list_workflows(store: Store, *, ended: bool, limit: int) -> tuple[list[ListedWorkflow], bool]:
    """Workflows among the flows that run, the latest first; or among those that have ended and are kept.

    :param limit: flows that are looked at
    :returns: the workflows, and whether there are flows that were not looked at
    """
    key = store.keys.ended_flows if ended else store.keys.flows
    found: list[ListedWorkflow] = []
    for first in range(0, limit, LISTED_PER_READ):
        ids = [each.decode() for each in await store.redis.zrevrange(key, first, first + LISTED_PER_READ - 1)]
        async with store.redis.pipeline(transaction=False) as pipe:
            for flow_id in ids:
                pipe.hmget(store.keys.flow(flow_id), ["kind", "name", "created"])
            heads = await pipe.execute()
        found += [
            ListedWorkflow(flow_id, (name or b"").decode(errors="replace"), int(created or 0))
            for flow_id, (kind, name, created) in zip(ids, heads, strict=True)
            if kind == b"w"
        ]
        if len(ids) < LISTED_PER_READ:
            return found, False
    return found, await store.redis.zcard(key) > limit
