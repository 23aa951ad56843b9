"""The port that Prometheus scrapes: as much of HTTP/1.1 as a scrape needs.

It answers GET and HEAD of `/metrics` and `/healthz`, one request for each connection. Every client gets an answer or is
disconnected within seconds, also one that sends or reads slowly. When too many are connected, the one that has been
silent for longest is disconnected: clients that ask nothing must not keep others from an answer.
"""

import asyncio
import contextlib
import logging
import os
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import NamedTuple

__all__ = ("Answer", "Endpoint", "serve_when_free")

logger = logging.getLogger("arq.metrics")

LOOPBACK = "127.0.0.1"
MAX_CONNECTIONS = 32
MAX_HEAD_BYTES = 16_384
REQUEST_WAIT_S = 5.0
ANSWER_WAIT_S = 15.0
LINGER_S = 1.0
MAX_DISCARDED_BYTES = 1024 * 1024
TRY_AGAIN_S = 2.0
PLAIN = "text/plain; charset=utf-8"


class Answer(NamedTuple):
    """The answer to a request."""

    body: bytes
    content_type: str = PLAIN
    status: HTTPStatus = HTTPStatus.OK
    headers: tuple[tuple[str, str], ...] = ()


class Request(NamedTuple):
    """The head of a request. Names of headers are in lower case."""

    method: str
    path: str
    headers: Mapping[str, str]


Metrics = Callable[[str], Awaitable[tuple[bytes, str]]]


class Endpoint:
    """Serves metrics at an address.

    :param metrics: async function from the Accept header to the body and content type of `/metrics`
    :param port: 0 for any free one
    """

    def __init__(self, metrics: Metrics, port: int, host: str = LOOPBACK) -> None:
        self._metrics = metrics
        self._host, self._port = host, port
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.Task[None]] = set()
        self._silent: dict[asyncio.Task[None], None] = {}  # those without a request so far, the oldest first

    @property
    def url(self) -> str:
        """The address of its metrics."""
        port = self._server.sockets[0].getsockname()[1] if self._server is not None else self._port
        return f"http://{f'[{self._host}]' if ':' in self._host else self._host}:{port}/metrics"

    @property
    def connections(self) -> int:
        """How many connections are open."""
        return len(self._open)

    async def start(self) -> None:
        """Start to serve.

        :raises OSError: the address is in use, or is not one of this machine's
        """
        try:
            self._server = await asyncio.start_server(self._connected, self._host, self._port, limit=MAX_HEAD_BYTES)
        except OSError as error:
            why = os.strerror(error.errno) if error.errno and error.errno > 0 else str(error)
            raise OSError(f"cannot listen at {self._host} port {self._port}: {why}") from None

    async def stop(self) -> None:
        """Stop to serve, and break off requests that are under way."""
        server, self._server = self._server, None
        if server is not None:
            server.close()
        for task in tuple(self._open):
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._open) >= 2 * MAX_CONNECTIONS:
            writer.transport.abort()
            return
        if len(self._open) >= MAX_CONNECTIONS and self._silent:
            oldest = next(iter(self._silent))
            del self._silent[oldest]
            oldest.cancel()
        task = asyncio.get_running_loop().create_task(self._handle(reader, writer))
        self._open.add(task)
        self._silent[task] = None
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._open.discard(task)
        self._silent.pop(task, None)

    async def _handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Read one request and answer it."""
        try:
            async with asyncio.timeout(ANSWER_WAIT_S):
                answer, with_body = await self._answer(reader)
                writer.write(_encoded(answer, with_body=with_body))
                await writer.drain()
                writer.write_eof()
                await _discard(reader)
                writer.close()
                await writer.wait_closed()
        except (OSError, asyncio.IncompleteReadError):  # TimeoutError is an OSError
            pass  # the client is gone, or too slow
        finally:
            writer.transport.abort()  # does nothing if it is closed

    async def _answer(self, reader: asyncio.StreamReader) -> tuple[Answer, bool]:
        """The answer, and whether its body is wanted."""
        try:
            async with asyncio.timeout(REQUEST_WAIT_S):
                head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.LimitOverrunError:
            return _refusal(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE), True
        finally:
            task = asyncio.current_task()
            assert task is not None
            self._silent.pop(task, None)
        request = _parsed(head)
        if request is None:
            return _refusal(HTTPStatus.BAD_REQUEST), True
        if len(self._open) > MAX_CONNECTIONS:
            return _refusal(HTTPStatus.SERVICE_UNAVAILABLE), True
        return await self._answer_to(request), request.method != "HEAD"

    async def _answer_to(self, request: Request) -> Answer:
        if request.path not in ("/metrics", "/healthz", "/"):
            return _refusal(HTTPStatus.NOT_FOUND)
        if request.method not in ("GET", "HEAD"):
            return _refusal(HTTPStatus.METHOD_NOT_ALLOWED)._replace(headers=(("Allow", "GET, HEAD"),))
        if request.path == "/healthz":
            return Answer(b"ok\n")
        if request.path == "/":
            return Answer(b"arqestra: /metrics /healthz\n")
        try:
            return Answer(*await self._metrics(request.headers.get("accept", "")))
        except Exception:
            logger.exception("metrics: a scrape went wrong")
            return _refusal(HTTPStatus.INTERNAL_SERVER_ERROR)


async def _discard(reader: asyncio.StreamReader) -> None:
    """Read for a while what the client still sends. Closing with unread data resets the connection, and the client may
    lose the answer.
    """
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(LINGER_S):
            for _ in range(MAX_DISCARDED_BYTES // MAX_HEAD_BYTES):
                if not await reader.read(MAX_HEAD_BYTES):
                    return


def _parsed(head: bytes) -> Request | None:
    """The head of a request; None if it is malformed."""
    line, *fields = head.decode("latin-1").split("\r\n")
    words = line.split(" ")
    if len(words) != 3 or not words[2].startswith("HTTP/1."):
        return None
    pairs = (field.partition(":") for field in fields if field)
    return Request(words[0], words[1].partition("?")[0], {name.lower(): value.strip() for name, _, value in pairs})


def _refusal(status: HTTPStatus) -> Answer:
    return Answer(f"{status.value} {status.phrase}\n".encode(), status=status)


def _encoded(answer: Answer, *, with_body: bool) -> bytes:
    fields = (
        ("Content-Type", answer.content_type),
        ("Content-Length", str(len(answer.body))),
        ("Cache-Control", "no-store"),
        ("Connection", "close"),
        *answer.headers,
    )
    head = [f"HTTP/1.1 {answer.status.value} {answer.status.phrase}", *(f"{name}: {value}" for name, value in fields)]
    return "\r\n".join([*head, "", ""]).encode("latin-1") + (answer.body if with_body else b"")


async def serve_when_free(endpoint: Endpoint) -> None:
    """Start to serve as soon as the address is free: a process that this one replaces may still use it."""
    last_error = ""
    while True:
        try:
            await endpoint.start()
        except OSError as error:
            if str(error) != last_error:  # do not log the same error every two seconds
                last_error = str(error)
                logger.error("metrics: %s; it is tried again every %.0f s", last_error, TRY_AGAIN_S)
        else:
            logger.info("metrics at %s", endpoint.url)
            return
        await asyncio.sleep(TRY_AGAIN_S)
