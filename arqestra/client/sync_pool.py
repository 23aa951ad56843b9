"""`SyncPool`: what a producer without asyncio enqueues with. A `Pool` in a thread of ours does the work."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, ParamSpec, Self, TypeVar

from arq.connections import RedisSettings as ArqRedisSettings
from arq.constants import default_queue_name as arq_queue_name
from arq.constants import expires_extra_ms as arq_expires_extra_ms
from arq.jobs import Deserializer
from arq.jobs import Serializer as ArqSerializer

from ..definitions.function import BoundJob, Call, JobFunction, Seconds
from ..definitions.middleware import Middleware
from ..definitions.signature import Canvas
from ..errors import ArgumentsError
from ..flow.handle import FlowHandle
from ..protocol.events import Event
from ..protocol.serializers import Serializer
from ..store.records import Duplicate
from .connect import create_pool, settings_of
from .enqueue import JobSpec, call_of, name_of_function, new_job
from .pool import FLOW_KEEP_S, MAX_PAYLOAD_BYTES, Pool
from .pool_options import check_pool_options
from .sync_connection import SyncConnection
from .sync_handles import SyncFlow, SyncHandle, SyncJob, SyncQueue, blocking, sync_job

if TYPE_CHECKING:
    from .sync_schedules import SyncSchedules

__all__ = ("SyncPool",)

P = ParamSpec("P")
R = TypeVar("R")


class SyncPool(SyncHandle[Pool]):
    """Enqueues jobs and flows from code without asyncio, and waits for results: each call blocks until it is done.

    It connects with its first call. All pools of a process share one event loop in a daemon thread, which starts with
    the first call of any of them. One pool serves all threads, and a process that is forked makes connections of its
    own. A call within a running event loop works as well, and holds that loop up as any blocking call does.

    Middleware and serializers run in that thread, in the context (`contextvars`) of the caller.

    The parameters are those of `create_pool`:

    :param settings_: `RedisSettings` (also for Sentinel) or a URL `redis://`, `rediss://` or `unix://`
    :param retry: tries to connect that count as made already
    :param job_serializer: arq's argument
    :param job_deserializer: arq's argument
    :param default_queue_name: queue where none is given
    :param expires_extra_ms: ms after it is due that a job without `_expires` may still start
    :param serializer: `"pickle"` (default), `"msgpack"` or `"json"`
    :param max_payload_bytes: size limit of one job's encoded arguments
    :param middleware: what surrounds each enqueue, the outermost first
    :param key_prefix: name of this application on a Redis that others use too
    :raises SettingsError: settings that are none. Whether Redis answers shows the first call, which raises what
        `create_pool` raises; the next call tries again
    """

    def __init__(
        self,
        settings_: ArqRedisSettings | str | None = None,
        *,
        retry: int = 0,
        job_serializer: ArqSerializer | None = None,
        job_deserializer: Deserializer | None = None,
        default_queue_name: str = arq_queue_name,
        expires_extra_ms: int = arq_expires_extra_ms,
        serializer: str | Serializer | None = None,
        max_payload_bytes: int = MAX_PAYLOAD_BYTES,
        middleware: Sequence[Middleware] = (),
        key_prefix: str | None = None,
    ) -> None:
        options: dict[str, Any] = {
            **{"retry": retry, "job_serializer": job_serializer, "job_deserializer": job_deserializer},
            **{"default_queue_name": default_queue_name, "expires_extra_ms": expires_extra_ms},
            **{"serializer": serializer, "max_payload_bytes": max_payload_bytes, "middleware": middleware},
            "key_prefix": key_prefix,
        }
        check_pool_options("SyncPool", options)
        connect = partial(create_pool, settings_of(settings_, "SyncPool"), **options)
        super().__init__(SyncConnection(connect), lambda pool: pool)

    def enqueue(
        self, function: JobFunction[P, R] | BoundJob[P, R], /, *args: P.args, **kwargs: P.kwargs
    ) -> SyncJob[R] | None:
        """Enqueue a call of a job function, with its own queue and typed arguments.

        :param function: made by `@job`, or its `.options(...)`
        :returns: the job, or None if a job of this id exists or another one holds its lock: see `Pool.enqueue`
        :raises ArgumentsError, SerializationError, PayloadTooLarge: as `Pool.enqueue`
        """
        if not isinstance(function, JobFunction | BoundJob):
            raise ArgumentsError(
                f"enqueue: expected a function made by @job, got {function!r}; use enqueue_job for a name"
            )
        return self._enqueue(function.bind(*args, **kwargs))

    def enqueue_job(
        self,
        function: str,
        *args: Any,
        _job_id: str | None = None,
        _queue_name: str | None = None,
        _defer_until: datetime | None = None,
        _defer_by: Seconds | None = None,
        _expires: Seconds | None = None,
        _job_try: int | None = None,
        _priority: int = 0,
        _headers: Mapping[str, str] | None = None,
        **kwargs: Any,
    ) -> SyncJob[Any] | None:
        """Enqueue a job by the name of its function. Parameters and errors are those of `Pool.enqueue_job`.

        :returns: the job, or None if a job of this id exists, or ended and its result is still kept
        """
        if _defer_until and _defer_by:
            raise RuntimeError("use either 'defer_until' or 'defer_by' or neither, not both")
        call: Call[Any] = Call(
            name_of_function(function),
            args,
            kwargs,
            _queue_name,
            _defer_by,
            defer_until=_defer_until,
            expires=_expires,
            job_id=_job_id,
            priority=_priority,
            headers=_headers,
        )
        return self._enqueue(call, _job_try)

    def _enqueue(self, call: Call[R], job_try: int | None = None) -> SyncJob[R] | None:
        opened = self._connection.open()
        if opened.pool.is_observed:
            job = self._connection.run(lambda pool: pool.enqueue_observed(call, job_try))
            return None if job is None else self._job(job.job_id, job._queue_name, call)
        new = new_job(opened.pool, call, job_try)  # here: whatever the arguments do, they do in the caller's thread
        verdict = opened.loop.run_future(partial(opened.put, call, new))
        if isinstance(verdict, Duplicate):
            return self._job(verdict.id, verdict.queue, call)
        return self._job(new.id, new.queue, call) if verdict else None

    def _job(self, job_id: str, queue: str, call: Call[R]) -> SyncJob[R]:
        return sync_job(self._connection, job_id, queue, call.result_type)

    def enqueue_many(self, specs: Iterable[JobSpec]) -> list[SyncJob[Any] | None]:
        """Enqueue many jobs, 1,000 a round trip.

        :param specs: bound calls (`function.bind(...)`), or tuples of a name or job function, arguments and keyword
            arguments
        :returns: for each the job, or None if a job of its id exists
        :raises ArgumentsError, SerializationError, PayloadTooLarge: nothing was enqueued then
        """
        calls = [call_of(spec) for spec in specs]
        pool = self._connection.open().pool
        if calls and pool.is_observed:
            jobs = self._connection.run(lambda pool: pool.enqueue_many_observed(calls))
        else:
            news = [new_job(pool, call) for call in calls]
            jobs = self._connection.run(lambda pool: pool.put_many(calls, news))
        return [
            None if job is None else self._job(job.job_id, job._queue_name, call)
            for job, call in zip(jobs, calls, strict=True)
        ]

    def enqueue_flow(
        self,
        canvas: Canvas[R],
        *,
        flow_id: str | None = None,
        name: str | None = None,
        keep_result: Seconds = FLOW_KEEP_S,
        defer_by: Seconds | None = None,
        defer_until: datetime | None = None,
    ) -> SyncFlow[R]:
        """Enqueue a signature, chain, group or chord. Parameters and errors are those of `Pool.enqueue_flow`.

        :returns: a handle on the flow
        """
        options: dict[str, Any] = {
            **{"flow_id": flow_id, "name": name, "keep_result": keep_result},
            **{"defer_by": defer_by, "defer_until": defer_until},
        }
        flow = self._connection.run(lambda pool: pool.enqueue_flow(canvas, **options))
        chosen, graph = flow.flow_id, flow._graph
        return SyncFlow(self._connection, chosen, lambda pool: FlowHandle(chosen, pool, graph))

    def job(self, job_id: str, *, queue: str | None = None) -> SyncJob[Any]:
        """A handle on a job by its id.

        :param queue: the queue that it was put in; default the pool's
        """
        return SyncJob(self._connection, job_id, lambda pool: pool.job(job_id, queue=queue))

    def flow(self, flow_id: str) -> SyncFlow[Any]:
        """A handle on a flow by its id."""
        return SyncFlow(self._connection, flow_id, lambda pool: pool.flow(flow_id))

    def queue(self, name: str | None = None) -> SyncQueue:
        """A handle on a queue: pause, resume, purge, its dead set.

        :param name: default the pool's queue
        """
        return SyncQueue(self._connection, lambda pool: pool.queue(name))

    @property
    def schedules(self) -> "SyncSchedules":
        """Define, pause, run and list schedules at run time."""
        from .sync_schedules import SyncSchedules  # few producers have schedules, and it takes its time to import

        return SyncSchedules(self._connection, lambda pool: pool.schedules)

    def events(self) -> Iterator[Event]:
        """What happens to jobs and workers from now on: see `Event`. It ends when the caller stops."""
        return self._connection.iterate(lambda pool: pool.events())

    signal = blocking(Pool.signal)
    queued_jobs = blocking(Pool.queued_jobs)
    all_job_results = blocking(Pool.all_job_results)
    workers = blocking(Pool.workers)
    statistics = blocking(Pool.statistics)
    totals = blocking(Pool.totals)
    used_queues = blocking(Pool.used_queues)
    recent = blocking(Pool.recent)
    export_workflow = blocking(Pool.export_workflow)
    export_workflows = blocking(Pool.export_workflows)

    def close(self) -> None:
        """Close the connections: waits for results end with an error, enqueues under way may end.

        The end of the process does it as well. A later call connects again.
        """
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
