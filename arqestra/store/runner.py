"""Runs scripts by their names, over the connection of one store."""

from collections.abc import Callable
from typing import Any

from ..protocol.keys import Keys
from .link import Links, ScriptCall, with_retries
from .scripts import script

__all__ = ("ScriptRunner",)

NAMES = (
    *("enqueue", "claim", "finish", "renew", "abort", "delete", "requeue", "record", "peek", "leave", "offer"),
    *("purge", "pause", "discard", "advance", "history", "signal", "browse", "survey"),
    *("flow_store", "flow_start", "flow_cancel", "flow_forget", "flow_values"),
    *("schedule_keep", "schedule_put", "schedule_set", "schedule_look", "schedule_fire", "schedule_rewind"),
    *("presence", "recent", "progress", "announce", "run_now", "unknown", "block", "flow_resume"),
)


class ScriptRunner:
    """Makes calls of scripts, and sends them.

    :param links: the connection
    :param keys: the namespace
    :param clock: ms since the epoch, for tests; None for Redis' own clock
    """

    def __init__(self, links: Links, keys: Keys, clock: Callable[[], int] | None) -> None:
        self.links = links
        self._clock = clock
        self._prefix = keys.prefix
        self._scripts = {name: script(name, keys) for name in NAMES}

    def prepare(self, name: str, queue: str, *args: bytes | str | int) -> ScriptCall:
        """A call of a script, to be sent by `run`, for a queue by its name or a key: as its KEYS 1 is."""
        known, now = self._scripts[name], str(self._clock()) if self._clock else ""
        return ScriptCall(known, self._prefix + queue if known.of_queue else queue, (now, *args))

    async def run(self, *calls: ScriptCall) -> list[Any]:
        """Send calls in one round trip.

        :raises redis.exceptions.RedisError: the first error among the replies, or no reply
        """
        replies = await self.links.call(calls)
        for reply in replies:
            if isinstance(reply, Exception):
                raise reply
        return replies

    async def call(self, name: str, key: str, *args: bytes | str | int) -> Any:
        """One script by its name, sent again after a lost connection: for subjects with a file of their own."""
        return (await with_retries(lambda _: self.run(self.prepare(name, key, *args)), links=self.links))[0]
