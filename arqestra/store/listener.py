"""Push: one connection per pool that listens to channels and sets an event for each message.

A message says only "look again"; what happened is read from Redis. So a message lost while the connection was down
costs nothing: after a reconnect every event is set once.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterator
from typing import Any

from redis.asyncio import ConnectionPool
from redis.exceptions import RedisError

from .link import pack_command

__all__ = ("Listener",)

logger = logging.getLogger("arq.connections")

KEEPALIVE_S = 10.0  # a silent connection is asked for a sign of life this often
RECONNECT_S = (0.0, 0.05, 0.2, 0.5, 1.0)


class Listener:
    """Channels and who listens to them.

    :param pool: redis-py's pool; it makes the connection
    """

    def __init__(self, pool: ConnectionPool) -> None:
        self._pool = pool
        self._callbacks: dict[str, list[Callable[[bytes | None], None]]] = {}
        self._task: asyncio.Task[None] | None = None
        self._sender: asyncio.Task[None] | None = None
        self._connection: Any = None
        self._unsent: dict[str, bytes] = {}  # channel -> command, gathered within one tick of the loop

    @contextlib.contextmanager
    def listen(self, channel: str, callback: Callable[[bytes | None], None]) -> Iterator[None]:
        """Call back with each message of a channel, and with None whenever the subscription has become active."""
        callbacks = self._callbacks.setdefault(channel, [])
        callbacks.append(callback)
        if len(callbacks) == 1:
            self._send_soon(channel, b"SUBSCRIBE")
        try:
            yield
        finally:
            callbacks.remove(callback)
            if not callbacks and self._callbacks.get(channel) is callbacks:
                del self._callbacks[channel]
                self._send_soon(channel, b"UNSUBSCRIBE")

    async def close(self) -> None:
        """Stop listening and close the connection."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    def _send_soon(self, channel: str, command: bytes) -> None:
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._run())
        if not self._unsent:
            self._sender = asyncio.get_running_loop().create_task(self._send_gathered())
        self._unsent[channel] = command

    async def _send_gathered(self) -> None:
        unsent, self._unsent = self._unsent, {}
        connection = self._connection
        if connection is None:
            return  # the next connection subscribes to all that is wanted then
        with contextlib.suppress(RedisError, OSError):  # the reader sees a lost connection too, and makes a new one
            for command in (b"SUBSCRIBE", b"UNSUBSCRIBE"):
                channels = [channel for channel, wanted in unsent.items() if wanted == command]
                if channels:
                    await connection.send_packed_command(pack_command((command, *channels)), check_health=False)

    async def _run(self) -> None:
        failures = 0
        while True:
            try:
                await self._listen_once()
            except (RedisError, OSError) as error:
                delay_s = RECONNECT_S[min(failures, len(RECONNECT_S) - 1)]
                if failures == 1:
                    logger.warning("listening for messages failed, trying again: %s", error)
                failures += 1
                await asyncio.sleep(delay_s)
            else:
                failures = 0

    async def _listen_once(self) -> None:
        """Listen until the connection is lost; returns only if it had been established."""
        connection: Any = self._pool.make_connection()
        try:
            await connection.connect()
            self._connection = connection
            if self._callbacks:
                await connection.send_command("SUBSCRIBE", *self._callbacks, check_health=False)
            with contextlib.suppress(RedisError, OSError):
                await self._read(connection)
        finally:
            self._connection = None
            await connection.disconnect(nowait=True)

    async def _read(self, connection: Any) -> None:
        asked = False
        while True:
            message = await connection.read_response(disable_decoding=True, timeout=KEEPALIVE_S)
            if message is None:
                if asked:
                    return  # no answer to the ping either
                asked = True
                await connection.send_command("PING", check_health=False)
                continue
            asked = False
            if message[0] == b"message":
                self._deliver(message[1], message[2])
            elif message[0] == b"subscribe":
                self._deliver(message[1], None)

    def _deliver(self, channel: bytes, data: bytes | None) -> None:
        for callback in tuple(self._callbacks.get(channel.decode(), ())):
            callback(data)
