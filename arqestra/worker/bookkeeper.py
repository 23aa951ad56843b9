"""What a worker writes once a second beside its jobs: what it has counted, and that it lives.

A task of its own on the worker's loop, so that how late it wakes up tells how late the loop is.
"""

import asyncio
import contextlib
import logging
import os
import resource
import socket
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from itertools import islice
from typing import TYPE_CHECKING

from redis.exceptions import RedisError

from ..clock import timestamp_ms
from ..presence import JobOnWorker, Presence
from ..store.presence import withdraw_presence, write_presence
from .tally import Tally
from .wear import memory_bytes

if TYPE_CHECKING:
    from .worker import Worker

__all__ = ("Bookkeeper",)

logger = logging.getLogger("arq.worker")

EVERY_S = 1.0
MOST_JOBS_TOLD = 100
LIMIT_S = 10.0
STOP_WAIT_S = 2.0


class Bookkeeper:
    """The accounts of a worker.

    :param worker: not connected yet
    """

    def __init__(self, worker: "Worker") -> None:
        self._worker = worker
        self.tally = Tally()
        self._started_ms = timestamp_ms()
        self._lag_s = 0.0
        self._task: asyncio.Task[None] | None = None
        self._known = False
        self._stopped = asyncio.Event()

    def start(self) -> None:
        """Begin to write; a burst worker writes at its end."""
        if not self._worker.burst:
            self._stopped = asyncio.Event()
            self._task = self._worker.loop.create_task(self._run())

    async def stop(self) -> None:
        """Write no more; the last counts are written by `flush`."""
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
            await self.tally.flush(self._worker.store)
            if self._known:
                self._known = False
                await withdraw_presence(self._worker.store, self._worker.worker_id)

    async def write_once(self) -> None:
        """Write what there is.

        :raises redis.exceptions.RedisError: Redis does not answer; the counts are kept
        """
        await self.tally.flush(self._worker.store)
        self._known = True
        await write_presence(self._worker.store, self._worker.worker_id, self._presence())

    async def _run(self) -> None:
        loop = self._worker.loop
        while not self._stopped.is_set():
            try:
                async with asyncio.timeout(LIMIT_S):
                    await self.write_once()
            except (RedisError, OSError) as error:  # TimeoutError is an OSError
                logger.warning("statistics are put off: %s", error)
            slept_from_s = loop.time()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopped.wait(), EVERY_S)
            self._lag_s = max(0.0, loop.time() - slept_from_s - EVERY_S)

    def _presence(self) -> Presence:
        worker = self._worker
        running = worker.slots.running
        jobs = [
            JobOnWorker(job_id, attempt.payload.function, attempt.leased.queue, attempt.job_try, attempt.started_ms)
            for job_id, attempt in islice(list(running.items()), MOST_JOBS_TOLD)
        ]
        used = resource.getrusage(resource.RUSAGE_SELF)
        return Presence(
            host=socket.gethostname(),
            pid=os.getpid(),
            version=_version(),
            started_ms=self._started_ms,
            queues=list(worker.queues),
            slots=worker.max_jobs,
            running=len(running),
            waiting=len(worker.slots.resident),
            jobs=jobs,
            complete=worker.jobs_complete,
            failed=worker.jobs_failed,
            retried=worker.jobs_retried,
            rss_bytes=memory_bytes(),
            cpu_s=round(used.ru_utime + used.ru_stime, 2),
            lag_ms=round(self._lag_s * 1000),
            draining=worker.stopping or not worker.allow_pick_jobs,
        )


@cache
def _version() -> str:
    try:
        return version("arqestra")
    except PackageNotFoundError:  # run from a folder
        return "?"
