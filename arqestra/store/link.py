"""One connection for all script calls of a store, used in the manner of a pipeline.

redis-py makes the connection (so that TLS, passwords, unix sockets and Sentinel work); then its transport is given a
protocol of ours. A call is one write, and its replies are handed on straight from the parser: no command machinery, no
task and no stream in between. Any number of calls may be under way at once; Redis answers in order.

Scripts are functions of a library. A server that does not have it (yet, or any more) is given it, and a server without
functions gets single scripts; whoever calls notices neither.

A connection is dropped after any error. Whoever was waiting is told, and may send again: all scripts can be repeated.
Nothing here waits without a limit: see `time_limits.py` for the connect and the handshake; a reply may take
`REPLY_LIMIT_S`, and a call with all its tries `CALL_LIMIT_S`.
"""

import asyncio
import warnings
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

import hiredis
from redis.asyncio import ConnectionPool
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import InvalidResponse, NoScriptError, ReadOnlyError, ResponseError, TryAgainError
from redis.exceptions import TimeoutError as RedisTimeoutError

from .calls import FUNCTION, Call, Command, How, Pulse, Receiver, ScriptCall, pack_command
from .redis_py_link import RedisPyLink, has_transport
from .replies import NoFunctionError, NoFunctionsError, ServerIsReplica, reply_error
from .scripts import library
from .time_limits import REPLY_LIMIT_S, Suspicion, limit_connections, suspicion_of

__all__ = (
    "RETRYABLE",
    "Link",
    "Links",
    "close_sentinels",
    "with_retries",
)

T = TypeVar("T")


# The call may or may not have been carried out; every script of ours can be sent again.
RETRYABLE = (RedisConnectionError, RedisTimeoutError, ReadOnlyError, TryAgainError, OSError)

UNKNOWN = (NoFunctionError, NoFunctionsError, NoScriptError)  # the server has run nothing

CLOSE_WAIT_S = 2.0
CALL_LIMIT_S = 20.0  # of one call with all its tries


class _Group:
    """Calls that were sent together, and the replies so far.

    :param again: the server did not know them when they were sent first
    """

    __slots__ = ("again", "calls", "how", "receive", "replies", "sent_s")

    def __init__(
        self, calls: Sequence[Call], receive: Receiver, sent_s: float, how: How, *, again: bool = False
    ) -> None:
        self.calls = calls
        self.receive = receive
        self.replies: list[Any] = []
        self.sent_s = sent_s
        self.how = how
        self.again = again


class Link(asyncio.Protocol):
    """A connection under our protocol.

    :param connection: redis-py's, connected
    :param reply_timeout_s: seconds to wait for a reply before the connection is given up
    :param suspicion: that of the pool, which is told when nobody answered
    :param pulse: is told of answers and of their lack
    :param how: scripts are called, as long as the server can do that
    """

    def __init__(
        self, connection: Any, reply_timeout_s: float, suspicion: Suspicion, pulse: Pulse, how: How = How.FUNCTION
    ) -> None:
        self.how = how
        self._library_under_way = False  # it was sent, and the server has not answered
        self._suspicion, self._pulse = suspicion, pulse
        self._connection = connection  # kept: its stream writer closes the transport when it is collected
        self._transport: asyncio.Transport = connection._writer.transport
        self._reply_timeout_s = reply_timeout_s
        self._loop = asyncio.get_running_loop()
        self._reader = hiredis.Reader(protocolError=InvalidResponse, replyError=reply_error)
        self._groups: deque[_Group] = deque()
        self._heard_s = 0.0  # when data last came or went: a long reply or call on its way is no silence
        self._unsent_bytes = 0  # at the last look at the time
        self._watch: asyncio.TimerHandle | None = None
        self._answered: asyncio.Future[None] | None = None  # resolved when nothing is under way, for `close`
        self.is_open = True
        self._transport.set_protocol(self)

    def belongs_here(self) -> bool:
        """It was made in the event loop that runs now; the connections of a closed loop are of no use."""
        return self._loop is asyncio.get_running_loop()

    def send(self, calls: Sequence[Call], receive: Receiver) -> None:
        """Send scripts; `receive` is called with their replies (errors among them), or with what went wrong."""
        how = self.how
        # It may raise: nothing is under way then.
        packed = [pack_command(call.words if how is FUNCTION else call.words_by(how)) for call in calls]
        self._groups.append(_Group(calls, receive, self._loop.time(), how))
        self._transport.write(packed[0] if len(packed) == 1 else b"".join(packed))
        if self._watch is None:
            self._unsent_bytes = self._transport.get_write_buffer_size()
            self._watch = self._loop.call_later(self._reply_timeout_s, self._check_time)

    def data_received(self, data: bytes) -> None:
        reader, groups = self._reader, self._groups
        self._heard_s = self._pulse.answered_s = self._loop.time()
        reader.feed(data)
        try:
            while groups and (reply := reader.gets()) is not False:
                group = groups[0]
                group.replies.append(reply)
                if len(group.replies) == len(group.calls):
                    groups.popleft()
                    self._complete(group)
        except InvalidResponse as error:
            self.give_up(RedisConnectionError(f"Redis sent something else than its protocol: {error}"))
        if not groups and self._answered is not None and not self._answered.done():
            self._answered.set_result(None)

    def _complete(self, group: _Group) -> None:
        unknown = [i for i, reply in enumerate(group.replies) if isinstance(reply, Exception)]
        if not unknown:
            return group.receive(group.replies)
        if any(isinstance(group.replies[i], ServerIsReplica) for i in unknown):
            replica = next(reply for reply in group.replies if isinstance(reply, ServerIsReplica))
            group.receive(replica)
            return self.give_up(ServerIsReplica(f"the server became a replica: {replica}"))
        unknown = [
            i for i in unknown if isinstance(group.replies[i], UNKNOWN) and isinstance(group.calls[i], ScriptCall)
        ]
        if unknown and group.how is not How.IN_FULL and self.is_open:
            return self._send_again(group, unknown)
        return group.receive(group.replies)

    def _send_again(self, group: _Group, unknown: list[int]) -> None:
        """The server does not know these scripts (yet, or any more), or it has no functions: tell it, or do without."""
        how = self._next_way(group, [group.replies[i] for i in unknown])

        def receive(replies: list[Any] | Exception) -> None:
            if isinstance(replies, Exception):
                return group.receive(replies)
            for i, reply in zip(unknown, replies, strict=True):
                group.replies[i] = reply
            return group.receive(group.replies)

        if how is How.FUNCTION and not self._library_under_way:
            self._send_library()
        again = [group.calls[i] for i in unknown]
        self._groups.append(_Group(again, receive, self._loop.time(), how, again=True))
        self._transport.write(b"".join([pack_command(call.words_by(how)) for call in again]))

    def _next_way(self, group: _Group, errors: list[Exception]) -> How:
        """How calls are sent again: their text goes along if all else has failed."""
        if any(isinstance(error, NoFunctionsError) for error in errors):
            self.how = How.BY_SHA
        has_been_loaded = group.again and group.how is How.FUNCTION
        if any(isinstance(error, NoScriptError) for error in errors) or (has_been_loaded and self.how is How.FUNCTION):
            return How.IN_FULL
        return self.how

    def _send_library(self) -> None:
        """Give the server the library. If it takes none, scripts go without from now on."""

        def receive(replies: list[Any] | Exception) -> None:
            self._library_under_way = False
            refusal = None if isinstance(replies, Exception) else replies[0]
            if isinstance(refusal, ResponseError) and "already exists" not in str(refusal):
                self.how = How.BY_SHA

        self._library_under_way = True
        load = Command(("FUNCTION", "LOAD", library().text))
        self._groups.append(_Group((load,), receive, self._loop.time(), self.how))
        self._transport.write(pack_command(load.words))

    def connection_lost(self, exc: Exception | None) -> None:
        if self.is_open:
            self._pulse.failed()
            self.give_up(RedisConnectionError(f"the connection to Redis was lost: {exc or 'closed by the server'}"))

    def give_up(self, error: Exception) -> None:
        """Drop the connection, and tell all who wait."""
        self.is_open = False
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
        self._transport.abort()
        while self._groups:
            self._groups.popleft().receive(error)
        if self._answered is not None and not self._answered.done():
            self._answered.set_result(None)

    def _check_time(self) -> None:
        self._watch = None
        if not self._groups:
            return
        unsent_bytes = self._transport.get_write_buffer_size()
        if unsent_bytes < self._unsent_bytes:
            self._heard_s = self._loop.time()
        self._unsent_bytes = unsent_bytes
        left_s = max(self._groups[0].sent_s, self._heard_s) + self._reply_timeout_s - self._loop.time()
        if left_s > 0:
            self._watch = self._loop.call_later(left_s, self._check_time)
        else:
            self._suspicion.arise()
            self._pulse.failed()
            self.give_up(RedisTimeoutError(f"expected a reply of Redis within {self._reply_timeout_s} s, got none"))

    async def close(self) -> None:
        """Close the connection, once the calls that are under way are answered."""
        if self._groups and self.is_open:
            self._answered = self._loop.create_future()
            await asyncio.wait([self._answered], timeout=CLOSE_WAIT_S)
        self.give_up(RedisConnectionError("this client was closed"))
        await self._connection.disconnect(nowait=True)

    def abandon(self) -> None:
        """Close the connection of a pool that nobody has any more; from any thread, also after the loop's end."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self.give_up, RedisConnectionError("this client was dropped"))
        else:
            self.is_open = False
            del self._transport, self._connection  # they end with their last reference


class Links:
    """The link of one store, made anew when it is lost.

    :param pool: redis-py's pool; it makes the connection, which is not counted in its `max_connections`
    :param reply_timeout_s: see `Link`
    :param functions: try first to call scripts as functions of the library
    :ivar pulse: whether Redis answers
    """

    def __init__(
        self,
        pool: ConnectionPool,
        reply_timeout_s: float = REPLY_LIMIT_S,
        pulse: Pulse | None = None,
        functions: bool = True,
    ) -> None:
        limit_connections(pool)
        self.pulse = pulse or Pulse()
        self._pool = pool
        self._reply_timeout_s = reply_timeout_s
        self._how = How.FUNCTION if functions else How.BY_SHA
        self._link: Link | RedisPyLink | None = None
        self._connecting: asyncio.Task[Link | RedisPyLink] | None = None

    @property
    def open_link(self) -> Link | RedisPyLink | None:
        """The link, if it is connected now."""
        link = self._link
        return link if link is not None and link.is_open and link.belongs_here() else None

    async def call(self, calls: Sequence[Call]) -> list[Any]:
        """Run scripts and commands in order, in one round trip.

        :returns: one reply for each call; a `ResponseError` is returned in its place, not raised
        :raises redis.exceptions.ConnectionError, redis.exceptions.TimeoutError: nothing is known of the calls
        """
        link = self.open_link or await self._connected()
        answered: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()

        def receive(replies: list[Any] | Exception) -> None:
            if answered.done():
                return  # the caller was cancelled
            if isinstance(replies, Exception):
                answered.set_exception(replies)
            else:
                answered.set_result(replies)

        link.send(calls, receive)
        return await answered

    async def connect(self) -> None:
        """Connect, unless there is a connection."""
        if self.open_link is None:
            await self._connected()

    async def _connected(self) -> Link | RedisPyLink:
        """Connect, once for all who ask at the same time."""
        loop = asyncio.get_running_loop()
        if self._connecting is None or self._connecting.done() or self._connecting.get_loop() is not loop:
            self._connecting = asyncio.get_running_loop().create_task(self._connect())
        return await asyncio.shield(self._connecting)

    async def _connect(self) -> Link | RedisPyLink:
        if self._link is not None:
            link, self._link = self._link, None
            if link.belongs_here():
                await link.close()
            else:
                link.abandon()
        connection: Any = self._pool.make_connection()
        try:
            await connection.connect()
        except BaseException as error:
            if isinstance(error, Exception):
                self.pulse.failed()
            await connection.disconnect(nowait=True)
            raise
        self.pulse.answered()
        if has_transport(connection):
            self._link = Link(connection, self._reply_timeout_s, suspicion_of(self._pool), self.pulse, self._how)
        else:
            self._link = RedisPyLink(connection, self.pulse)
        return self._link

    async def close(self) -> None:
        """Close the connection. One that is being made is broken off."""
        connecting, self._connecting = self._connecting, None
        if connecting is not None and connecting.get_loop() is asyncio.get_running_loop():
            connecting.cancel()
            await asyncio.wait([connecting])
            if not connecting.cancelled():
                connecting.exception()  # whoever asked for it has seen it
        if self._link is not None:
            link, self._link = self._link, None
            if link.belongs_here():
                await link.close()
            else:
                link.abandon()

    def __del__(self) -> None:
        link = getattr(self, "_link", None)
        if link is not None and link.is_open:
            warnings.warn("a pool was dropped without `await pool.aclose()`", ResourceWarning, stacklevel=2)
            link.abandon()


async def close_sentinels(pool: ConnectionPool) -> None:
    """Close the connections to the Sentinels that a pool asks for its master; redis-py leaves them open."""
    manager = getattr(pool, "sentinel_manager", None)
    for client in manager.sentinels if manager is not None else ():
        await client.aclose(close_connection_pool=True)


async def with_retries(
    call: Callable[[bool], Awaitable[T]],
    delays_s: Sequence[float] = (0.0, 0.1, 0.5, 1.0),
    *,
    resent: bool = False,
    links: Links | None = None,
) -> T:
    """Call, and call again after a lost connection; the argument says whether it was sent before.

    :param delays_s: seconds to wait before each further try; then the error is raised
    :param resent: it was sent before already
    :param links: what a hot call goes over: while these are connected, the first try has their limit of a reply and
        needs no timer of its own
    :raises redis.exceptions.TimeoutError: all of that took longer than `CALL_LIMIT_S`
    """
    last: BaseException | None = None
    limit_at_s = asyncio.get_running_loop().time() + CALL_LIMIT_S
    if links is not None and links.open_link is not None:
        try:
            return await call(resent)
        except RETRYABLE as error:
            if not delays_s:
                raise
            last, resent = error, True
    try:
        async with asyncio.timeout_at(limit_at_s) as limit:
            if last is not None:
                await asyncio.sleep(delays_s[0])
                delays_s = delays_s[1:]
            for delay_s in (*delays_s, None):
                try:
                    return await call(resent)
                except RETRYABLE as error:
                    if delay_s is None:
                        raise
                    last, resent = error, True
                    await asyncio.sleep(delay_s)
    except TimeoutError:
        if not limit.expired():
            raise
        raise RedisTimeoutError(
            f"expected Redis to answer within {CALL_LIMIT_S:g} s; it is not known whether it has carried out the call"
        ) from last
    raise AssertionError("unreachable")
