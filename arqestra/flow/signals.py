"""Events that people send to a workflow, and the function's waits for them."""

import asyncio
import logging
from collections import defaultdict, deque
from typing import Any
from urllib.parse import unquote

from ..protocol.serializers import Serializer

__all__ = ("Signals",)

logger = logging.getLogger("arq.worker")


class Signals:
    """Events that came, in their order, until the function asks for them."""

    def __init__(self, serializer: Serializer, flow_id: str) -> None:
        self._serializer = serializer
        self._flow_id = flow_id
        self._unread: defaultdict[str, deque[tuple[str, Any]]] = defaultdict(deque)
        self._listeners: defaultdict[str, deque[asyncio.Future[Any]]] = defaultdict(deque)
        self._nonces: set[str] = set()

    def take(self, value: bytes) -> None:
        """One came."""
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
        listeners = self._listeners[name]
        while listeners:
            listener = listeners.popleft()
            if not listener.done():
                listener.set_result(content)
                return
        self._unread[name].append((nonce.decode(), content))

    def give(self, name: str, future: asyncio.Future[Any]) -> None:
        """The function waits for the next one of a name that it has not got yet."""
        if self._unread[name]:
            future.set_result(self._unread[name].popleft()[1])
        else:
            self._listeners[name].append(future)

    def unread(self) -> list[str]:
        """Nonces of those that nobody took."""
        return [nonce for waiting in self._unread.values() for nonce, _ in waiting]
