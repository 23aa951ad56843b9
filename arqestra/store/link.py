"""Connections for script calls: several scripts go out in one write and their replies are read in order.

The connections are redis-py's own, made by the pool's connection factory (so that TLS, passwords, unix sockets and
Sentinel work), but used directly: a call costs one pack, one write and one read, without the per-command machinery of
`Redis.execute_command`. A connection serves one caller at a time and is dropped after any error.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple, TypeVar, cast

import hiredis
from redis.asyncio import Connection, ConnectionPool
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError, ReadOnlyError, ResponseError, TryAgainError
from redis.exceptions import TimeoutError as RedisTimeoutError

from .scripts import Script

__all__ = ("RETRYABLE", "Links", "ScriptCall", "pack_command", "with_retries")

T = TypeVar("T")

# hiredis' stub types the argument as a tuple of one.
pack_command = cast(Callable[[tuple[Any, ...]], bytes], hiredis.pack_command)

# The call may or may not have been carried out; every script of ours can be sent again.
RETRYABLE = (RedisConnectionError, RedisTimeoutError, ReadOnlyError, TryAgainError, OSError)


class ScriptCall(NamedTuple):
    """One call of a script: its queue (the key that routes it) and its arguments."""

    script: Script
    queue: str
    args: Sequence[bytes | str | int]


class Links:
    """The connections of one store.

    :param pool: redis-py's pool; it makes the connections, and they are not counted in its `max_connections`
    :param reply_timeout_s: seconds to wait for a reply before the connection is given up
    """

    def __init__(self, pool: ConnectionPool, reply_timeout_s: float = 10.0) -> None:
        self._pool = pool
        self._reply_timeout_s = reply_timeout_s
        self._idle: list[Connection] = []

    async def call(self, calls: Sequence[ScriptCall]) -> list[Any]:
        """Run the scripts in order, in one round trip.

        :returns: one reply for each call; a `ResponseError` is returned in its place, not raised
        :raises redis.exceptions.ConnectionError, redis.exceptions.TimeoutError: nothing is known of the calls
        """
        connection: Any = self._idle.pop() if self._idle else self._pool.make_connection()
        try:
            async with asyncio.timeout(self._reply_timeout_s):
                replies = await self._exchange(connection, calls)
        except TimeoutError:
            await connection.disconnect(nowait=True)
            raise RedisTimeoutError(f"expected a reply of Redis within {self._reply_timeout_s} s, got none") from None
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        self._idle.append(connection)
        return replies

    async def _exchange(self, connection: Any, calls: Sequence[ScriptCall]) -> list[Any]:
        packed = [pack_command(("EVALSHA", call.script.sha, 1, call.queue, *call.args)) for call in calls]
        await connection.send_packed_command(packed, check_health=False)
        replies = [await self._reply(connection) for _ in calls]
        for i, call in enumerate(calls):
            if isinstance(replies[i], NoScriptError):
                await connection.send_packed_command(
                    pack_command(("EVAL", call.script.text, 1, call.queue, *call.args)), check_health=False
                )
                replies[i] = await self._reply(connection)
        return replies

    @staticmethod
    async def _reply(connection: Any) -> Any:
        try:
            return await connection.read_response(disable_decoding=True)
        except ReadOnlyError:
            raise  # a failover made this server a replica: connect anew
        except ResponseError as error:
            return error

    async def close(self) -> None:
        """Close the idle connections."""
        while self._idle:
            await self._idle.pop().disconnect()


async def with_retries(call: Callable[[bool], Awaitable[T]], delays_s: Sequence[float] = (0.0, 0.1, 0.5, 1.0)) -> T:
    """Call, and call again after a lost connection; the argument says whether it was sent before.

    :param delays_s: seconds to wait before each further try; then the error is raised
    """
    resent = False
    for delay_s in (*delays_s, None):
        try:
            return await call(resent)
        except RETRYABLE:
            if delay_s is None:
                raise
            resent = True
            await asyncio.sleep(delay_s)
    raise AssertionError("unreachable")
