"""Tells those who listen what happens here. While nobody listens, a job costs one test of a flag.

Somebody who begins to listen says so on the channels of the workers; besides, the presence of a worker, written once a
second, is answered with the number of those who listen, and so is each message.
"""

import asyncio
import contextvars
import logging
from typing import Any

from redis.exceptions import RedisError

from ...protocol.attempt_errors import storable
from ...protocol.clock import timestamp_ms
from ...protocol.events import Event, encode_events
from ...store.statistics_writer import NAME_CHARACTERS
from ...store.store import Store
from ..run.attempt import Attempt

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

    # -- what happens; called only while somebody listens --------------------------------------------------------------

    def job_started(self, attempt: Attempt) -> None:
        """A job was started."""
        self._publish_of_job("started", attempt)

    def job_progress(self, attempt: Attempt) -> None:
        """A job has told how far it is."""
        notes = attempt.notes
        if notes is not None and notes.latest is not None:
            done, total, message, _ = notes.latest
            self._publish_of_job("progress", attempt, done=done, total=total, message=message)

    def job_ended(self, attempt: Attempt, run_ms: int, wait_ms: int) -> None:
        """Redis has taken the outcome of an attempt.

        :param run_ms: ms that it ran
        :param wait_ms: ms from due to start
        """
        assert attempt.ended is not None
        state, failure = attempt.ended
        error = "" if failure is None else f"{failure.type}: {failure.message}"
        self._publish_of_job(state.value, attempt, run_ms=run_ms, wait_ms=wait_ms, error=error)

    def worker_changed(self, kind: str) -> None:
        """The worker was started, or stopped."""
        self._publish(Event(kind, timestamp_ms(), self._worker_id))

    def _publish_of_job(self, kind: str, attempt: Attempt, **facts: Any) -> None:
        self._publish(
            Event(
                kind,
                timestamp_ms(),
                self._worker_id,
                job_id=attempt.leased.id,
                function=storable(attempt.payload.function[:NAME_CHARACTERS]),
                queue=attempt.leased.queue,
                attempt=attempt.job_try,
                **facts,
            )
        )

    # -- sending ------------------------------------------------------------------------------------------------------

    def _publish(self, event: Event) -> None:
        """Send an event, with those of this moment in one message."""
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
