"""Group commit of enqueues: the calls of one tick of the event loop share one script call."""

import asyncio
from collections.abc import Sequence

from .link import RETRYABLE
from .records import EnqueueResult, NewJob
from .store import Store, batches

__all__ = ("EnqueueBatch",)

Waiters = Sequence[asyncio.Future[EnqueueResult]]


class EnqueueBatch:
    """Gathers jobs until the loop's next tick.

    :param store: where they go
    """

    def __init__(self, store: Store) -> None:
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
