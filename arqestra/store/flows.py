"""The transitions of flows, and what is read of them. `lua/_flow.lua` explains the data."""

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, cast

import msgspec

from ..definitions.limits import Entry, encode_limit_spec
from ..errors import HistoryTooLong
from ..protocol.constants import MAX_EVENTS, NODE_SEPARATOR
from .store import Store

__all__ = (
    "Advance",
    "FlowStore",
    "NodeRecord",
    "Reference",
    "Value",
    "WorkflowHistory",
    "decode_fields",
    "decode_node",
    "encode_node",
    "node_id",
    "node_spec",
    "text_of_fields",
)

# What a job's first argument is made of: the number of a node (its value, or exception), "u" and the number of a job at
# fault (the `UpstreamFailed` of what did not run because of it), or a list of such.
Reference = int | str | list["Reference"]

FIELDS_PER_CALL = 2_000
BYTES_PER_CALL = 4 * 1024 * 1024
VALUES_PER_CALL = 500
EVENTS_PER_CALL = 500
JOBS_PER_CALL = 500


class NodeRecord(NamedTuple):
    """A node as it is stored.

    :ivar kind: "job", "join", or of a workflow what else it asked for: "timer", "value", "patch"
    :ivar runs: "ok", or "error": only if its parent failed
    :ivar on_failure: "fail" or "continue"
    :ivar when: '' due at its release, `+ms` that much later, `=ms` at that time; of a timer its ms
    :ivar spec: limits as the scripts read them
    :ivar label: what a person is told of it: the function's name
    :ivar digest: of the arguments, by which a replay knows them
    """

    kind: str
    runs: str = "ok"
    on_failure: str = "fail"
    queue: str = ""
    priority: int = 0
    limit: str = ""
    when: str = ""
    label: str = ""
    digest: str = ""
    spec: bytes = b""
    payload: bytes = b""


_HEADER_FIELDS = 9


def node_id(flow_id: str, number: int) -> str:
    """The job id of a node, unless one was chosen for it."""
    return f"{flow_id}{NODE_SEPARATOR}{number}"


def encode_node(node: NodeRecord) -> bytes:
    header = msgspec.msgpack.encode(node[:_HEADER_FIELDS])
    return b"%04d%b%05d%b%b" % (len(header), header, len(node.spec), node.spec, node.payload)


def decode_node(data: bytes) -> NodeRecord:
    header_end = 4 + int(data[:4])
    header = msgspec.msgpack.decode(data[4:header_end])
    spec_end = header_end + 5 + int(data[header_end : header_end + 5])
    return NodeRecord(*header)._replace(spec=data[header_end + 5 : spec_end], payload=data[spec_end:])


def node_spec(
    entries: Sequence[Entry], flow_id: str, number: int, children: Sequence[int] | None = None, *, output: bool = False
) -> bytes:
    """The spec of a job that is a node of a flow.

    :param children: what hangs on it; None in a workflow, where the function decides that
    :param output: its result is part of the flow's, and kept with it
    """
    only_child = -1 if children is None or len(children) > 1 else (*children, 0)[0]  # saves looking it up
    return encode_limit_spec([*entries, ("n", flow_id, number, only_child, int(output))])


class Value(NamedTuple):
    """What a node ended with.

    :ivar state: '' if it has not ended
    :ivar parents: of a join: the numbers of the nodes whose values are its value
    :ivar result: of a job: its encoded result; None if it has none
    """

    state: str
    parents: tuple[int, ...] | None
    result: bytes | None
    job_id: str


class WorkflowHistory(NamedTuple):
    """What happened in a workflow.

    :ivar events: each with the encoded result of the step that it is about, if it is about one
    :ivar seen: events of it that are known then
    :ivar waits: names of events that it waited for, by number
    """

    now_ms: int
    seen: int
    record: dict[str, str]
    nodes: dict[int, NodeRecord]
    timers: dict[int, int]
    events: list[tuple[bytes, bytes | None]]
    waits: Mapping[int, str] = MappingProxyType({})


class Advance(NamedTuple):
    """What a workflow decided.

    :ivar nodes: number -> encoded record
    :ivar events: (number or 0, kind, value)
    :ivar aborts: numbers of steps that it gives up
    :ivar waits: number -> name of an event that it waits for
    :ivar ran: how far it has come, as `Point.encode`; '' if this is not all that it decided up to there
    :ivar fault: of one that is about to end as failed: from where it can be resumed, '' if from where it is; else None
    """

    nodes: Sequence[tuple[int, bytes]] = ()
    events: Sequence[tuple[int, str, bytes]] = ()
    aborts: Sequence[int] = ()
    waits: Sequence[tuple[int, str]] = ()
    ran: str = ""
    fault: str | None = None


class FlowStore:
    """The transitions of flows, over a store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._keys = store.keys

    async def _call(self, name: str, flow_id: str, *args: bytes | str | int) -> Any:
        return await self._store.call(name, flow_id, *args)

    # -- graphs ---------------------------------------------------------------------------------------------------

    async def store(
        self,
        flow_id: str,
        nonce: str,
        record: Mapping[str, str | int],
        nodes: Sequence[tuple[str, bytes | str]],
        pending: Sequence[tuple[str, int]],
    ) -> Literal["stored", "exists", "taken"]:
        """Store what a flow consists of, a piece at a time. Nothing of it takes effect before `start`."""
        first = [*record.items()]
        for piece in _pieces(nodes):
            verdict = await self._store_piece(flow_id, nonce, first, piece, ())
            if verdict != "stored":
                return verdict
            first = []
        for at in range(0, len(pending), FIELDS_PER_CALL):
            verdict = await self._store_piece(flow_id, nonce, first, (), pending[at : at + FIELDS_PER_CALL])
            if verdict != "stored":
                return verdict
        return "stored"

    async def _store_piece(
        self, flow_id: str, nonce: str, *parts: Sequence[tuple[str, Any]]
    ) -> Literal["stored", "exists", "taken"]:
        flat = [field for part in parts for entry in part for field in entry]
        reply = await self._call("flow_store", flow_id, nonce, *(len(part) for part in parts), *flat)
        return cast(Literal["stored", "exists", "taken"], reply.decode())

    async def start(
        self, flow_id: str, nonce: str, *, source: int, left: int, nodes: int, reset: bool = False, after: str = ""
    ) -> Literal["started", "missing", "exists"]:
        """Start what was stored.

        :param source: the node whose children are the first
        :param left: jobs that have to end until the flow has ended
        :param nodes: the highest number of a node
        :param reset: nodes of an earlier round run again
        :param after: the nonce of that round
        """
        reply = await self._call("flow_start", flow_id, nonce, source, left, "1" if reset else "0", nodes, after)
        return cast(Literal["started", "missing", "exists"], reply.decode())

    async def cancel(self, flow_id: str, reason: str) -> Literal["cancelled", "ended", "missing"]:
        """Cancel a graph that runs."""
        reply = await self._call("flow_cancel", flow_id, reason)
        return cast(Literal["cancelled", "ended", "missing"], reply.decode())

    async def forget(self, flow_id: str, jobs: Sequence[tuple[str, str]]) -> bool:
        """Remove a flow that has ended, with its jobs' (id, queue) results; False if it runs."""
        for first in range(0, max(1, len(jobs)), JOBS_PER_CALL):
            piece = jobs[first : first + JOBS_PER_CALL]
            last = first + JOBS_PER_CALL >= len(jobs)
            flat = [field for job in piece for field in job]
            if await self._call("flow_forget", flow_id, "1" if last else "0", *flat) == b"running":
                return False
        return True

    async def values(self, flow_id: str, numbers: Sequence[int]) -> list[Value] | None:
        """What nodes ended with; None if there is no such flow."""
        found: list[Value] = []
        for first in range(0, len(numbers), VALUES_PER_CALL):
            reply = await self._call("flow_values", flow_id, *numbers[first : first + VALUES_PER_CALL])
            if reply[0] == b"0":
                return None
            fields = iter(reply[1:])
            for number, state, held, what in zip(numbers[first : first + VALUES_PER_CALL], *[fields] * 3, strict=True):
                if what == b"join":
                    found.append(Value(state.decode(), tuple(msgspec.msgpack.decode(held)), None, ""))
                else:
                    job_id = what[3:].decode() if what else node_id(flow_id, number)
                    found.append(Value(state.decode(), None, held, job_id))
        return found

    # -- workflows ------------------------------------------------------------------------------------------------

    async def history(self, flow_id: str, queue: str, *, after: int = 0, nodes: bool = False) -> WorkflowHistory:
        """The events of a workflow after the first so many; with its nodes, for a replay."""
        reply = await self._store.call("history", queue, flow_id, after, EVENTS_PER_CALL, "1" if nodes else "0")
        now_ms, count, record, fields, *flat = reply
        events = list(zip(flat[::2], flat[1::2], strict=True))
        while after + len(events) < count:
            more = await self._store.call("history", queue, flow_id, after + len(events), EVENTS_PER_CALL, "0")
            if not more[4:]:
                break
            events += zip(more[4::2], more[5::2], strict=True)
        known, timers, waits = decode_fields(fields)
        return WorkflowHistory(
            now_ms=now_ms,
            seen=after + len(events),
            record=text_of_fields(record),
            nodes=known,
            timers=timers,
            events=events,
            waits=waits,
        )

    async def advance(
        self, flow_id: str, queue: str, token: str, decided: Advance, *, keep_ms: int, name: str, started_ms: int
    ) -> list[int] | None:
        """Write what a workflow decided; None if the lease is lost, else the due times of its timers, in order."""
        flat: list[bytes | str | int] = []
        for number, record in decided.nodes:
            flat += (number, record)
        for number, kind, value in decided.events:
            flat += (number, kind, value)
        flat += decided.aborts
        for number, waited_for in decided.waits:
            flat += (number, waited_for)
        counts = f"{len(decided.nodes)} {len(decided.events)} {len(decided.aborts)} {len(decided.waits)}"
        fault = "-" if decided.fault is None else decided.fault
        reply = await self._store.call(
            "advance", queue, flow_id, token, keep_ms, name, started_ms, counts, decided.ran, fault, *flat
        )
        return None if reply[0] == b"0" else [int(due) for due in reply[2:]]

    async def signal(
        self, flow_id: str, queue: str, event: bytes, *, shown: str = "*", once: bool = False
    ) -> bool | bytes:
        """Send an event to a workflow; False if it is not queued and does not run.

        :param event: nonce, name and value
        :param shown: the SHA1 of the payload that shows that it is a workflow; "" if none has been read, "*" if it is
            known to be one
        :param once: the nonce is made of the caller's key
        :returns: the payload, if the caller has to read it to know whether the job is a workflow; nothing was sent then
        :raises HistoryTooLong: its history is full
        """
        reply = await self._store.call("signal", queue, flow_id, event, shown, "1" if once else "0")
        if reply == b"full":
            raise HistoryTooLong(
                f"workflow {flow_id}: expected at most {MAX_EVENTS:,} events in its history, it has them"
            )
        return cast(bytes, reply[0]) if isinstance(reply, list) else bool(reply == b"sent")


def _pieces(nodes: Sequence[tuple[str, bytes | str]]) -> Iterator[Sequence[tuple[str, bytes | str]]]:
    """Pieces that bound the time of one script call and the size of one request."""
    first = size_bytes = 0
    for at, (_, data) in enumerate(nodes):
        size_bytes += len(data)
        if at > first and (at - first == FIELDS_PER_CALL or size_bytes > BYTES_PER_CALL):
            yield nodes[first:at]
            first, size_bytes = at, len(data)
    yield nodes[first:]


def text_of_fields(flat: Sequence[bytes]) -> dict[str, str]:
    """The fields of a hash as text."""
    return {name.decode(): value.decode(errors="replace") for name, value in zip(flat[::2], flat[1::2], strict=True)}


def decode_fields(flat: Sequence[bytes]) -> tuple[dict[int, NodeRecord], dict[int, int], dict[int, str]]:
    """What a workflow asked for: its nodes, when its timers are due, and names of events that it waited for."""
    nodes: dict[int, NodeRecord] = {}
    timers: dict[int, int] = {}
    waits: dict[int, str] = {}
    for field, data in zip(flat[::2], flat[1::2], strict=True):
        name = field.decode()
        if name.isdigit():
            nodes[int(name)] = decode_node(data)
        elif name.endswith("t"):
            timers[int(name[:-1])] = int(data)
        elif name.endswith("w"):
            waits[int(name[:-1])] = data.decode()
    return nodes, timers, waits
