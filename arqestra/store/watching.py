"""Keys of which somebody wants to know when they change, by the server's client-side caching (`CLIENT TRACKING`).

Stock arq producers send no wake-up, and a message may be lost. So a worker that has nothing to do watches its queues:
it reads the keys on the connection of the `Listener`, and the server tells it once, by a push, when anybody changes one
of them. That costs nothing while nothing changes. Servers without it (and users without `+client|tracking`) are polled.
"""

import asyncio
from collections.abc import Sequence
from typing import Any

from redis.exceptions import ResponseError

__all__ = ("Watch", "begin_tracking")

LIMIT_S = 5.0


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
        async with asyncio.timeout(LIMIT_S):
            for command in (("HELLO", 3), ("CLIENT", "TRACKING", "ON")):
                await connection.send_command(*command)
                await connection.read_response()
    except ResponseError:
        return False
    return True
