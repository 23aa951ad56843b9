"""Telling those who listen what happens here. While nobody listens that costs one look at a flag for each job.

Somebody who begins to listen says so on the channels of the workers; besides, the presence of a worker, written once a
second, is answered with the number of those who listen, and so is each message.
"""

import asyncio
import contextvars
import logging

from redis.exceptions import RedisError

from ...protocol.clock import timestamp_ms
from ...protocol.events import Event, encode_events
from ...store.store import Store

__all__ = ("EventPublisher",)

logger = logging.getLogger("arq.worker")

EVENTS_PER_MESSAGE = 500
MAX_WAITING = 5_000  # a listener that wants more is told how many it has missed


class EventPublisher:
    """The events of a worker.

    :param worker_id: whose
    :ivar listened: somebody listens
    """

    def __init__(self, worker_id: str) -> None:
        self._worker_id = worker_id
        self.listened = False
        self._waiting: list[Event] = []
        self._dropped = 0
        self._store: Store | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self, store: Store) -> None:
        """Events can be sent."""
        self._store = store

    def tell(self, event: Event) -> None:
        """Tell of an event, with those of this moment in one message."""
        if len(self._waiting) >= MAX_WAITING:
            self._dropped += 1
            return
        self._waiting.append(event)
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._send(), context=contextvars.Context())

    async def drain(self) -> None:
        """Wait until all was sent."""
        if self._task is not None:
            await asyncio.gather(self._task, return_exceptions=True)

    async def _send(self) -> None:
        try:
            while self._waiting and self._store is not None:
                events = self._waiting[:EVENTS_PER_MESSAGE]
                del self._waiting[:EVENTS_PER_MESSAGE]
                if self._dropped and not self._waiting:
                    events.append(Event("dropped", timestamp_ms(), self._worker_id, count=self._dropped))
                    self._dropped = 0
                self.listened = bool(await self._store.call("announce", self._store.keys.events, encode_events(events)))
        except (RedisError, OSError) as error:  # whoever listens has lost them: they are about now
            logger.debug("events are lost: %s", error)
            self._waiting.clear()
