"""Stores a graph and starts it. The protocol is "Flows and joins" in docs/protocols.md."""

from collections import Counter
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import msgspec
from arq.utils import to_ms, to_unix_ms

from ..definitions.graph import Graph, Node
from ..definitions.middleware import enter_batch
from ..definitions.signature import Signature
from ..drop_in.instrumentation import Stored, enqueue_batch_through, enqueues_are_observed
from ..errors import FlowExists
from ..protocol.clock import new_job_id
from ..protocol.keys import checked_queue_name
from ..store.flows import FlowStore, NodeRecord, encode_node, node_id
from .encode import Client, NodeEncoder, arguments_of, as_seen, with_arguments, with_headers

__all__ = ("CHILDREN_PER_PIECE", "child_pieces", "start_flow")

CHILDREN_PER_PIECE = 250  # a script settles whole pieces
_pack = msgspec.msgpack.Encoder().encode


async def start_flow(
    client: Client, graph: Graph, flow_id: str, *, name: str, keep_ms: int, start_ms: int | None = None
) -> None:
    """Store a graph and start it.

    :param name: for people
    :param start_ms: when its first jobs are due, on Redis' clock; None: at once
    :param keep_ms: how long the flow and its results are kept after its end
    :raises FlowExists: the flow's id, or an id chosen for a job, is taken
    :raises SerializationError, PayloadTooLarge: nothing was stored then
    """
    calls = {node.number: node.call for node in graph.nodes if node.call is not None}
    if start_ms is not None:
        calls |= {node.number: _not_before(start_ms, calls[node.number]) for node in graph.first_jobs}
    if not (calls and enqueues_are_observed()):
        return await _start_within_middleware(client, graph, calls, flow_id, name=name, keep_ms=keep_ms)

    async def enqueue(stored: list[Stored]) -> None:
        changed = dict(zip(calls, map(with_arguments, calls.values(), stored), strict=True))
        await _start_within_middleware(client, graph, changed, flow_id, name=name, keep_ms=keep_ms)

    queue = client.default_queue_name
    given = [arguments_of(call, queue, node_id(flow_id, number)) for number, call in calls.items()]
    return await enqueue_batch_through(client, given, enqueue)


async def _start_within_middleware(
    client: Client, graph: Graph, calls: Mapping[int, Signature[Any]], flow_id: str, *, name: str, keep_ms: int
) -> None:
    async with AsyncExitStack() as stack:
        if client.middleware:
            queue = client.default_queue_name
            seen = {number: as_seen(call, queue, node_id(flow_id, number)) for number, call in calls.items()}
            await enter_batch(stack, client.middleware, list(seen.values()), flow_id)
            calls = {number: with_headers(call, seen[number].headers) for number, call in calls.items()}
        return await _store_and_start(client, graph, calls, flow_id, name=name, keep_ms=keep_ms)
    raise AssertionError("a middleware swallowed the exception of an enqueue")


def _not_before(start_ms: int, call: Signature[Any]) -> Signature[Any]:
    """The call of a first job, due at the start of the flow; a delay of its own comes on top."""
    options = call.options
    due_ms = start_ms + (to_ms(options.defer_by) if options.defer_by else 0)
    if options.defer_until is not None:
        due_ms = max(start_ms, to_unix_ms(options.defer_until))
    due = datetime.fromtimestamp(due_ms / 1000, UTC)
    return replace(call, options=replace(options, defer_by=None, defer_until=due))


async def _store_and_start(
    client: Client, graph: Graph, calls: Mapping[int, Signature[Any]], flow_id: str, *, name: str, keep_ms: int
) -> None:
    encoder = NodeEncoder(client.serializer, client.default_queue_name, client.max_payload_bytes)
    flows = FlowStore(client.store)
    nonce = new_job_id()
    fields: list[tuple[str, bytes | str]] = []
    queues: set[str] = set()
    counts: Counter[tuple[str, str]] = Counter()
    outputs = graph.output_nodes
    chosen_ids = any(node.call is not None and node.call.options.job_id for node in graph.nodes)
    for node in graph.nodes:
        fields += child_pieces(node.number, node.children)
        if node.number == 0:
            continue
        record = _record_of(encoder, node, calls.get(node.number), flow_id, output=node.number in outputs)
        fields.append((str(node.number), encode_node(record)))
        if node.values is not None:
            fields.append((f"{node.number}p", _pack(node.values)))
        elif node.call is not None:
            queues.add(checked_queue_name(record.queue, client.store.keys))
            counts[record.queue, record.label] += 1
            if node.call.options.job_id:
                fields.append((f"{node.number}i", node.call.options.job_id))
    joins = [(str(node.number), len(node.parents)) for node in graph.nodes if node.values is not None and node.parents]
    jobs = sum(1 for _ in graph.jobs)
    record_fields: dict[str, str | int] = {
        **{"kind": "g", "nonce": nonce, "name": name, "keep": keep_ms, "total": jobs, "output": graph.output},
        "queues": "\n".join(sorted(queues)),
    }
    if chosen_ids:
        record_fields["ids"] = 1
    verdict: str = await flows.store(flow_id, nonce, record_fields, fields, joins)
    if verdict == "stored":
        verdict = await flows.start(flow_id, nonce, source=0, left=jobs, nodes=len(graph.nodes) - 1)
        if verdict == "started":
            for (queue, label), count in counts.items():
                client.store.enqueued.add(queue, label, count)
    if verdict == "taken":
        raise FlowExists(f"flow {flow_id}: expected job ids that are free, got one of a job that exists")
    if verdict != "started":
        raise FlowExists(f"expected the id of a flow that does not exist, got {flow_id!r}")


def _record_of(
    encoder: NodeEncoder, node: Node, call: Signature[Any] | None, flow_id: str, *, output: bool
) -> NodeRecord:
    if call is None:
        return NodeRecord("join", "error" if node.on_error else "ok", node.on_failure)
    return encoder.record(
        call,
        flow_id,
        node.number,
        gets=node.gets,
        children=node.children,
        on_error=node.on_error,
        on_failure=node.on_failure,
        output=output,
    )


def child_pieces(number: int, children: list[int]) -> list[tuple[str, bytes]]:
    """The children of a node as they are stored: in pieces. Each piece says whether another one follows."""
    return [
        (
            f"{number}c{first // CHILDREN_PER_PIECE}",
            _pack([int(first + CHILDREN_PER_PIECE < len(children)), *children[first : first + CHILDREN_PER_PIECE]]),
        )
        for first in range(0, len(children), CHILDREN_PER_PIECE)
    ]
