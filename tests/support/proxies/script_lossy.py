"""A TCP proxy in front of Redis that loses replies: the request is carried out, and its caller does not hear of it.

It reads the Redis protocol in both directions, so it knows which script each reply belongs to. A connection on which a
reply is lost is cut: this reply, and all behind it, never arrive. Or the reply is swallowed and the connection stays
open, as when a firewall forgets it. Or it is only late.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import random
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Literal, Self

import hiredis

from arqestra.store.scripts import script

__all__ = ("LossyProxy",)

Mode = Literal["cut", "swallow", "late"]

HOST = "127.0.0.1"
CHUNK_BYTES = 65536
SCRIPTS = [script(name) for name in ("enqueue", "turn", "renew")]
NAMES = {script.function: script.name for script in SCRIPTS} | {script.sha: script.name for script in SCRIPTS}
OUTCOMES_AT = 6  # in a call of `turn`, how many arguments are about outcomes; behind them stands what follows


@dataclass
class _Connection:
    """One client's connection.

    :ivar pending: for each request without a reply so far the script whose reply is to be lost, or None
    :ivar transparent: a subscriber's connection: its messages are not replies
    :ivar deaf: a reply was swallowed, nothing more comes through
    """

    to_client: asyncio.StreamWriter
    to_server: asyncio.StreamWriter
    requests: Any = field(default_factory=hiredis.Reader)
    replies: Any = field(default_factory=hiredis.Reader)
    pending: deque[str | None] = field(default_factory=deque)
    transparent: bool = False
    deaf: bool = False

    def cut(self) -> None:
        self.to_client.transport.abort()
        self.to_server.transport.abort()


class LossyProxy:
    """The proxy, as an asynchronous context manager; it runs in the test's loop.

    :param port: of Redis
    :param chances: enqueue, claim, finish or renew -> probability that the reply of such a call is lost; may be changed
        while it runs
    :param rng: randomness
    :param mode: what happens to the connection then
    :param spare: calls of a script that come through after each loss, so that nobody loses all of his tries
    :param hold: awaited before the connection is cut, or before the late reply is delivered
    :ivar lost: replies lost so far, by script
    """

    def __init__(
        self,
        port: int,
        chances: Mapping[str, float],
        rng: random.Random,
        *,
        mode: Mode = "cut",
        spare: int = 3,
        hold: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self.lost: Counter[str] = Counter()
        self._port = port
        self.chances = dict(chances)
        self._rng = rng
        self._mode = mode
        self._spare = spare
        self._hold = hold
        self._spared: Counter[str] = Counter()
        self._connections: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        return f"redis://{HOST}:{self._server.sockets[0].getsockname()[1]}/0"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, HOST, 0)
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._server.close()
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)
        await self._server.wait_closed()

    async def _serve(self, from_client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            from_server, to_server = await asyncio.open_connection(HOST, self._port)
            connection = _Connection(to_client, to_server)
            try:
                await self._carry(connection, from_client, from_server)
            finally:
                connection.cut()
                with contextlib.suppress(OSError):
                    await to_server.wait_closed()
        except (OSError, asyncio.CancelledError):
            pass  # one side is gone, or the test is over
        finally:
            to_client.transport.abort()
            self._connections.discard(task)

    async def _carry(
        self, connection: _Connection, from_client: asyncio.StreamReader, from_server: asyncio.StreamReader
    ) -> None:
        """Both directions, until either ends."""
        ways = [
            asyncio.ensure_future(self._carry_requests(connection, from_client)),
            asyncio.ensure_future(self._carry_replies(connection, from_server)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)

    async def _carry_requests(self, connection: _Connection, from_client: asyncio.StreamReader) -> None:
        while data := await from_client.read(CHUNK_BYTES):
            connection.requests.feed(data)
            while (request := connection.requests.gets()) is not False:
                connection.transparent |= request[0].upper() == b"SUBSCRIBE"
                connection.pending.append(self._condemn(request))
            connection.to_server.write(data)
            await connection.to_server.drain()

    def _condemn(self, request: list[bytes]) -> str | None:
        """What a request does, if its reply is to be lost."""
        for name in _acts(request):
            if self._spared[name] > 0:
                self._spared[name] -= 1
            elif self._rng.random() < self.chances.get(name, 0):
                return name
        return None

    async def _carry_replies(self, connection: _Connection, from_server: asyncio.StreamReader) -> None:
        while data := await from_server.read(CHUNK_BYTES):
            if not connection.transparent and self._loses(connection, data):
                if self._hold is not None:
                    await self._hold()
                if self._mode == "cut":
                    # Some of it may still arrive.
                    connection.to_client.write(data[: self._rng.randrange(len(data))])
                    await connection.to_client.drain()
                    return connection.cut()
                connection.deaf = self._mode == "swallow"
            if not connection.deaf:
                connection.to_client.write(data)
                await connection.to_client.drain()

    def _loses(self, connection: _Connection, data: bytes) -> bool:
        """Whether a reply in this piece is to be lost."""
        connection.replies.feed(data)
        loses = False
        while (reply := connection.replies.gets()) is not False:
            condemned = connection.pending.popleft() if connection.pending else None
            if condemned is not None and not isinstance(reply, hiredis.ReplyError):
                self.lost[condemned] += 1
                self._spared[condemned] = self._spare
                loses = True
        return loses


def _acts(request: list[bytes]) -> list[str]:
    """What a request does, by the names of `LossyProxy.chances`; a turn may finish jobs and claim others."""
    command, *words = request
    called = {b"FCALL": lambda: words[0].decode(), b"EVALSHA": lambda: words[0].decode()}
    called[b"EVAL"] = lambda: hashlib.sha1(words[0]).hexdigest()
    name = NAMES.get(called[command.upper()]()) if command.upper() in called else None
    if name != "turn":
        return [] if name is None else [name]
    outcomes = int(request[OUTCOMES_AT])
    return ["finish"] * (outcomes > 0) + ["claim"] * (request[OUTCOMES_AT + 1 + outcomes :][:1] == [b"claim"])
