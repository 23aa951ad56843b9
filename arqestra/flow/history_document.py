"""The history of a workflow as a document: plain data that JSON carries, with all that a replay of it needs.

`export.py` makes one out of what Redis has, `arqestra.testing` replays it. Bytes are those of the serializer, as
base64. A document holds arguments, results and events as they are: nothing in it is masked.
"""

from datetime import UTC, datetime
from typing import Any, NamedTuple
from urllib.parse import quote, unquote

import msgspec

from ..errors import ArgumentsError
from ..store.flows import NodeRecord, WorkflowHistory
from ..version import VERSION as RELEASE
from .signals import encoded_signal

__all__ = ("FORMAT", "VERSION", "WorkflowExport", "decode_document", "encode_document")

FORMAT = "arqestra workflow history"
VERSION = 1
KINDS = {"s": "step", "t": "timer", "e": "value", "g": "signal", "x": "cancelled", "d": "timed out"}
LETTERS = {kind: letter for letter, kind in KINDS.items()}
OF_RECORD = ("started", "base", "rounds", "ran", "cancelled", "timed_out", "resumed", "created", "ended", "blocked_by")


class WorkflowExport(NamedTuple):
    """A workflow as it is exported.

    :ivar function: name of its function
    :ivar serializer: name of the serializer that all bytes are of
    :ivar status: "running", "complete" or "failed"; an aborted one has failed
    :ivar payload: what was enqueued; None of one that has ended
    :ivar result: its encoded result, with the arguments; None of one that runs
    :ivar input: its first argument out of the graph that it is a job of, encoded as {"v": value}; None if there is none
    """

    flow_id: str
    function: str
    queue: str
    serializer: str
    status: str
    payload: bytes | None
    result: bytes | None
    input: bytes | None
    history: WorkflowHistory


class Asked(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Something that the workflow asked for: kind "job", "timer", "value" or "patch"."""

    number: int
    kind: str
    label: str
    digest: str = ""
    queue: str = ""
    when: str = ""
    due_ms: int | None = None


class Wait(msgspec.Struct, frozen=True):
    number: int
    event: str


class Event(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Something that happened.

    :ivar number: of what it is the end of; 0 of a signal, a cancellation, the end of its time
    :ivar state: of a step: its first letter is c complete, f failed, a aborted, x expired
    :ivar event: name of a signal
    :ivar nonce: tells a signal from one that was sent once more
    """

    kind: str
    at_ms: int
    number: int = 0
    state: str = ""
    event: str = ""
    nonce: str = ""
    value: bytes = b""
    result: bytes | None = None


class Document(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    format: str
    version: int
    arqestra: str
    id: str
    function: str
    queue: str
    serializer: str
    status: str
    exported: datetime
    record: dict[str, str]
    payload: bytes | None = None
    result: bytes | None = None
    input: bytes | None = None
    asked: list[Asked]
    waits: list[Wait]
    events: list[Event]


def encode_document(export: WorkflowExport) -> dict[str, Any]:
    """The document of a workflow."""
    history = export.history
    document = Document(
        format=FORMAT,
        version=VERSION,
        arqestra=RELEASE,
        id=export.flow_id,
        function=export.function,
        queue=export.queue,
        serializer=export.serializer,
        status=export.status,
        exported=datetime.fromtimestamp(history.now_ms / 1000, tz=UTC),
        record={name: history.record[name] for name in OF_RECORD if name in history.record},
        payload=export.payload,
        result=export.result,
        input=export.input,
        asked=[_asked(number, node, history.timers.get(number)) for number, node in sorted(history.nodes.items())],
        waits=[Wait(number, event) for number, event in sorted(history.waits.items())],
        events=[_event(event, result) for event, result in history.events],
    )
    plain: dict[str, Any] = msgspec.to_builtins(document)
    return plain


def _asked(number: int, node: NodeRecord, due_ms: int | None) -> Asked:
    return Asked(
        number=number,
        kind=node.kind,
        label=node.label,
        digest=node.digest,
        queue=node.queue,
        when=node.when,
        due_ms=due_ms,
    )


def _event(event: bytes, result: bytes | None) -> Event:
    letter, number, at_ms, value = event.split(b" ", 3)
    made = Event(kind=KINDS[letter.decode()], number=int(number), at_ms=int(at_ms), result=result)
    replace = msgspec.structs.replace
    match made.kind:
        case "step":
            return replace(made, state=value.decode())
        case "signal":
            nonce, name, data = value.split(b" ", 2)
            return replace(made, nonce=nonce.decode(), event=unquote(name.decode()), value=data)
        case "cancelled":
            return replace(made, nonce=value.decode())
        case _:
            return replace(made, value=value)


def decode_document(document: Any) -> WorkflowExport:
    """What a document holds.

    :raises ArgumentsError: it is no document of this version
    """
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        got = document.get("format") if isinstance(document, dict) else document
        raise ArgumentsError(f"history: expected a document with format {FORMAT!r}, got {_shown(got)}")
    if document.get("version") != VERSION:
        raise ArgumentsError(
            f"history: expected version {VERSION} of the format, got {_shown(document.get('version'))}; "
            "export it anew, or replay it with the arqestra that wrote it"
        )
    try:
        read = msgspec.convert(document, Document)
        events = [(_event_bytes(event), event.result) for event in read.events]
    except (msgspec.ValidationError, KeyError) as error:
        raise ArgumentsError(f"history {_shown(document.get('id'))}: {error}") from None
    history = WorkflowHistory(
        now_ms=round(read.exported.timestamp() * 1000),
        seen=len(events),
        record=read.record,
        nodes={
            each.number: NodeRecord(each.kind, queue=each.queue, when=each.when, label=each.label, digest=each.digest)
            for each in read.asked
        },
        timers={each.number: each.due_ms for each in read.asked if each.due_ms is not None},
        events=events,
        waits={wait.number: wait.event for wait in read.waits},
    )
    return WorkflowExport(
        flow_id=read.id,
        function=read.function,
        queue=read.queue,
        serializer=read.serializer,
        status=read.status,
        payload=read.payload,
        result=read.result,
        input=read.input,
        history=history,
    )


def _event_bytes(event: Event) -> bytes:
    letter = LETTERS[event.kind]
    value = event.state.encode() + event.value
    if event.kind == "signal":
        value = encoded_signal(event.nonce, quote(event.event, safe=""), event.value)
    elif event.kind == "cancelled":
        value = event.nonce.encode()
    return f"{letter} {event.number} {event.at_ms} ".encode() + value


def _shown(value: Any) -> str:
    """A short text of what was got; never a whole document, which may hold secrets."""
    return repr(value)[:80] if isinstance(value, str | int | float | None) else type(value).__name__
