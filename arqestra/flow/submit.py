"""Storing a graph, and starting it: half of one never runs.

The nodes are stored first, 2,000 a script call, with a TTL; the last call starts the flow and takes the TTL away. A
producer that dies in between leaves nothing that runs, and after an hour nothing at all.
"""

from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any

import msgspec

from ..errors import FlowExists
from ..graph import Graph, Node
from ..identity import new_job_id
from ..middleware import EnqueuedCall
from ..signature import Signature
from ..store.flows import FlowStore, NodeRecord, encode_node
from .encode import Client, NodeEncoder

__all__ = ("CHILDREN_A_PIECE", "child_pieces", "start_flow")

CHILDREN_A_PIECE = 250  # a script settles whole pieces
_pack = msgspec.msgpack.Encoder().encode


async def start_flow(client: Client, graph: Graph, flow_id: str, *, name: str, keep_ms: int) -> None:
    """Store a graph and start it.

    :param name: for people
    :param keep_ms: how long the flow and its results are kept after its end
    :raises FlowExists: the flow's id, or an id chosen for a job, is taken
    :raises SerializationError, PayloadTooLarge: nothing was stored then
    """
    encoder = NodeEncoder(client.serializer, client.default_queue_name, client.max_payload_bytes)
    flows = FlowStore(client.store)
    nonce = new_job_id()
    fields: list[tuple[str, bytes | str]] = []
    queues: set[str] = set()
    outputs = graph.output_nodes
    chosen_ids = any(node.call is not None and node.call.options.job_id for node in graph.nodes)
    for node in graph.nodes:
        fields += child_pieces(node.number, node.children)
        if node.number == 0:
            continue
        record = await _record_of(client, encoder, node, flow_id, output=node.number in outputs)
        fields.append((str(node.number), encode_node(record)))
        if node.values is not None:
            fields.append((f"{node.number}p", _pack(node.values)))
        elif node.call is not None:
            queues.add(record.queue)
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
    if verdict == "taken":
        raise FlowExists(f"flow {flow_id}: expected job ids that are free, got one of a job that exists")
    if verdict != "started":
        raise FlowExists(f"expected the id of a flow that does not exist, got {flow_id!r}")


async def _record_of(client: Client, encoder: NodeEncoder, node: Node, flow_id: str, *, output: bool) -> NodeRecord:
    if node.call is None:
        return NodeRecord("join", "error" if node.on_error else "ok", node.on_failure)
    call = await _within_middleware(client, node.call) if client.middleware else node.call
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


async def _within_middleware(client: Client, call: Signature[Any]) -> Signature[Any]:
    """The call with the headers that the middleware gave it."""
    queue = call.options.queue or getattr(call.function, "queue", None) or client.default_queue_name
    seen = EnqueuedCall(call.name, call.args, call.kwargs, queue, dict(call.options.headers or {}))
    async with AsyncExitStack() as stack:
        for middleware in client.middleware:
            await stack.enter_async_context(middleware.around_enqueue(seen))
    return replace(call, options=replace(call.options, headers=seen.headers)) if seen.headers else call


def child_pieces(number: int, children: list[int]) -> list[tuple[str, bytes]]:
    """The children of a node as they are stored: pieces, each of which says whether another follows."""
    return [
        (
            f"{number}c{first // CHILDREN_A_PIECE}",
            _pack([int(first + CHILDREN_A_PIECE < len(children)), *children[first : first + CHILDREN_A_PIECE]]),
        )
        for first in range(0, len(children), CHILDREN_A_PIECE)
    ]
