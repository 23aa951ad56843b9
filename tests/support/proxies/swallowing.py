"""A TCP proxy in front of a server that falls silent at a chosen stage of a connection, and can be healed.

What it has swallowed stays swallowed: after `heal` new connections work, and the old ones say nothing for ever, as
behind a load balancer that has forgotten them.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Literal, Self

import hiredis

__all__ = ("STAGES", "Stage", "SwallowingProxy")

Stage = Literal["connect", "handshake", "first reply", "later reply", "middle of a reply"]
STAGES: tuple[Stage, ...] = ("connect", "handshake", "first reply", "later reply", "middle of a reply")
HOST = "127.0.0.1"
HANDSHAKE = frozenset({b"CLIENT", b"AUTH", b"HELLO", b"SELECT"})


@dataclass(eq=False)
class _Connection:
    """One client's connection.

    :ivar silent: nothing comes through any more
    :ivar greeting: requests of the handshake that are not answered yet
    """

    to_client: asyncio.StreamWriter
    to_server: asyncio.StreamWriter
    requests: Any = field(default_factory=hiredis.Reader)
    replies: Any = field(default_factory=hiredis.Reader)
    greeting: int = 0
    replied: int = 0
    silent: bool = False


class SwallowingProxy:
    """The proxy, as an asynchronous context manager; it runs in the test's loop.

    :param port: of the server behind it
    :param tls: makes the proxy speak TLS to its clients
    """

    def __init__(self, port: int, tls: ssl.SSLContext | None = None) -> None:
        self._port = port
        self._tls = tls
        self._stage: Stage | None = None
        self._connections: set[_Connection] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def port(self) -> int:
        return int(self._server.sockets[0].getsockname()[1])

    @property
    def url(self) -> str:
        return f"redis://{HOST}:{self.port}/0"

    def fall_silent(self, stage: Stage) -> None:
        """From now on: existing connections are cut, or fall silent where the stage is one of theirs."""
        self._stage = stage
        for connection in self._connections:
            if stage == "later reply":
                connection.silent = True
            elif stage != "middle of a reply":
                connection.to_client.transport.abort()

    def heal(self) -> None:
        """New connections work again."""
        self._stage = None
        for connection in self._connections:
            connection.silent = True

    def cut(self) -> None:
        """Cut all connections: who waits for a silent one need not wait out its limits."""
        for connection in self._connections:
            connection.to_client.transport.abort()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, HOST, 0, ssl=self._tls)
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._server.close()
        while self._tasks:  # connections are still taken in that were made before
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def _accept(self, from_client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._serve(from_client, to_client))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, from_client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        try:
            from_server, to_server = await asyncio.open_connection(HOST, self._port)
        except BaseException:
            to_client.transport.abort()
            raise
        connection = _Connection(to_client, to_server, silent=self._stage == "connect")
        self._connections.add(connection)
        ways = [
            asyncio.create_task(self._carry_requests(connection, from_client)),
            asyncio.create_task(self._carry_replies(connection, from_server)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._connections.discard(connection)
            for writer in (to_client, to_server):
                writer.transport.abort()
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            for writer in (to_client, to_server):
                with contextlib.suppress(OSError):
                    await writer.wait_closed()

    async def _carry_requests(self, connection: _Connection, from_client: asyncio.StreamReader) -> None:
        while data := await from_client.read(65536):
            if connection.silent:
                continue  # taken from the socket, as by a proxy with a buffer
            connection.requests.feed(data)
            while (request := connection.requests.gets()) is not False:
                connection.greeting += request[0].upper() in HANDSHAKE
            connection.to_server.write(data)
            await connection.to_server.drain()

    async def _carry_replies(self, connection: _Connection, from_server: asyncio.StreamReader) -> None:
        while data := await from_server.read(65536):
            if connection.silent:
                continue
            before = connection.replied
            connection.replies.feed(data)
            while connection.replies.gets() is not False:
                connection.replied += 1
            if self._swallows(connection, before):
                connection.silent = True
                if self._stage == "middle of a reply":
                    connection.to_client.write(data[: max(1, len(data) // 2)])
                continue
            connection.to_client.write(data)
            await connection.to_client.drain()

    def _swallows(self, connection: _Connection, before: int) -> bool:
        match self._stage:
            case "handshake":
                return before < connection.greeting
            case "first reply":
                return connection.replied > connection.greeting
            case "middle of a reply" | "later reply":
                return True
        return False


def deaf_port() -> tuple[int, list[socket.socket]]:
    """A port whose queue of connections is full, so that a TCP connect is never answered. Close the sockets."""
    listening = socket.socket()
    listening.bind((HOST, 0))
    listening.listen(0)
    held = [listening]
    for _ in range(8):
        waiting = socket.socket()
        waiting.setblocking(False)
        waiting.connect_ex(listening.getsockname())
        held.append(waiting)
    return int(listening.getsockname()[1]), held
