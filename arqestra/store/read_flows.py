"""Reading flows: their changes are scripts."""

from collections.abc import Mapping
from typing import NamedTuple

import msgspec

from ..definitions.limits import flow_position
from ..protocol.constants import NODE_SEPARATOR
from .flows import NodeRecord, decode_node, node_id
from .store import Store

__all__ = (
    "FlowRecord",
    "StoredNode",
    "count_events",
    "list_flows",
    "node_of_job",
    "read_events",
    "read_flow",
    "read_nodes",
)

NODES_PER_READ = 2_000


class FlowRecord(NamedTuple):
    """The record of a flow.

    :ivar kind: "g" a graph, "w" a workflow
    :ivar state: "running" or "ended"
    :ivar output: the node whose value is the flow's
    :ivar output_state: of that node
    :ivar nodes: the highest number of a node
    :ivar total: jobs
    :ivar cancelled: the reason, if it was cancelled
    :ivar fields: all that is written there
    """

    kind: str
    name: str
    state: str
    output: int
    output_state: str
    nodes: int
    total: int
    cancelled: str | None
    counts: Mapping[str, int]
    nonce: str
    round: str
    fields: Mapping[str, str]

    @property
    def has_output(self) -> bool:
        return self.output_state not in ("", "q")


class StoredNode(NamedTuple):
    """A node of a flow, with its state as it is stored."""

    number: int
    kind: str
    job_id: str
    function: str
    queue: str
    state: str
    parents: tuple[int, ...]
    on_error: bool
    running: bool = False


async def read_flow(store: Store, flow_id: str) -> FlowRecord | None:
    """The record of a flow that was started; None if there is none."""
    redis, keys = store.redis, store.keys
    raw = await redis.hgetall(keys.flow(flow_id))  # type: ignore[misc]
    fields = {name.decode(): value.decode(errors="replace") for name, value in raw.items()}
    if "state" not in fields:
        return None
    output = int(fields.get("output", 0))
    state = await redis.hget(keys.flow_states(flow_id), str(output))  # type: ignore[misc]
    counts = {letter: int(fields[letter]) for letter in "qcfaxusd" if letter in fields}
    return FlowRecord(
        kind=fields["kind"],
        name=fields.get("name", ""),
        state=fields["state"],
        output=output,
        output_state=state.decode() if state else "",
        nodes=int(fields.get("nodes", 0)),
        total=int(fields.get("total", 0)),
        cancelled=fields.get("cancelled"),
        counts=counts,
        nonce=fields.get("nonce", ""),
        round=fields.get("round", ""),
        fields=fields,
    )


async def read_nodes(store: Store, flow_id: str, *, running: bool = False) -> list[StoredNode]:
    """The nodes of a flow by number, in pieces.

    :param running: find out of queued ones whether a worker holds them
    """
    redis, keys = store.redis, store.keys
    known = await redis.hget(keys.flow(flow_id), "nodes")  # type: ignore[misc]
    last = int(known or 0)
    parents = await _parents(store, flow_id)
    found: list[StoredNode] = []
    sources = {0}
    for first in range(1, last + 1, NODES_PER_READ):
        numbers = range(first, min(first + NODES_PER_READ, last + 1))
        async with redis.pipeline(transaction=False) as pipe:
            pipe.hmget(keys.flow_nodes(flow_id), [str(number) for number in numbers])
            pipe.hmget(keys.flow_nodes(flow_id), [f"{number}i" for number in numbers])
            pipe.hmget(keys.flow_states(flow_id), [str(number) for number in numbers])
            records, ids, states = await pipe.execute()
        for number, data, job_id, state in zip(numbers, records, ids, states, strict=True):
            if data is None:
                continue
            record = decode_node(data)
            if record.kind == "source":
                sources.add(number)
            else:
                found.append(
                    _stored(flow_id, number, record, job_id=job_id, state=state, parents=parents.get(number, ()))
                )
    found = [node._replace(parents=tuple(each for each in node.parents if each not in sources)) for node in found]
    return await _with_running(store, found) if running else found


def _stored(
    flow_id: str,
    number: int,
    record: NodeRecord,
    *,
    job_id: bytes | None,
    state: bytes | None,
    parents: tuple[int, ...],
) -> StoredNode:
    return StoredNode(
        number=number,
        kind=record.kind,
        job_id=job_id.decode() if job_id else node_id(flow_id, number),
        function=record.label,
        queue=record.queue,
        state=state.decode() if state else "",
        parents=parents,
        on_error=record.runs == "error",
    )


async def _parents(store: Store, flow_id: str) -> dict[int, tuple[int, ...]]:
    """Of each node what it waits for, out of the children of the others."""
    parents: dict[int, set[int]] = {}
    async for field, data in store.redis.hscan_iter(store.keys.flow_nodes(flow_id), match="*c*", count=1000):
        number, _, piece = field.decode().partition("c")
        if not (number.isdigit() and piece.isdigit()):
            continue
        for child in msgspec.msgpack.decode(data)[1:]:
            parents.setdefault(child, set()).add(int(number))
    return {child: tuple(sorted(given)) for child, given in parents.items()}


async def _with_running(store: Store, nodes: list[StoredNode]) -> list[StoredNode]:
    queued = [node.job_id for node in nodes if node.state == "q"]
    held: set[str] = set()
    for first in range(0, len(queued), NODES_PER_READ):
        piece = queued[first : first + NODES_PER_READ]
        leases = await store.redis.mget([store.keys.lease(job_id) for job_id in piece])
        held |= {job_id for job_id, lease in zip(piece, leases, strict=True) if lease is not None}
    return [node._replace(running=node.state == "q" and node.job_id in held) for node in nodes]


async def count_events(store: Store, flow_id: str) -> int:
    """Events in the history of a workflow."""
    count: int = await store.redis.llen(store.keys.flow_log(flow_id))  # type: ignore[misc]
    return count


async def read_events(store: Store, flow_id: str, offset: int, limit: int) -> list[bytes]:
    """Events of a workflow's history, the first first: `kind number time value`."""
    found: list[bytes] = await store.redis.lrange(store.keys.flow_log(flow_id), offset, offset + limit - 1)  # type: ignore[misc]
    return found


async def list_flows(store: Store, *, ended: bool = False, limit: int = 100) -> list[str]:
    """Ids of flows that run, the latest first; or of those that have ended and are kept."""
    key = store.keys.ended_flows if ended else store.keys.flows
    return [flow_id.decode() for flow_id in await store.redis.zrevrange(key, 0, limit - 1)]


async def node_of_job(store: Store, queue: str, job_id: str) -> tuple[str, int] | None:
    """The flow of a job and its number there, 0 for a workflow itself; None if it belongs to none that is known.

    A job's spec says so while it is in its queue; after that it is known by its id, unless one was chosen for it.
    """
    redis, keys = store.redis, store.keys
    spec: bytes | None = await redis.hget(keys.specs(queue), job_id)  # type: ignore[misc]
    position = flow_position(spec) if spec else None
    if position is not None:
        return position
    flow_id, _, number = job_id.rpartition(NODE_SEPARATOR)
    if flow_id and number.isdigit() and len(number) < 10 and await redis.exists(keys.flow(flow_id)):
        return flow_id, int(number)
    return (job_id, 0) if await redis.exists(keys.flow(job_id)) else None
