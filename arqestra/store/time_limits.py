"""Time limits for what redis-py awaits: the handshake, writes and replies.

redis-py limits the TCP connect alone (`socket_connect_timeout`). A server, proxy or load balancer that accepts a
connection and then says nothing would hold a caller for ever. `limit_connections` gives each connection that a pool
makes from then on a limit for every step:

- the connect with TLS, and the handshake (AUTH, HELLO, SELECT): `socket_connect_timeout`, arq's `conn_timeout`;
- the write of a command, and each reply: `REPLY_LIMIT_S`.

A long command or reply that is on its way is no silence: the limit begins anew as long as bytes go or come.
A `socket_timeout` that somebody has set counts in the place of the latter, as redis-py means it. Commands that wait on
purpose (BLPOP and its kind, subscriptions) and scripts of the user's (EVAL, FCALL) have no limit but their own.

Where one connection of a pool was not answered in time, the others of that age are dropped before their next use. They
may be as dead, and each of them would hold its next caller for as long.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, TypeVar

from redis.asyncio import ConnectionPool
from redis.asyncio.connection import AbstractConnection, SSLConnection
from redis.exceptions import AuthenticationError, ResponseError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from ..protocol.clock import steady_s
from .replies import ServerNotReady, reply_error

__all__ = (
    "CONNECT_LIMIT_S",
    "REPLY_LIMIT_S",
    "Suspicion",
    "limit_connections",
    "suspicion_of",
)

CONNECT_LIMIT_S = 5.0  # where the pool says nothing of it
REPLY_LIMIT_S = 10.0

T = TypeVar("T")

_SUBSCRIBING = frozenset({"SUBSCRIBE", "PSUBSCRIBE", "SSUBSCRIBE", "MONITOR"})
_BLOCKING = frozenset(
    {"BLPOP", "BRPOP", "BLMOVE", "BRPOPLPUSH", "BLMPOP", "BZPOPMIN", "BZPOPMAX", "BZMPOP", "WAIT", "WAITAOF"}
)
_RUNNING = frozenset({"EVAL", "EVALSHA", "EVAL_RO", "EVALSHA_RO", "FCALL", "FCALL_RO"})
_BLOCKING_BY_OPTION = frozenset({"XREAD", "XREADGROUP"})


def limit_connections(pool: ConnectionPool) -> None:
    """Give every connection that the pool makes from now on its time limits. Doing it twice changes nothing.

    :param pool: redis-py's; for a pool behind Sentinels, the connections to those as well
    """
    made = getattr(pool, "connection_class", None)
    if not isinstance(made, type):  # a test's stand-in for a pool: it waits for nothing, or as it likes
        return
    if not issubclass(made, _LimitedConnection) and issubclass(made, AbstractConnection):
        pool.connection_class = _limited(made)
        pool.connection_kwargs.setdefault("suspicion", Suspicion())
    sentinels = getattr(pool, "sentinel_manager", None)
    for client in sentinels.sentinels if sentinels is not None else ():
        asked = client.connection_pool
        limit_s = asked.connection_kwargs.get("socket_connect_timeout") or CONNECT_LIMIT_S
        asked.connection_kwargs.setdefault("socket_timeout", limit_s)  # the next Sentinel may know
        limit_connections(asked)


_classes: dict[Any, Any] = {}


class Suspicion:
    """When a connection of a pool was last given up because nobody answered.

    :ivar since_s: connections that were last answered before that are not used any more
    """

    def __init__(self) -> None:
        self.since_s = 0.0

    def arise(self) -> None:
        """A connection was not answered in time."""
        self.since_s = steady_s()


def suspicion_of(pool: ConnectionPool) -> Suspicion:
    """The one of a pool's connections, for those who take them over."""
    found: Suspicion | None = pool.connection_kwargs.get("suspicion")
    return found or Suspicion()


def _limited(made: Any) -> Any:
    """The connection class, with limits; the same for all pools, so that connections stay comparable."""
    if made not in _classes:
        _classes[made] = type(made.__name__, (_LimitedConnection, made), {"__module__": made.__module__})
    return _classes[made]


class _CountingReader(asyncio.StreamReader):
    """A stream that knows how much has come."""

    received_bytes = 0

    def feed_data(self, data: Any) -> None:
        self.received_bytes += len(data)
        super().feed_data(data)


class _PatientLimit:
    """Ends a block when nothing has moved for some time.

    :param limit: of the block; without an end so far
    :param seconds: of silence that are too many
    :param moved: tells how much has gone and come
    """

    def __init__(self, limit: asyncio.Timeout, seconds: float, moved: Callable[[], object]) -> None:
        self._limit, self._seconds, self._moved = limit, seconds, moved
        self._before = moved()
        self._loop = asyncio.get_running_loop()
        self._timer = self._loop.call_later(seconds, self._look)

    def _look(self) -> None:
        now = self._moved()
        if now == self._before:
            self._limit.reschedule(self._loop.time())
        else:
            self._before = now
            self._timer = self._loop.call_later(self._seconds, self._look)

    def end(self) -> None:
        """The block is done."""
        self._timer.cancel()


class _LimitedConnection(AbstractConnection):
    """What is added to a connection class of redis-py."""

    _waits = False  # for something that may take any time: the caller has asked for that
    _subscribed = False

    def __init__(self, *, suspicion: Suspicion | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._suspicion = suspicion or Suspicion()
        self._answered_s = 0.0
        self._loop: asyncio.AbstractEventLoop | None = None  # that it was connected in; None: it is not, or not quite
        self._connect_limit_s: float = self.socket_connect_timeout or CONNECT_LIMIT_S
        self.socket_connect_timeout = self._connect_limit_s

    async def connect(self) -> None:
        if self.is_connected:
            return
        self._loop = None
        try:
            await super().connect()  # type: ignore[no-untyped-call]
        except (RedisConnectionError, RedisTimeoutError) as error:
            await self.disconnect(nowait=True)
            raise type(error)(self._explained(error)) from error
        except ResponseError as error:  # of SELECT, while a script keeps the server busy
            await self.disconnect(nowait=True)
            passing = reply_error(str(error))
            if isinstance(passing, ServerNotReady):
                raise passing from error
            raise
        self._answered_s, self._loop = steady_s(), asyncio.get_running_loop()

    async def on_connect(self) -> None:
        self._waits = self._subscribed = False
        if type(self._reader) is asyncio.StreamReader:
            self._reader.__class__ = _CountingReader  # a wrapper around a method of it would be a reference cycle
        await self._limited(super().on_connect(), self._connect_limit_s, "the handshake to end")

    async def send_command(self, *args: Any, **kwargs: Any) -> None:
        self._expect([args])
        await super().send_command(*args, **kwargs)

    def pack_commands(self, commands: Iterable[Any]) -> Any:
        commands = list(commands)
        self._expect(commands)
        return super().pack_commands(commands)

    async def send_packed_command(self, command: Any, check_health: bool = True) -> None:
        if self.is_connected and (self._is_stale() or self._is_closing()):
            await self.disconnect(nowait=True)
        if not self.is_connected:
            await self.connect()
        sent = super().send_packed_command(command, check_health)
        await self._limited(sent, self.socket_timeout or REPLY_LIMIT_S, "it to take a command", patiently=True)

    async def read_response(self, *args: Any, **kwargs: Any) -> Any:
        """As redis-py's: `disable_decoding`, `timeout` and others."""
        has_limit = kwargs.get("timeout") is not None or len(args) > 1 or self.socket_timeout is not None
        if has_limit or self._waits or self._subscribed:
            return await super().read_response(*args, **kwargs)
        reply = await self._limited(super().read_response(*args, **kwargs), REPLY_LIMIT_S, "a reply", patiently=True)
        self._answered_s = steady_s()
        return reply

    async def disconnect(self, nowait: bool = False) -> None:
        writer = self._writer
        try:
            await super().disconnect(nowait)
        except RedisTimeoutError:  # the other side does not take what is still to be written
            if writer is not None:
                writer.transport.abort()
        except RuntimeError:
            if self._loop is None or not self._loop.is_closed():
                raise
            self._reader = self._writer = None  # they ended with their loop

    def _is_closing(self) -> bool:
        """The connection was cut, and redis-py has not heard of it: asyncio of Python 3.12 fails to write then."""
        transport: Any = getattr(self._writer, "transport", None)
        return callable(getattr(transport, "is_closing", None)) and bool(transport.is_closing())

    def _is_stale(self) -> bool:
        """Whether it may be as dead as a neighbour was, or belongs to an event loop that has ended."""
        if self._loop is None or self._subscribed:
            return False
        return self._loop is not asyncio.get_running_loop() or self._answered_s < self._suspicion.since_s

    def _expect(self, commands: Iterable[Any]) -> None:
        """Note whether the replies to these commands may take any time."""
        self._waits = False
        for command in commands:
            name, *words = _words(command[0])
            name = name.upper()
            self._subscribed |= name in _SUBSCRIBING
            self._waits |= name in _BLOCKING or name in _RUNNING
            self._waits |= name in _BLOCKING_BY_OPTION and _blocks((*words, *command[1:]))

    def _moved(self) -> tuple[int, int]:
        """What is still to be sent, and how much has come."""
        transport = getattr(self._writer, "transport", None)
        unsent = getattr(transport, "get_write_buffer_size", None)  # connections that are no transports have none
        return 0 if unsent is None else unsent(), getattr(self._reader, "received_bytes", 0)

    async def _limited(self, awaited: Awaitable[T], seconds: float, expected: str, *, patiently: bool = False) -> T:
        """Await within a limit; the connection is of no use after that.

        :param patiently: the limit is of silence, not of the whole
        """
        patience = None
        try:
            async with asyncio.timeout(None if patiently else seconds) as limit:
                if patiently:
                    patience = _PatientLimit(limit, seconds, self._moved)
                return await awaited
        except TimeoutError:
            if not limit.expired():
                raise
            self._suspicion.arise()
            await self.disconnect(nowait=True)
            raise RedisTimeoutError(f"{self._host_error()}: expected {expected} within {seconds:g} s") from None
        finally:
            if patience is not None:
                patience.end()

    def _explained(self, error: Exception) -> str:
        """What went wrong, and what else may be: a port with TLS and a client without it understand nothing."""
        text = str(error)
        if text == "Timeout connecting to server":
            text = f"{self._host_error()}: expected a connection within {self._connect_limit_s:g} s"
        if isinstance(self, SSLConnection):
            if not isinstance(error, AuthenticationError) and "TLS" not in text and "CERTIFICATE" not in text:
                text += " (with TLS: does this port speak it? rediss:// and ssl=True ask for it)"
        elif "closed by server" in text:
            text += " (without TLS: does this port want it? Then use rediss:// or ssl=True)"
        return text


def _words(name: Any) -> list[str]:
    """The first argument of a command: redis-py takes it apart at its spaces, as in "BLPOP key 0"."""
    text = name if isinstance(name, str) else bytes(name).decode("latin1")
    return text.split() or [""]


def _blocks(command: Iterable[Any]) -> bool:
    return any(isinstance(part, str | bytes) and part.upper() in ("BLOCK", b"BLOCK") for part in command)
