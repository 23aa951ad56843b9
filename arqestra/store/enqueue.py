"""Jobs on their way into Redis: gathered, sent together, counted.

The enqueues of one step of the event loop share one call of the script (group commit).
"""

import asyncio
import contextvars
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from time import monotonic
from typing import Protocol

from redis.exceptions import RedisError

from ..protocol.constants import BATCH
from .link import RETRYABLE
from .records import EnqueueResult, NewJob
from .statistics_writer import CLOSE_WAIT_S, EVERY_S, MAX_FIELDS, StatisticsWriter, field_of, sum_of

__all__ = ("BATCH_BYTES", "EnqueueBatch", "EnqueueCounts", "batches")

logger = logging.getLogger("arq.connections")

BATCH_BYTES = 8 * 1024 * 1024

Waiters = Sequence[asyncio.Future[EnqueueResult]]


class EnqueuingStore(Protocol):
    """What sends enqueues: the store."""

    def enqueue_now(self, jobs: Sequence[NewJob], receive: Callable[[list[EnqueueResult] | Exception], None]) -> bool:
        """Send them at once; False if there is no connection."""

    async def enqueue_batch(self, jobs: Sequence[NewJob], *, resent: bool = False) -> list[EnqueueResult]:
        """Send them, connecting first."""


class EnqueueBatch:
    """Gathers jobs until the loop's next tick.

    :param store: where they go
    """

    def __init__(self, store: "EnqueuingStore") -> None:
        self._store = store
        self._loop: asyncio.AbstractEventLoop | None = None
        self._jobs: list[NewJob] = []
        self._waiters: list[asyncio.Future[EnqueueResult]] = []
        self._sending: set[asyncio.Task[None]] = set()

    def add(self, new: NewJob) -> asyncio.Future[EnqueueResult]:
        """A future of whether the job was accepted, or of the job that stands for it."""
        loop = asyncio.get_running_loop()
        if self._loop is not loop:  # what another loop left when it was closed
            self._loop, self._jobs, self._waiters = loop, [], []
        if not self._jobs:
            loop.call_soon(self._send)
        accepted: asyncio.Future[EnqueueResult] = loop.create_future()
        self._jobs.append(new)
        self._waiters.append(accepted)
        return accepted

    def _send(self) -> None:
        jobs, waiters = self._jobs, self._waiters
        self._jobs, self._waiters = [], []
        sent = 0
        for batch in batches(jobs):
            self._send_batch(batch, waiters[sent : sent + len(batch)])
            sent += len(batch)

    def _send_batch(self, jobs: Sequence[NewJob], waiters: Waiters) -> None:
        def receive(verdicts: list[EnqueueResult] | Exception) -> None:
            if isinstance(verdicts, RETRYABLE):
                self._send_patiently(jobs, waiters, resent=True)
            else:
                _answer(waiters, verdicts)

        try:
            sent = self._store.enqueue_now(jobs, receive)
        except Exception as error:  # an id or a queue that cannot be sent: only its own caller is to know
            if len(jobs) == 1:
                return _answer(waiters, error)
            for job, waiter in zip(jobs, waiters, strict=True):
                self._send_batch([job], [waiter])
            return None
        if not sent:
            self._send_patiently(jobs, waiters, resent=False)
        return None

    def _send_patiently(self, jobs: Sequence[NewJob], waiters: Waiters, *, resent: bool) -> None:
        """Connect first, or again after the connection was lost."""

        async def send() -> None:
            try:
                verdicts = await self._store.enqueue_batch(jobs, resent=resent)
            except Exception as error:
                _answer(waiters, error)
            except BaseException:
                _answer(waiters, ConnectionError("the enqueue was cancelled, it may or may not have been carried out"))
                raise
            else:
                _answer(waiters, verdicts)

        task = asyncio.get_running_loop().create_task(send())
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)


def _answer(waiters: Waiters, verdicts: list[EnqueueResult] | Exception) -> None:
    for i, accepted in enumerate(waiters):
        if accepted.done():
            continue  # the caller was cancelled
        if isinstance(verdicts, Exception):
            accepted.set_exception(verdicts)
        else:
            accepted.set_result(verdicts[i])


def batches(jobs: Sequence[NewJob]) -> Iterator[Sequence[NewJob]]:
    """Pieces that bound the time of one script call and the size of one request."""
    first, size_bytes = 0, 0
    for i, job in enumerate(jobs):
        if i > first and (i - first == BATCH or size_bytes + len(job.payload) > BATCH_BYTES):
            yield jobs[first:i]
            first, size_bytes = i, 0
        size_bytes += len(job.payload)
    if first < len(jobs):
        yield jobs[first:]


# -- counts -----------------------------------------------------------------------------------------------------------


class EnqueueCounts:
    """Counts of what a process has enqueued. A timer of the event loop writes them, and `close` the last ones.

    A program that runs an event loop for each call ends it before the timer: the next enqueue writes what was left.

    :param writer: adds them to the statistics
    :ivar stranded: there are counts of a loop that has ended
    """

    def __init__(self, writer: StatisticsWriter) -> None:
        self._writer = writer
        self._counts: dict[tuple[str, str], int] = {}
        self._handed_over: dict[str, int] = {}  # all that was ever handed over to be written
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None
        self._pid = os.getpid()
        self._since_s: float = 0.0
        self.stranded = False

    def add(self, queue: str, function: str, number: int = 1) -> None:
        """Jobs were accepted."""
        loop = asyncio.get_running_loop()
        if self._loop is not loop:  # what another loop had planned ended with it
            self._look_for_fork()
            if self._loop is None:
                self._since_s = monotonic()
            elif monotonic() - self._since_s >= EVERY_S:
                self.stranded = True
            self._loop = loop
            loop.call_later(EVERY_S, self._write_soon, context=contextvars.Context())  # not that of a job
        key = (queue, function)
        self._counts[key] = self._counts.get(key, 0) + number

    def totals(self) -> dict[str, int]:
        """All that was ever added: field -> number."""
        return sum_of(self._handed_over, _fields(self._counts))

    async def write_stranded(self) -> None:
        """Write what is there."""
        self.stranded, self._since_s = False, monotonic()
        await self._write()

    def _write_soon(self) -> None:
        loop, self._loop = self._loop, None
        if loop is not None and self._counts and not loop.is_closed():
            self._task = loop.create_task(self._write())

    async def _write(self) -> None:
        try:
            await self._flush()
        except (RedisError, OSError) as error:
            logger.warning("counts of enqueues are put off: %s", error)

    def _look_for_fork(self) -> None:
        """What was counted before a fork is the parent's to write."""
        if self._pid != os.getpid():
            self._pid, self._counts, self._loop = os.getpid(), {}, None

    async def _flush(self) -> None:
        self._look_for_fork()
        counts, self._counts = self._counts, {}
        sums = _fields(counts)
        if len(self._handed_over) < MAX_FIELDS:  # names of functions and queues may be anything
            self._handed_over = sum_of(self._handed_over, sums)
        await self._writer.write(sums, {})

    async def close(self) -> None:
        """Write the last counts; if Redis does not answer they are lost."""
        task, self._task = self._task, None
        self._loop = None
        try:
            async with asyncio.timeout(CLOSE_WAIT_S):
                if task is not None and task.get_loop() is asyncio.get_running_loop():
                    await asyncio.gather(task, return_exceptions=True)
                await self._flush()
        except (RedisError, OSError) as error:  # TimeoutError is an OSError
            logger.debug("the last counts of enqueues are lost: %s", error)


def _fields(counts: dict[tuple[str, str], int]) -> dict[str, int]:
    return {field_of(queue, function, "enqueued"): number for (queue, function), number in counts.items()}
