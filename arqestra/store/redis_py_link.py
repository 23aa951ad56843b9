"""Scripts and messages by connections of redis-py that are no transports, so that no protocol can take them over.

That is so with fakeredis, whose connections are objects of this process, and with connection classes of one's own. It
is slower, and each call waits for the one before; what is done is the same. Scripts go by `EVAL`: the functions of a
stand-in, if it has any, have no MessagePack.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from redis.asyncio import ConnectionPool, Redis
from redis.exceptions import NoScriptError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from .calls import Call, How, Pulse, Receiver
from .time_limits import REPLY_LIMIT_S

__all__ = ("RedisPyLink", "RedisPySubscription", "has_transport")

CLOSE_WAIT_S = 5.0
WITHOUT_LUA = (
    "expected a server that runs Lua scripts, got one that does not: install fakeredis[lua], or use a real server, "
    "arqestra.embedded.EmbeddedRedis"
)
HEAR_S = 0.5  # messages are read in pieces of that length, between which subscriptions may change


def has_transport(connection: Any) -> bool:
    """Whether a connection of redis-py's is over a transport that takes another protocol: asyncio's or uvloop's."""
    transport = getattr(getattr(connection, "_writer", None), "transport", None)
    return callable(getattr(transport, "set_protocol", None))


class RedisPyLink:
    """What `Link` does, one call after the other.

    :param connection: redis-py's, connected
    :param pulse: is told of answers and of their lack
    """

    def __init__(self, connection: Any, pulse: Pulse) -> None:
        self._connection = connection
        self._pulse = pulse
        self._loop = asyncio.get_running_loop()
        self._sending: set[asyncio.Task[None]] = set()
        self._turn = asyncio.Lock()
        self.is_open = True

    def belongs_here(self) -> bool:
        """It was made in the event loop that runs now."""
        return self._loop is asyncio.get_running_loop()

    def send(self, calls: Sequence[Call], receive: Receiver) -> None:
        """Send scripts; `receive` is called with their replies (errors among them), or with what went wrong."""
        task = self._loop.create_task(self._send(calls, receive))
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)

    async def _send(self, calls: Sequence[Call], receive: Receiver) -> None:
        try:
            async with self._turn:
                replies = [await self._answer(call) for call in calls]
        except Exception as error:
            self.is_open = False
            self._pulse.failed()
            receive(error)
        else:
            self._pulse.answered()
            receive(replies)

    async def _answer(self, call: Call) -> Any:
        for how in (How.BY_SHA, How.IN_FULL):
            try:
                async with asyncio.timeout(REPLY_LIMIT_S):
                    await self._connection.send_command(*call.self_contained_words(how))
                    return await self._connection.read_response(disable_decoding=True)
            except TimeoutError:
                raise RedisTimeoutError(f"expected a reply of Redis within {REPLY_LIMIT_S:g} s, got none") from None
            except NoScriptError as error:
                refused: ResponseError = error
            except ResponseError as error:
                return _explained(error)
        return refused

    def abandon(self) -> None:
        """Let go of a connection of another loop."""
        self.is_open = False

    async def close(self) -> None:
        """Close the connection, once the calls that are under way are answered."""
        self.is_open = False
        if self._sending:
            await asyncio.wait(self._sending, timeout=CLOSE_WAIT_S)
        await self._connection.disconnect(nowait=True)


def _explained(error: ResponseError) -> ResponseError:
    """Of a stand-in for Redis that cannot run our scripts: what to use in its place."""
    text = str(error)
    if "unknown command" in text.lower() and "eval" in text.lower():
        return ResponseError(f"{WITHOUT_LUA} ({text})")
    return error


class RedisPySubscription:
    """What a listener's connection does, by redis-py's `PubSub`.

    :param pool: redis-py's pool
    :param deliver: called with channel and message, or None when the subscription of the channel has become active
    """

    can_watch = False
    answers = False  # so a worker looks at its queues at the default delay

    def __init__(self, pool: ConnectionPool, deliver: Callable[[bytes, bytes | None], None]) -> None:
        self._pubsub = Redis(connection_pool=pool).pubsub()
        self._deliver = deliver
        self._wanted: asyncio.Queue[tuple[bytes, tuple[str, ...]]] = asyncio.Queue()

    def send(self, command: bytes, channels: Sequence[str] = ()) -> None:
        """Subscribe or unsubscribe, soon."""
        self._wanted.put_nowait((command, tuple(channels)))

    def arm(self, watch: object) -> None:
        """Nobody tells of changes."""

    def close(self) -> None:
        """`run` is cancelled, and closes it."""

    async def run(self) -> None:
        """Take in messages until cancelled."""
        try:
            while True:
                while not self._wanted.empty() or not self._pubsub.subscribed:
                    command, channels = await self._wanted.get()
                    if channels:
                        change = self._pubsub.subscribe if command == b"SUBSCRIBE" else self._pubsub.unsubscribe
                        await change(*channels)
                message = await self._pubsub.get_message(timeout=HEAR_S)
                if message is not None and message["type"] in ("subscribe", "message"):
                    channel, data = message["channel"], message["data"]
                    self._deliver(_bytes(channel), None if message["type"] == "subscribe" else _bytes(data))
        finally:
            await self._pubsub.aclose()


def _bytes(text: bytes | str) -> bytes:
    return text if isinstance(text, bytes) else text.encode("utf-8", "surrogateescape")
