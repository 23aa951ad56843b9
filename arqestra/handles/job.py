"""`Job`: a handle on one job."""

import asyncio
import contextlib
import logging
import warnings
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any, Generic, cast

import arq.jobs
import msgspec
from arq.constants import default_queue_name
from arq.jobs import (
    DeserializationError,
    Deserializer,
    JobDef,
    JobResult,
    JobStatus,
    ResultNotFound,
    SerializationError,
)
from redis.asyncio import Redis

from ..definitions.coerce import coerce_value
from ..definitions.context import fail_in_task_group
from ..errors import ArgumentsError, JobNotRetryable, JobRunning, RemoteTraceback
from ..protocol.attempt_errors import AttemptError, decode_attempt_error
from ..protocol.clock import timestamp_ms
from ..protocol.progress import LOG_LINES, LogLine, Progress
from ..protocol.serializers import Serializer, serializer_of
from ..protocol.wire import decode_payload, decode_result, encode_payload, job_def, retry_payload
from ..store.find import queue_of_job
from ..store.job_facts import find_dead_result
from ..store.link import RETRYABLE
from ..store.progress import read_log, read_progress

if TYPE_CHECKING:
    from typing_extensions import TypeVar  # type checkers bring it: `default` comes to `typing` with Python 3.13

    from ..store.listener import Listener
    from ..store.records import JobSnapshot
    from ..store.store import Store

    R = TypeVar("R", default=Any)  # `Job` alone is `Job[Any]`, as arq's users write it
else:
    from typing import TypeVar

    R = TypeVar("R")

__all__ = ("Job",)

logger = logging.getLogger("arq.jobs")

FIRST_LOOK_S = 1.0  # however short a timeout is, there is time for one answer of Redis
MIN_POLL_S = 0.05  # polling is only the safety net beside push
WATCH_POLL_S = 0.5  # workers write progress once a second


class Job(arq.jobs.Job, Generic[R]):
    """A handle on one job. With a plain redis client instead of a `Pool` it behaves like arq's, and polls.

    :param job_id: id of the job
    :param redis: a `Pool`, or any redis client
    :param _queue_name: the queue that it was put in; if it is not there, the handle searches the others
    :param _deserializer: arq's argument; default the pool's serializer
    :param _result_type: what a plain result is coerced to
    """

    __slots__ = ("_result_type", "_serializer")

    def __init__(
        self,
        job_id: str,
        redis: Redis,
        _queue_name: str = default_queue_name,
        _deserializer: Deserializer | None = None,
        _result_type: Any = Any,
    ) -> None:
        super().__init__(job_id, redis, _queue_name, _deserializer)
        self._result_type = _result_type
        of_pool: Serializer | None = getattr(redis, "serializer", None)
        self._serializer = of_pool if of_pool and _deserializer is None else serializer_of(None, None, _deserializer)

    @property
    def _store(self) -> "Store":
        store: Store | None = getattr(self._redis, "store", None)
        if store is None:
            raise TypeError(f"expected a Job of an arqestra Pool for this, got one of {type(self._redis).__name__}")
        return store

    async def result(
        self, timeout: float | None = None, *, poll_delay: float = 0.5, pole_delay: float | None = None
    ) -> R:
        """Wait for the job's end and return its result.

        The end is pushed; `poll_delay` is the safety net for a lost message and for stock arq workers.

        :param timeout: seconds to wait at most; None waits for ever
        :param poll_delay: seconds between polls, while no message comes
        :param pole_delay: arq's deprecated spelling
        :returns: what the job function returned
        :raises TimeoutError: the job has not ended in time
        :raises ResultNotFound: the job is unknown, or its result is not kept
        :raises BaseException: what the job raised, with the worker's traceback as its cause; `CancelledError` if it
            was aborted
        """
        if pole_delay is not None:
            warnings.warn(
                '"pole_delay" is deprecated, use the correct spelling "poll_delay" instead',
                DeprecationWarning,
                stacklevel=2,
            )
            poll_delay = pole_delay
        listener: Listener | None = getattr(self._redis, "listener", None)
        if listener is None:
            return cast(R, await super().result(timeout, poll_delay=poll_delay))
        return self._value_of(await self._await_result(listener, timeout, max(poll_delay, MIN_POLL_S)))

    async def _seen(self, *, payload: bool = False, result: bool = True) -> "JobSnapshot":
        """What is known of the job. If it is in another queue than the handle says, the handle takes that one."""
        snapshot = await self._store.peek(self.job_id, self._queue_name, payload=payload, result=result)
        if snapshot.result is None and snapshot.score is None:
            await self._found_elsewhere()
            # Also if no queue has it: it may have ended during the search.
            snapshot = await self._store.peek(self.job_id, self._queue_name, payload=payload, result=result)
        return snapshot

    async def _found_elsewhere(self) -> bool:
        """Search the job in other queues than the handle's, and take over the one that has it.

        :raises ArgumentsError: another queue has it, but there are too many keys to tell which
        """
        default = getattr(self._redis, "default_queue_name", default_queue_name)
        queue, complete = await queue_of_job(self._store, self.job_id, [self._queue_name, default])
        if queue is None and not complete:
            raise ArgumentsError(
                f"job {self.job_id}: expected a job of queue {self._queue_name}, it is elsewhere; "
                "give its queue to the handle: pool.job(id, queue=...)"
            )
        if queue in (None, self._queue_name):
            return False
        self._queue_name = queue
        return True

    async def _stored_result(self) -> bytes | None:
        """The result, or None while the job is in its queue."""
        snapshot = await self._seen()
        if snapshot.result is None and snapshot.score is None:
            raise ResultNotFound(
                "Not waiting for job result because the job is not in queue. "
                "Is the worker function configured to keep result?"
            )
        return snapshot.result

    async def _result_if_redis_answers(self) -> bytes | None:
        """As `_stored_result`, but None if Redis is away: the caller waits on, within its timeout."""
        try:
            return await self._stored_result()
        except RETRYABLE as error:
            logger.warning("waiting for job %s: Redis does not answer: %s", self.job_id, error)
            return None

    async def _await_result(self, listener: "Listener", timeout: float | None, poll_delay_s: float) -> bytes:
        begin_s, changed = asyncio.get_running_loop().time(), asyncio.Event()
        limit = asyncio.timeout(None if timeout is None else max(timeout, FIRST_LOOK_S))
        try:
            async with limit:
                data = await self._stored_result()
                if data is not None:
                    return data
                limit.reschedule(None if timeout is None else begin_s + timeout)
                with listener.listen(self._store.keys.done_prefix + self.job_id, lambda _: changed.set()):
                    while True:
                        try:
                            async with asyncio.timeout(poll_delay_s):
                                await changed.wait()
                        except TimeoutError:
                            pass
                        changed.clear()
                        data = await self._result_if_redis_answers()
                        if data is not None:
                            return data
        except TimeoutError:
            if not limit.expired():
                raise
            raise TimeoutError(f"job {self.job_id} has not ended within {timeout} s") from None

    def _value_of(self, data: bytes) -> R:
        info, remote_traceback = decode_result(self._serializer, data)
        if info.success:
            return cast(R, self._coerced(info.result))
        error = info.result
        if not isinstance(error, BaseException):
            raise SerializationError(error)
        try:
            if isinstance(error, asyncio.CancelledError):
                error.args = error.args or (f"job {self.job_id} was aborted",)
                fail_in_task_group(error)
            elif remote_traceback:
                raise error from RemoteTraceback(remote_traceback)
            raise error
        finally:
            del error, info  # break the reference cycle of the error's traceback and this frame

    def _coerced(self, value: Any) -> Any:
        if not self._serializer.plain:
            return value
        try:
            return coerce_value(self._result_type, value)
        except msgspec.ValidationError:
            return value  # the job returned something else than its annotation says

    async def info(self) -> JobDef | None:
        """All that is known of the job, and its result if it has ended. Does not wait.

        It is arq's `JobDef` or `JobResult`, with arq's fields alone. `errors()`, `progress()` and `log()` of this
        handle tell the rest.
        """
        if getattr(self._redis, "store", None) is None:
            return await super().info()
        snapshot = await self._seen(payload=True)
        info: JobDef
        if snapshot.result is not None:
            info = self._result_of(snapshot.result)
        elif snapshot.payload is not None:
            info = job_def(decode_payload(self._serializer, snapshot.payload), None, None)
        else:
            return None
        info.score = snapshot.score
        return info

    async def progress(self) -> Progress | None:
        """How far the job says it is (`ctx.progress(done, total, message)`); at most a second old, kept for a day.

        :returns: None if it did not say
        """
        return await read_progress(self._store, self.job_id)

    async def log(self, limit: int = LOG_LINES) -> list[LogLine]:
        """The last lines that the job logged (`ctx.log(text)`), the oldest first; kept for a day.

        :param limit: lines to return at most
        """
        return await read_log(self._store, self.job_id, limit)

    async def watch(self, *, poll_delay: float = WATCH_POLL_S) -> AsyncIterator[Progress]:
        """The job's progress, each time that it changes, until the job has ended.

        :param poll_delay: seconds between polls; the job's end is pushed
        """
        listener: Listener | None = getattr(self._redis, "listener", None)
        if listener is None:
            raise TypeError(f"expected a Job of an arqestra Pool for this, got one of {type(self._redis).__name__}")
        changed = asyncio.Event()
        seen: Progress | None = None
        with listener.listen(self._store.keys.done_prefix + self.job_id, lambda _: changed.set()):
            while True:
                ended, progress = await self._watched()
                if progress is not None and progress != seen:
                    seen = progress
                    yield progress
                if ended:
                    return
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(max(poll_delay, MIN_POLL_S)):
                        await changed.wait()
                changed.clear()

    async def _watched(self) -> tuple[bool, Progress | None]:
        """Whether the job has ended, and its progress; an outage of Redis does not end the watching."""
        try:
            ended = await self.status() in (JobStatus.complete, JobStatus.not_found)
            if ended:
                await asyncio.sleep(MIN_POLL_S)  # its last progress is written at the same time as its end
            return ended, await self.progress()
        except RETRYABLE as error:
            logger.warning("watching job %s: Redis does not answer: %s", self.job_id, error)
            return False, None

    async def result_info(self) -> JobResult | None:
        """The result with its times, if the job has ended. Does not wait, and does not raise what the job raised."""
        if getattr(self._redis, "store", None) is None:
            return await super().result_info()
        snapshot = await self._store.peek(self.job_id, self._queue_name)
        return None if snapshot.result is None else self._result_of(snapshot.result)

    async def errors(self) -> list[AttemptError]:
        """The errors of the job's failed attempts, the oldest first: the last 20, kept as long as job and result."""
        snapshot = await self._store.peek(self.job_id, self._queue_name, payload=True)
        return [decode_attempt_error(entry) for entry in snapshot.errors]

    def _result_of(self, data: bytes) -> JobResult:
        info, _ = decode_result(self._serializer, data)
        if info.success:
            info.result = self._coerced(info.result)
        return info

    async def status(self) -> JobStatus:
        """Status of the job: deferred, queued, in_progress, complete or not_found."""
        if getattr(self._redis, "store", None) is None:
            return await super().status()
        snapshot = await self._seen(result=False)
        if snapshot.result is not None:
            return JobStatus.complete
        if snapshot.in_progress:
            return JobStatus.in_progress
        if snapshot.score is None:
            return JobStatus.not_found
        return JobStatus.deferred if snapshot.score > snapshot.now_ms else JobStatus.queued

    async def abort(self, *, timeout: float | None = None, poll_delay: float = 0.5) -> bool:
        """Abort the job, queued, deferred or running, and wait for its end. Workers need `allow_abort_jobs=True`.

        The request is kept until a worker has recorded it, also after a timeout here.

        :param timeout: seconds to wait at most; None waits for ever
        :param poll_delay: seconds between polls, while no message comes
        :returns: True if it was aborted, False if it had completed, is unknown, or keeps no result
        :raises TimeoutError: it has not ended in time
        :raises BaseException: what the job raised, if it failed before it could be aborted, as in arq; and what
            `result()` raises where Redis does not answer or the result cannot be read
        """
        if getattr(self._redis, "store", None) is None:
            return await super().abort(timeout=timeout, poll_delay=poll_delay)
        asked = await self._store.abort(self.job_id, self._queue_name)
        if asked == "missing" and await self._found_elsewhere():
            await self._store.abort(self.job_id, self._queue_name)
        if asked == "aborted":
            return True  # a pending job of a flow: it will never run
        try:
            await self.result(timeout=timeout, poll_delay=poll_delay)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise  # we ourselves are being cancelled
            return True
        except ResultNotFound:
            return False
        return False

    async def retry(self) -> None:
        """Run a job once more that failed, expired, was aborted or is dead: under its id, from its first attempt on.

        Priority and headers stay. It has as long to start as it had when it was enqueued.

        :raises JobNotRetryable: it has not ended, it succeeded, or its result is not kept any more
        """
        snapshot = await self._seen()
        result = snapshot.result
        if result is None:
            result = await find_dead_result(self._store.redis, self._store.keys, self._queue_name, self.job_id)
        if result is None:
            raise JobNotRetryable(f"job {self.job_id}: expected a kept result of a failed job, found none")
        await self._requeue(result, snapshot.now_ms)

    async def retry_dead(self) -> bool:
        """Run the job once more if it is in the dead set of its queue; returns whether it was."""
        result = await find_dead_result(self._store.redis, self._store.keys, self._queue_name, self.job_id)
        if not result:
            return False
        try:
            await self._requeue(result, timestamp_ms())
        except (JobNotRetryable, DeserializationError):
            return False
        return True

    async def _requeue(self, result: bytes, now_ms: int) -> None:
        info, _ = decode_result(self._serializer, result)
        if info.success:
            raise JobNotRetryable(f"job {self.job_id}: expected a failed job, it completed; enqueue it anew instead")
        payload = retry_payload(self._serializer, result, now_ms)
        priority, data = payload.options.get("p", 0), encode_payload(self._serializer, payload)
        if info.queue_name != "<unknown>":  # the handle may not know which queue it was
            self._queue_name = info.queue_name
        done = await self._store.requeue(self.job_id, self._queue_name, result, data, priority)
        if done != "queued":
            raise JobNotRetryable(f"job {self.job_id}: it was changed by somebody else meanwhile ({done})")

    async def delete(self) -> bool:
        """Remove every trace of the job: queue entry, payload, result.

        :returns: whether there was anything
        :raises JobRunning: a worker has a lease on it
        :raises ArgumentsError: it is in another queue than this handle says
        """
        done = await self._store.delete(self.job_id, self._queue_name)
        if done == "running":
            raise JobRunning(f"job {self.job_id}: expected a job that no worker holds, it is running; abort it first")
        if done == "elsewhere":
            raise ArgumentsError(
                f"job {self.job_id}: expected a job of queue {self._queue_name}, it is in another one; "
                "give that to the handle: pool.job(id, queue=...)"
            )
        return done == "deleted"
