"""A TCP proxy in front of Redis that carries a command out and loses its reply, with the connection."""

from __future__ import annotations

import asyncio
from typing import Self


class LossyProxy:
    """Forwards bytes both ways; the reply after `lose_next_reply()` is dropped and its connection cut.

    :param port: of the Redis behind it
    """

    def __init__(self, port: int) -> None:
        self._redis_port = port
        self._lose = 0
        self.lost = 0
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        assert self._server is not None
        return f"redis://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    def lose_next_reply(self, times: int = 1) -> None:
        self._lose = times

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _accept(self, client_in: asyncio.StreamReader, client_out: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._serve(client_in, client_out))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, client_in: asyncio.StreamReader, client_out: asyncio.StreamWriter) -> None:
        writers = [client_out]
        try:
            redis_in, redis_out = await asyncio.open_connection("127.0.0.1", self._redis_port)
            writers.append(redis_out)
            requests = asyncio.create_task(self._forward(client_in, redis_out, replies=False))
            replies = asyncio.create_task(self._forward(redis_in, client_out, replies=True))
            try:
                await asyncio.wait([requests, replies], return_when=asyncio.FIRST_COMPLETED)
            finally:
                requests.cancel()
                replies.cancel()
                await asyncio.gather(requests, replies, return_exceptions=True)
        finally:
            for writer in writers:
                writer.close()
            await asyncio.gather(*(writer.wait_closed() for writer in writers), return_exceptions=True)

    async def _forward(self, source: asyncio.StreamReader, target: asyncio.StreamWriter, *, replies: bool) -> None:
        while data := await source.read(65536):
            if replies and self._lose:
                self._lose -= 1
                self.lost += 1
                return
            target.write(data)
            await target.drain()
