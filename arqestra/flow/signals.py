"""Events that people send to a workflow: sending them, and giving them to the waits of its function."""

import asyncio
import hashlib
import logging
from collections import defaultdict, deque
from typing import Any
from urllib.parse import quote, unquote

from arq.jobs import SerializationError

from ..definitions.rules import is_text
from ..errors import ArgumentsError
from ..protocol.clock import new_job_id
from ..protocol.serializers import Serializer
from ..protocol.wire import function_of
from ..store.find import queue_of_job
from ..store.flows import FlowStore
from ..store.workflows import is_workflow_name
from .encode import Client

__all__ = ("WORKFLOW", "Signals", "encoded_signal", "send_signal")

logger = logging.getLogger("arq.worker")

WORKFLOW = "wf"  # among the options of a payload: the producer knows that its function is a workflow
TRIES = 5


async def send_signal(
    client: Client, flow_id: str, event: Any, *, value: Any = None, key: Any = None, queue: str | None = None
) -> bool:
    """Send an event; see `Pool.signal`.

    :param queue: where the workflow may be; default the pool's queue
    """
    if not is_text(flow_id):
        raise ArgumentsError(f"signal: flow id: expected a str of at least one character, got {flow_id!r}")
    if not isinstance(event, str):
        raise ArgumentsError(f"signal: event: expected a str, got {event!r}")
    if key is not None and not (isinstance(key, str) and key):
        raise ArgumentsError(f"signal: key: expected a str of at least one character, got {key!r}")
    try:
        data = client.serializer.dumps({"v": value})
        name = quote(event, safe="")
    except Exception as error:
        raise SerializationError(f"unable to serialize the value of event {event!r}") from error
    nonce = (
        new_job_id() if key is None else hashlib.sha256(f"{name} {key}".encode("utf-8", "surrogatepass")).hexdigest()
    )
    text = encoded_signal(nonce, name, data)
    flows, shown = FlowStore(client.store), ""
    queue = queue or client.default_queue_name
    for _ in range(TRIES):
        reply = await flows.signal(flow_id, queue, text, shown=shown, once=key is not None)
        if isinstance(reply, bool):
            return reply
        if not await _is_workflow(client, reply):
            return False
        shown = hashlib.sha1(reply, usedforsecurity=False).hexdigest()
        queue = (await queue_of_job(client.store, flow_id, [queue, client.default_queue_name]))[0] or queue
    return False  # another job each time


def encoded_signal(nonce: str, quoted_name: str, data: bytes) -> bytes:
    """An event as the history has it.

    :param data: its value, encoded as {"v": value}
    """
    return f"{nonce} {quoted_name} ".encode() + data


async def _is_workflow(client: Client, payload: bytes) -> bool:
    """Whether a job that has not begun is a workflow, as its producer or a worker with its function said."""
    function, options = function_of(client.serializer, payload)
    return WORKFLOW in options or await is_workflow_name(client.store, function)


class Signals:
    """Gives the events that people sent to the function's waits; keeps those that it has not asked for yet."""

    def __init__(self, serializer: Serializer, flow_id: str) -> None:
        self._serializer = serializer
        self._flow_id = flow_id
        self._unread: defaultdict[str, deque[tuple[str, Any]]] = defaultdict(deque)
        self._waits: defaultdict[str, deque[asyncio.Future[Any]]] = defaultdict(deque)
        self._nonces: set[str] = set()

    def receive(self, value: bytes) -> None:
        """An event came: give it to the first wait for its name, or keep it."""
        nonce, name_text, data = value.split(b" ", 2)
        if nonce.decode() in self._nonces:
            return  # sent again because a reply was lost
        self._nonces.add(nonce.decode())
        name = unquote(name_text.decode())
        try:
            content = self._serializer.loads(data)["v"]
        except Exception as error:
            logger.warning("workflow %s: event %r cannot be read, it is left out: %s", self._flow_id, name, error)
            return
        waits = self._waits[name]
        while waits:
            wait = waits.popleft()
            if not wait.done():
                wait.set_result(content)
                return
        self._unread[name].append((nonce.decode(), content))

    def wait(self, name: str, future: asyncio.Future[Any]) -> None:
        """The function waits for an event: give it the oldest that was kept, or the next that comes."""
        if self._unread[name]:
            future.set_result(self._unread[name].popleft()[1])
        else:
            self._waits[name].append(future)

    def unread(self) -> list[str]:
        """Nonces of the events that the function has not asked for."""
        return [nonce for events in self._unread.values() for nonce, _ in events]

    def waited_for(self) -> list[str]:
        """Names of the events that the function waits for."""
        return [name for name, waits in self._waits.items() if any(not wait.done() for wait in waits)]
