"""What a worker writes once a second beside its jobs: what it has counted, what its jobs tell, and that it lives.

While it has nothing to tell it says once a minute that it lives: commands are billed in some places.

A task of its own on the worker's loop, so that how late it wakes up tells how late the loop is.
"""

import asyncio
import contextlib
import contextvars
import logging
import time
from collections.abc import Awaitable, Callable
from functools import partial

import msgspec
from redis.exceptions import RedisError

from ...observe.process_metrics import ProcessMetrics, sum_counters
from ...protocol.clock import timestamp_ms
from ...protocol.presence import EVERY_S, IDLE_EVERY_S, Presence
from ...store.libraries import NOTE_EVERY_S, note_library
from ...store.link import RETRYABLE
from ...store.presence import withdraw_presence, write_presence
from ...store.store import Store
from .counters import Counters
from .events import EventPublisher
from .presence import WorkerState, presence_of
from .progress_buffer import ProgressBuffer

__all__ = ("StatsReporter",)

logger = logging.getLogger("arq.worker")
faults = logging.getLogger("arq.worker.faults")  # what is no job's own failure: observed.py

LIMIT_S = 10.0
STOP_WAIT_S = 2.0
OUTCOME_WAIT_S = 0.01  # for the reply to an outcome, before the last notes of that job are sent again


class StatsReporter:
    """Writes once a second what there is to tell of a worker and its jobs.

    :param worker_id: whose jobs
    :param is_known: whether the worker has a function of that name
    :param state: how the worker is; called while it is connected
    :ivar store: set when the worker connects
    """

    def __init__(self, worker_id: str, is_known: Callable[[str], bool], state: Callable[[], WorkerState]) -> None:
        self._worker_id = worker_id
        self._state = state
        self.store: Store | None = None
        self.publisher = EventPublisher(worker_id)
        self.counters = Counters(worker_id, is_known, self.publisher)
        self.progress_buffer = ProgressBuffer(self.publisher)
        self._started_ms = timestamp_ms()
        self._lag_s = 0.0  # at most, since the latest presence
        self._told: Presence | None = None
        self._told_s = 0.0
        self._note_library_s = 0.0  # when, by the monotonic clock
        self._task: asyncio.Task[None] | None = None
        self._last_notes: asyncio.Task[None] | None = None
        self._has_last_notes = False
        self._known = False
        self._stopped = asyncio.Event()

    def start(self, *, burst: bool) -> None:
        """Begin to write. A burst worker is in no registry, and one that ends within a second writes at its end."""
        self.publisher.start(self._connected_store)
        self._stopped = asyncio.Event()
        self._task = asyncio.get_running_loop().create_task(self._run(burst=burst))

    async def stop(self) -> None:
        """Write no more; `close` writes the last counts."""
        task, self._task = self._task, None
        self._stopped.set()
        if task is not None:  # what is being written is not broken off: nobody would know whether it was counted
            await asyncio.wait([task], timeout=STOP_WAIT_S)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def close(self) -> None:
        """Write the last counts, and withdraw.

        :raises redis.exceptions.RedisError: Redis does not answer
        """
        async with asyncio.timeout(STOP_WAIT_S):
            await self._write_counters()
            if self._last_notes is not None:
                await self._last_notes
            if self._known:
                self._known, self._told = False, None
                if self.publisher.listened:
                    self.publisher.worker_changed("worker-stopped")
                await self.publisher.drain()
                await withdraw_presence(self._connected_store, self._worker_id)

    async def write_once(self) -> None:
        """Write what there is: of its presence what is new.

        :raises redis.exceptions.RedisError: Redis does not answer; the counts are kept
        """
        await _one_after_another(self._write_counters, self._write_presence)

    async def _write_presence(self) -> None:
        begun, self._known = not self._known, True
        presence, now_s = self._presence(), time.monotonic()
        idle = self._told is not None and not presence.jobs and presence.activity == self._told.activity
        if idle and self._told is not None and now_s - self._told_s < self._told.every_s - EVERY_S / 2:
            return
        presence = msgspec.structs.replace(presence, every_s=IDLE_EVERY_S if idle else EVERY_S)
        listeners = await write_presence(self._connected_store, self._worker_id, presence)
        self._told, self._told_s, self._lag_s = presence, now_s, 0.0
        self.publisher.listened = listeners > 0
        if begun and self.publisher.listened:
            self.publisher.worker_changed("worker-started")
        if now_s >= self._note_library_s:
            self._note_library_s = now_s + NOTE_EVERY_S
            for name in await note_library(self._connected_store):
                logger.info("deleted the library %s: nobody has used it for a day", name)

    async def _write_counters(self) -> None:
        store = self._connected_store
        await _one_after_another(partial(self.counters.flush, store), partial(self.progress_buffer.flush, store))

    # -- the last words of a job ----------------------------------------------------------------------------------

    def write_notes_soon(self) -> None:
        """A job that has told something of itself is about to end: whoever waits for it is to find all of that."""
        self._has_last_notes = True
        if self._last_notes is None or self._last_notes.done():
            loop = asyncio.get_running_loop()
            self._last_notes = loop.create_task(self._write_last_notes(), context=contextvars.Context())

    async def _write_last_notes(self) -> None:
        try:
            while self._has_last_notes or self.progress_buffer.waits_for_outcomes:
                self._has_last_notes = False
                async with asyncio.timeout(LIMIT_S):
                    await self.progress_buffer.flush(self._connected_store)
                if self.progress_buffer.waits_for_outcomes:
                    await asyncio.sleep(OUTCOME_WAIT_S)
        except (RedisError, OSError) as error:  # kept for the next second
            logger.debug("notes are put off: %s", error)

    # -- once a second --------------------------------------------------------------------------------------------

    async def _run(self, *, burst: bool) -> None:
        loop = asyncio.get_running_loop()
        if burst:
            await self._pause()
        while not self._stopped.is_set():
            try:
                async with asyncio.timeout(LIMIT_S):
                    await (self._write_counters() if burst else self.write_once())
            except (RedisError, OSError) as error:  # TimeoutError is an OSError
                logger.warning("statistics are put off: %s", error)
            except Exception:  # a worker that is not heard of any more seems dead
                faults.exception("writing statistics went wrong")
            slept_from_s = loop.time()
            await self._pause()
            self._lag_s = max(self._lag_s, loop.time() - slept_from_s - EVERY_S)

    async def _pause(self) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stopped.wait(), EVERY_S)

    def figures(self) -> ProcessMetrics:
        """All that this process has counted since it started, and how it is."""
        counters = sum_counters([self.counters.totals(), self._connected_store.enqueued.totals()])
        cut_off_s = round(self._connected_store.pulse.cut_off_s, 1)
        return ProcessMetrics(counters, msgspec.structs.replace(self._presence(), jobs=[], cut_off_s=cut_off_s))

    def _presence(self) -> Presence:
        return presence_of(self._state(), self._started_ms, self._lag_s)

    @property
    def _connected_store(self) -> Store:
        if self.store is None:
            raise RuntimeError("expected a worker that is connected")
        return self.store


async def _one_after_another(*steps: Callable[[], Awaitable[None]]) -> None:
    """Take steps that do not depend on each other: what Redis refuses of one keeps nothing else back."""
    refused: Exception | None = None
    for step in steps:
        try:
            await step()
        except RETRYABLE:
            raise
        except Exception as error:
            refused = refused or error
    if refused is not None:
        raise refused
