"""Push: one connection per pool listens to channels and calls back for each message.

A message only says "something happened"; the receiver reads from Redis what it was. So a message that is lost while the
connection is down costs nothing: after a reconnect everybody is called once. As in `link.py`, redis-py makes the
connection and a protocol of ours takes it over, so that a wake-up goes straight from the parser to the worker.

Stock arq producers send no message. So a worker without work watches its queues: it reads their keys on this
connection, and the server pushes one message when anybody changes one (client-side caching, `CLIENT TRACKING`). That
costs nothing while nothing changes. Where a server does not support it, or a user lacks `+client|tracking`, the worker
polls.
"""

import asyncio
import contextlib
import logging
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import hiredis
from redis.asyncio import ConnectionPool
from redis.exceptions import RedisError, ResponseError

from .calls import Pulse, pack_command
from .redis_py_link import RedisPySubscription, has_transport
from .time_limits import limit_connections

__all__ = (
    "Listener",
    "Watch",
    "begin_tracking",
)

logger = logging.getLogger("arq.connections")

KEEPALIVE_S = 10.0  # a silent connection is asked for a sign of life this often
ANSWER_S = 3.0  # and has to answer within that
DOUBT_S = 1.0  # of a server that is slower it is not known whether messages come
TRACKING_LIMIT_S = 5.0
MAX_TRACKING_FAILURES = 3
RECONNECT_S = (0.0, 0.05, 0.2, 0.5, 1.0)

Callback = Callable[[bytes | None], None]


class Watch:
    """Some keys, and whether they may have changed.

    :param keys: names
    :ivar since_s: since when they have not changed, on the loop's clock; None: they may have, or nobody would tell
    :ivar asked: the keys are being read
    """

    def __init__(self, keys: Sequence[str]) -> None:
        self.keys = tuple(keys)
        self._names = frozenset(key.encode() for key in keys)
        self.since_s: float | None = None
        self.asked = False

    def hear(self, changed: Sequence[bytes] | None) -> None:
        """Keys were changed; None: maybe all."""
        if self.since_s is not None and (changed is None or not self._names.isdisjoint(changed)):
            self.end()

    def end(self) -> None:
        """Nothing is told any more."""
        self.since_s, self.asked = None, False


async def begin_tracking(connection: Any) -> bool:
    """Ask for pushes on a connection of redis-py's that is to be a listener's; whether the server sends them."""
    try:
        async with asyncio.timeout(TRACKING_LIMIT_S):
            for command in (("HELLO", 3), ("CLIENT", "TRACKING", "ON")):
                await connection.send_command(*command)
                await connection.read_response()
    except ResponseError:
        return False
    return True


class _Subscription(asyncio.Protocol):
    """A connection in subscriber mode.

    :param connection: redis-py's, connected
    :param deliver: called with channel and message, or None when the subscription of the channel has become active
    :param watches: who is told of changes; None: the server does not tell of them
    :param pulse: is told of answers and of their lack
    """

    def __init__(
        self, connection: Any, deliver: Callable[[bytes, bytes | None], None], watches: list[Watch] | None, pulse: Pulse
    ) -> None:
        self._pulse = pulse
        self._connection = connection  # kept: its stream writer closes the transport when it is collected
        self._transport: asyncio.Transport = connection._writer.transport
        self._deliver = deliver
        self._watches = watches
        self._reading: deque[Watch] = deque()
        self._reader = hiredis.Reader()
        self._loop = asyncio.get_running_loop()
        self.lost = asyncio.Event()
        self._asked = False  # an answer is expected
        self._asked_s = 0.0
        self._keepalive = self._loop.call_later(KEEPALIVE_S, self._ask_for_sign_of_life)
        self._transport.set_protocol(self)

    def send(self, command: bytes, arguments: Sequence[str] = ()) -> None:
        """Send a command; the connection is given up if nothing comes within `ANSWER_S`."""
        self._transport.write(pack_command((command, *arguments)))
        if not self._asked:
            self._asked, self._asked_s = True, self._loop.time()
            self._wait(ANSWER_S, self._is_not_answered)

    def _is_not_answered(self) -> None:
        self._pulse.failed()
        self.close()

    def data_received(self, data: bytes) -> None:
        self._pulse.answered_s = self._loop.time()
        if self._asked:
            self._asked = False
            self._wait(KEEPALIVE_S, self._ask_for_sign_of_life)
        self._reader.feed(data)
        try:
            while (message := self._reader.gets()) is not False:
                if isinstance(message, list) and message[0] == b"message":
                    self._deliver(message[1], message[2])
                elif isinstance(message, list) and message[0] == b"subscribe":
                    self._deliver(message[1], None)
                elif isinstance(message, list) and message[0] == b"invalidate":
                    for watch in self._watches or ():
                        watch.hear(message[1])
                elif self._reading and isinstance(message, int | hiredis.ReplyError):
                    self._has_read(self._reading.popleft(), message)
        except hiredis.HiredisError as error:
            logger.warning("listening: Redis sent something else than its protocol: %s", error)
            self.close()

    @property
    def can_watch(self) -> bool:
        """The server tells of changes."""
        return self._watches is not None

    @property
    def answers(self) -> bool:
        """Nothing that was asked is waited for any longer than a moment."""
        return not self.lost.is_set() and (not self._asked or self._loop.time() - self._asked_s < DOUBT_S)

    def arm(self, watch: Watch) -> None:
        """Read the keys: from then on the server tells when one of them changes, once."""
        watch.asked = True
        self._reading.append(watch)
        self.send(b"EXISTS", watch.keys)

    def _has_read(self, watch: Watch, reply: int | hiredis.ReplyError) -> None:
        watch.asked = False
        if isinstance(reply, int):
            watch.since_s = self._loop.time()
        else:  # such as that of a user who may not read them
            logger.debug("watching the queues: %s", reply)
            self._watches = None

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.lost.is_set():
            self._pulse.failed()
        self.close()

    def close(self) -> None:
        for watch in self._watches or ():
            watch.end()
        self._keepalive.cancel()
        self._transport.abort()
        self.lost.set()

    def _wait(self, seconds: float, then: Callable[[], None]) -> None:
        self._keepalive.cancel()
        self._keepalive = self._loop.call_later(seconds, then)

    def _ask_for_sign_of_life(self) -> None:
        self.send(b"PING")


class _Channels:
    """Channels and who listens to them, and the task that keeps up the connection."""

    def __init__(self, pool: ConnectionPool, pulse: Pulse) -> None:
        self._pool, self._pulse = pool, pulse
        self._callbacks: dict[str, list[Callback]] = {}
        self._task: asyncio.Task[None] | None = None
        self._closing = False
        self._subscription: _Subscription | RedisPySubscription | None = None
        self._unsent: dict[str, bytes] = {}  # channel -> command, gathered within one tick of the loop
        self._watches: list[Watch] = []
        self._has_said = False
        self._tracking_failures = 0  # in a row

    @contextlib.contextmanager
    def listen(self, channel: str, callback: Callback) -> Iterator[None]:
        self._closing = False
        if self._task is not None and self._task.get_loop() is not asyncio.get_running_loop():
            self._task = self._subscription = None  # what another loop left when it was closed
            self._callbacks, self._unsent = {}, {}
        callbacks = self._callbacks.setdefault(channel, [])
        callbacks.append(callback)
        if len(callbacks) == 1:
            self._send_soon(channel, b"SUBSCRIBE")
        elif self._unsent.get(channel) is None:
            callback(None)  # active already, or soon: looking once too often is harmless
        try:
            yield
        finally:
            callbacks.remove(callback)
            if not callbacks and self._callbacks.get(channel) is callbacks:
                del self._callbacks[channel]
                self._send_soon(channel, b"UNSUBSCRIBE")
            if self._closing and not self._callbacks and self._task is not None:
                self._task.cancel()

    @contextlib.contextmanager
    def watch(self, watch: Watch) -> Iterator[None]:
        self._watches.append(watch)
        if self._subscription is not None and not self._subscription.can_watch:
            self._subscription.close()  # the next connection asks for it
        try:
            yield
        finally:
            self._watches.remove(watch)
            watch.end()

    def arm(self, watch: Watch) -> None:
        if self.can_watch and not watch.asked and watch.since_s is None and self._subscription is not None:
            self._subscription.arm(watch)

    @property
    def can_watch(self) -> bool:
        return self._subscription is not None and self._subscription.can_watch

    @property
    def hears(self) -> bool:
        return self._subscription is not None and self._subscription.answers

    def abandon(self) -> bool:
        """Close the connection from any thread; whether there was one in a loop that is still open."""
        task, self._task = self._task, None  # they refer to each other
        if task is None or task.done() or (loop := task.get_loop()).is_closed():
            return False
        loop.call_soon_threadsafe(task.cancel)
        return True

    async def close(self) -> None:
        self._closing = True
        here = self._task is not None and self._task.get_loop() is asyncio.get_running_loop()
        if self._task is not None and here and not self._callbacks:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    def _send_soon(self, channel: str, command: bytes) -> None:
        loop = asyncio.get_running_loop()
        if self._task is None or self._task.done():
            if command == b"UNSUBSCRIBE":
                return
            self._task = loop.create_task(self._run())
        if not self._unsent:
            loop.call_soon(self._send_gathered)
        self._unsent[channel] = command

    def _send_gathered(self) -> None:
        unsent, self._unsent = self._unsent, {}
        if self._subscription is None:
            return  # the next connection subscribes to all that is wanted then
        for command in (b"SUBSCRIBE", b"UNSUBSCRIBE"):
            channels = [channel for channel, wanted in unsent.items() if wanted == command]
            if channels:
                self._subscription.send(command, channels)

    async def _run(self) -> None:
        failures = 0
        while True:
            try:
                await self._listen_once()
            except (RedisError, OSError) as error:
                self._pulse.failed()
                if failures == 1:
                    logger.warning("listening for messages failed, trying again: %s", error)
                await asyncio.sleep(RECONNECT_S[min(failures, len(RECONNECT_S) - 1)])
                failures += 1
            else:
                failures = 0

    async def _listen_once(self) -> None:
        """Listen until the connection is lost; returns only if it had been established."""
        connection: Any = self._pool.make_connection()
        try:
            await connection.connect()
            if not has_transport(connection):
                return await self._listen_by_redis_py()
            watches = None
            if self._watches and self._tracking_failures < MAX_TRACKING_FAILURES:
                self._tracking_failures += 1  # a proxy may end the connection in the place of an answer
                watches = self._watches if await begin_tracking(connection) else None
                self._tracking_failures = 0
            if self._watches and watches is None and not self._has_said:
                self._has_said = True
                logger.info(
                    "the server does not tell of changes (CLIENT TRACKING): a worker looks for jobs of producers that "
                    "send no wake-ups every 15 s at least; the setting poll_delay makes that more often"
                )
            self._subscription = subscription = _Subscription(connection, self._deliver, watches, self._pulse)
            try:
                if self._callbacks:
                    subscription.send(b"SUBSCRIBE", list(self._callbacks))
                await subscription.lost.wait()
            finally:
                self._subscription = None
                subscription.close()
        finally:
            await connection.disconnect(nowait=True)

    async def _listen_by_redis_py(self) -> None:
        self._subscription = subscription = RedisPySubscription(self._pool, self._deliver)
        try:
            subscription.send(b"SUBSCRIBE", list(self._callbacks))
            await subscription.run()
        finally:
            self._subscription = None

    def _deliver(self, channel: bytes, data: bytes | None) -> None:
        for callback in tuple(self._callbacks.get(channel.decode(), ())):
            callback(data)


class Listener:
    """Channels and who listens to them.

    The work is another object's: a task that referred to this one would keep it when its pool is dropped.

    :param pool: redis-py's pool; it makes the connection
    :ivar pulse: is told of answers and of their lack
    """

    def __init__(self, pool: ConnectionPool, pulse: Pulse | None = None) -> None:
        limit_connections(pool)
        self.pulse = pulse or Pulse()
        self._channels = _Channels(pool, self.pulse)

    @contextlib.contextmanager
    def listen(self, channel: str, callback: Callback) -> Iterator[None]:
        """Call back with each message of a channel, and with None whenever the subscription has become active."""
        with self._channels.listen(channel, callback):
            yield

    @contextlib.contextmanager
    def watch(self, watch: Watch) -> Iterator[None]:
        """Have a watch told of a change after each `arm`, where the server tells of them."""
        with self._channels.watch(watch):
            yield

    def arm(self, watch: Watch) -> None:
        """Have a watch told of the next change, unless it is told of that already."""
        self._channels.arm(watch)

    @property
    def can_watch(self) -> bool:
        """Whether the server tells of changes."""
        return self._channels.can_watch

    @property
    def hears(self) -> bool:
        """Whether messages come, as far as is known."""
        return self._channels.hears

    async def close(self) -> None:
        """Stop listening and close the connection: now, or when the last one who listens has left."""
        await self._channels.close()

    def __del__(self) -> None:
        channels = getattr(self, "_channels", None)
        if channels is not None and channels.abandon():
            warnings.warn("a pool was dropped without `await pool.aclose()`", ResourceWarning, stacklevel=2)
