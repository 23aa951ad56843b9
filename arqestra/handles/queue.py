"""`Queue`: a handle on one queue, to pause, resume and purge it, and on its dead set."""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

from arq.jobs import DeserializationError

from ..protocol.serializers import Serializer
from ..protocol.wire import decode_result
from ..store.job_facts import count_dead, read_dead
from ..store.queues import is_paused, queue_depth
from ..store.store import Store
from .job import Job

__all__ = ("DeadJob", "Queue")

PAGE = 200


@dataclass(frozen=True, slots=True)
class DeadJob:
    """A job that failed for good.

    :ivar job_id: its id
    :ivar queue: its queue
    :ivar function: name of its function; None if the entry does not decode with the pool's serializer
    :ivar args, kwargs: its arguments
    :ivar error: what it failed with
    :ivar reason: the error's type and message
    :ivar traceback: of the last attempt, as text
    :ivar job_try: number of that attempt
    :ivar died: when it was put into the dead set
    """

    job_id: str
    queue: str
    function: str | None
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    error: BaseException | None
    reason: str
    traceback: str | None
    job_try: int
    died: datetime


class Connected(Protocol):
    """The parts of a `Pool` that a queue needs."""

    @property
    def store(self) -> Store: ...

    @property
    def serializer(self) -> Serializer: ...

    def job(self, job_id: str, *, queue: str | None = None) -> Job[Any]: ...


class Queue:
    """A handle on one queue of the fleet. Made by `Pool.queue(name)`.

    :param name: of the queue
    :param pool: where it is
    """

    def __init__(self, name: str, pool: Connected) -> None:
        self.name = name
        self._pool = pool

    async def pause(self) -> bool:
        """Let no worker take jobs of the queue until `resume`. Running jobs go on, and enqueues are accepted.

        :returns: False if it was paused already
        """
        return await self._pool.store.pause(self.name, paused=True)

    async def resume(self) -> bool:
        """Let workers take jobs again; those with free slots are told at once.

        :returns: False if it was not paused
        """
        return await self._pool.store.pause(self.name, paused=False)

    async def is_paused(self) -> bool:
        """Whether the queue is paused."""
        return await is_paused(self._pool.store.redis, self._pool.store.keys, self.name)

    async def depth(self) -> int:
        """Jobs that have not ended: due, deferred, throttled and running."""
        return await queue_depth(self._pool.store.redis, self._pool.store.keys, self.name)

    async def purge(self) -> int:
        """Delete all jobs of the queue that do not run. Whoever waits for one of them gets `ResultNotFound`.

        :returns: how many were deleted
        """
        return await self._pool.store.purge(self.name)

    # -- the dead set ---------------------------------------------------------------------------------------------

    async def dead_count(self) -> int:
        """Jobs in the dead set."""
        return await count_dead(self._pool.store.redis, self._pool.store.keys, self.name)

    async def dead(self, *, offset: int = 0, limit: int = 100) -> list[DeadJob]:
        """Jobs that failed for good, the latest first. The set keeps them for the workers' `keep_dead`, 10,000 at most.

        :param offset: entries to pass over
        :param limit: entries to return at most
        """
        entries = await read_dead(self._pool.store.redis, self._pool.store.keys, self.name, offset, limit)
        return [_dead_job(self._pool.serializer, self.name, *entry) for entry in entries]

    async def retry_dead(self, job_ids: Iterable[str] | None = None) -> int:
        """Run dead jobs once more, under their ids, from the first attempt on.

        :param job_ids: which; default all
        :returns: how many were queued; jobs that are gone or run already are not
        """
        ids = await self._all_dead() if job_ids is None else list(job_ids)
        done = 0
        for first in range(0, len(ids), PAGE):
            batch = ids[first : first + PAGE]
            done += sum(await asyncio.gather(*(self._retry_one(job_id) for job_id in batch)))
        return done

    async def _retry_one(self, job_id: str) -> bool:
        return await self._pool.job(job_id, queue=self.name).retry_dead()

    async def discard_dead(self, job_ids: Iterable[str] | None = None) -> int:
        """Take jobs out of the dead set for good; their results stay for as long as they are kept.

        :param job_ids: which; default all
        :returns: how many there were
        """
        ids = await self._all_dead() if job_ids is None else list(job_ids)
        done = 0
        for first in range(0, len(ids), PAGE):
            done += await self._pool.store.discard(self.name, ids[first : first + PAGE])
        return done

    async def _all_dead(self) -> list[str]:
        ids: list[str] = []
        while entries := await read_dead(self._pool.store.redis, self._pool.store.keys, self.name, len(ids), PAGE):
            ids += [job_id for job_id, _, _ in entries]
        return ids

    def __repr__(self) -> str:
        return f"<Queue {self.name}>"


def _dead_job(serializer: Serializer, queue: str, job_id: str, died_ms: int, data: bytes) -> DeadJob:
    died = datetime.fromtimestamp(died_ms / 1000, tz=UTC)
    try:
        info, traceback = decode_result(serializer, data)
    except DeserializationError as error:
        return DeadJob(
            job_id,
            queue,
            function=None,
            args=(),
            kwargs={},
            error=None,
            reason=f"does not decode: {error.__cause__}",
            traceback=None,
            job_try=0,
            died=died,
        )
    reason = f"{type(info.result).__name__}: {info.result}"
    raised = info.result if isinstance(info.result, BaseException) else None
    return DeadJob(
        job_id,
        queue,
        function=info.function,
        args=info.args,
        kwargs=info.kwargs,
        error=raised,
        reason=reason,
        traceback=traceback,
        job_try=info.job_try,
        died=died,
    )
