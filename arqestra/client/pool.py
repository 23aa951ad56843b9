"""`Pool`: what a producer enqueues with. An `arq.connections.ArqRedis`, so a redis client as well."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from datetime import datetime
from typing import Any, ParamSpec, TypeVar

from arq.connections import ArqRedis
from arq.constants import default_queue_name as arq_queue_name
from arq.constants import expires_extra_ms as arq_expires_extra_ms
from arq.jobs import Deserializer
from arq.jobs import Serializer as ArqSerializer
from arq.utils import to_ms, to_unix_ms
from redis.asyncio import ConnectionPool

from ..definitions.durations import keep_ms
from ..definitions.function import BoundJob, Call, JobFunction, Seconds
from ..definitions.graph import Graph, graph_of
from ..definitions.middleware import EnqueuedCall, Middleware, enter_batch, enter_call
from ..definitions.options import check_options
from ..definitions.signature import Canvas
from ..drop_in.instrumentation import PLAIN_ENQUEUE, EnqueueArguments, Stored, enqueue_batch_through, enqueue_through
from ..errors import ArgumentsError
from ..flow.handle import FlowHandle
from ..flow.signals import send_signal
from ..flow.submit import start_flow
from ..handles.job import Job
from ..handles.queue import Queue
from ..protocol.clock import new_job_id, timestamp_ms
from ..protocol.keys import Keys, checked_queue_name
from ..protocol.serializers import Serializer, serializer_of
from ..scheduling.schedules import Schedules
from ..store.enqueue import EnqueueBatch
from ..store.link import close_sentinels
from ..store.listener import Listener
from ..store.records import Duplicate, EnqueueResult, NewJob
from ..store.store import Store
from .fleet_views import PoolViews
from .new_job import JobSpec, call_of, name_of_function, new_job
from .pool_options import check_pool_options

__all__ = ("MAX_PAYLOAD_BYTES", "JobSpec", "Pool")

logger = logging.getLogger("arq.connections")

FLOW_KEEP_S = 3600  # as arq keeps results
P = ParamSpec("P")
R = TypeVar("R")
MAX_PAYLOAD_BYTES = 16 * 1024 * 1024


class Pool(PoolViews):
    """A redis client that enqueues jobs. Takes arq's constructor arguments; see `create_pool` for ours.

    :param pool_or_conn: redis-py's connection pool
    :param job_serializer: arq's argument: a function from dict to bytes; default pickle
    :param job_deserializer: arq's argument: its inverse
    :param default_queue_name: queue where none is given
    :param expires_extra_ms: ms after it is due that a job without `_expires` may still start
    :param serializer: `"pickle"`, `"msgpack"` or `"json"`, in place of arq's two arguments
    :param max_payload_bytes: size limit of one job's encoded arguments
    :param middleware: what surrounds each enqueue, the outermost first
    :param key_prefix: of this application, see `create_pool`
    :param kwargs: passed to `redis.asyncio.Redis`
    """

    def __init__(
        self,
        pool_or_conn: ConnectionPool | None = None,
        job_serializer: ArqSerializer | None = None,
        job_deserializer: Deserializer | None = None,
        default_queue_name: str = arq_queue_name,
        expires_extra_ms: int = arq_expires_extra_ms,
        *,
        serializer: str | Serializer | None = None,
        max_payload_bytes: int = MAX_PAYLOAD_BYTES,
        middleware: Sequence[Middleware] = (),
        key_prefix: str | None = None,
        **kwargs: Any,
    ) -> None:
        check_pool_options(
            "Pool",
            {
                **{"job_serializer": job_serializer, "job_deserializer": job_deserializer, "serializer": serializer},
                **{"default_queue_name": default_queue_name, "expires_extra_ms": expires_extra_ms},
                **{"max_payload_bytes": max_payload_bytes, "middleware": middleware, "key_prefix": key_prefix},
            },
        )
        super().__init__(pool_or_conn, job_serializer, job_deserializer, default_queue_name, expires_extra_ms, **kwargs)
        self.use_serializer(serializer)
        self.max_payload_bytes = max_payload_bytes
        self.middleware = tuple(middleware)
        self.clock_offset_ms = 0  # Redis' clock less ours; `create_pool` measures it
        self.listener = Listener(self.connection_pool)
        self.use_key_prefix(key_prefix)

    def use_key_prefix(self, key_prefix: str | None) -> None:
        """Set what all keys and channels begin with, before the first call; None for arq's own keys.

        :raises SettingsError: the prefix is impossible, or the default queue's name begins with it already
        """
        self.store = Store(self, Keys.of(key_prefix), pulse=self.listener.pulse)
        self._batch = EnqueueBatch(self.store)
        checked_queue_name(self.default_queue_name, self.store.keys)

    @property
    def key_prefix(self) -> str | None:
        """What all keys and channels begin with; None where they are arq's."""
        return self.store.keys.key_prefix

    def use_serializer(self, serializer: str | Serializer | None) -> None:
        """Set how payloads and results are written; None for arq's `job_serializer` and `job_deserializer`."""
        self.serializer = serializer_of(serializer, self.job_serializer, self.job_deserializer)
        if serializer is not None:
            self.job_serializer = self.serializer.dumps
            self.job_deserializer = self.serializer.loads

    async def enqueue_job(
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
    ) -> Job[Any] | None:
        """Enqueue a job by the name of its function, as arq does. Calls within one tick of the loop share a round trip.

        :param function: name of the function
        :param args: its positional arguments, after ctx
        :param _job_id: id of the job, to make it unique; default a new one
        :param _queue_name: queue; default the pool's
        :param _defer_until: when to start it
        :param _defer_by: seconds (or timedelta) to wait before starting it
        :param _expires: seconds (or timedelta) from now; after that it is not started or retried any more, and ends as
            expired, with a result that says so. Default 24 hours after it is due
        :param _job_try: number of its first attempt
        :param _priority: from 0 to 9, the most urgent, within its queue
        :param _headers: text that travels with the job
        :param kwargs: keyword arguments of the function
        :returns: the job, or None if a job of this id exists, or ended and its result is still kept
        :raises ArgumentsError: the name is not a string, nor id and queue
        :raises SettingsError: an option has an impossible value
        :raises SerializationError: the arguments do not fit the serializer
        :raises PayloadTooLarge: the encoded arguments are over `max_payload_bytes`
        """
        if _defer_until and _defer_by:
            raise RuntimeError("use either 'defer_until' or 'defer_by' or neither, not both")
        name = function if isinstance(function, str) else name_of_function(function)
        call = Call(
            name,
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
        if self.middleware or ArqRedis.enqueue_job is not PLAIN_ENQUEUE:
            return await self._enqueue_observed(call, _job_try)
        new = new_job(self, call, _job_try)
        return self._handle(call, new, await self._stored(new))

    async def enqueue(
        self, function: JobFunction[P, R] | BoundJob[P, R], /, *args: P.args, **kwargs: P.kwargs
    ) -> Job[R] | None:
        """Enqueue a call of a job function, with its own queue and typed arguments.

        :param function: made by `@job`, or its `.options(...)`
        :returns: the job, or None if a job of this id exists or another one holds its lock; under `unique` with
            `on_conflict` "return" or "replace", and under `debounce`, the job that holds the lock
        :raises ArgumentsError: the arguments do not fit the function's signature
        :raises SerializationError, PayloadTooLarge: as `enqueue_job`
        """
        if not isinstance(function, JobFunction | BoundJob):
            raise ArgumentsError(
                f"enqueue: expected a function made by @job, got {function!r}; use enqueue_job for a name"
            )
        call = function.bind(*args, **kwargs)
        if self.middleware or ArqRedis.enqueue_job is not PLAIN_ENQUEUE:
            return await self._enqueue_observed(call)
        new = new_job(self, call)
        return self._handle(call, new, await self._stored(new))

    async def _stored(self, new: NewJob) -> EnqueueResult:
        if self.store.enqueued.stranded:
            await self.store.enqueued.write_stranded()
        return await self._batch.add(new)

    async def _enqueue_observed(self, call: Call[R], job_try: int | None = None) -> Job[R] | None:
        """Enqueue within the middleware, and within the wrappers that tools put around arq's `enqueue_job`."""
        if ArqRedis.enqueue_job is PLAIN_ENQUEUE:
            return await self._enqueue_within_middleware(call, job_try)

        async def enqueue(stored: Stored) -> Job[R] | None:
            return await self._enqueue_within_middleware(call._replace(**stored._asdict()), job_try)

        return await enqueue_through(self, _arguments_of(call), enqueue)

    async def _enqueue_many_observed(self, calls: list[Call[Any]]) -> list[Job[Any] | None]:
        if ArqRedis.enqueue_job is PLAIN_ENQUEUE:
            return await self._enqueue_many_within_middleware(calls)
        ids = [call.job_id or new_job_id() for call in calls]

        async def enqueue(stored: list[Stored]) -> list[Job[Any] | None]:
            changed = [call._replace(**each._asdict()) for call, each in zip(calls, stored, strict=True)]
            return await self._enqueue_many_within_middleware(changed, ids)

        queue = self.default_queue_name
        given = [
            _arguments_of(call)._replace(job_id=job_id, queue=call.queue or queue)
            for call, job_id in zip(calls, ids, strict=True)
        ]
        return await enqueue_batch_through(self, given, enqueue)

    async def _enqueue_within_middleware(self, call: Call[R], job_try: int | None = None) -> Job[R] | None:
        seen = self._as_seen(call)
        async with AsyncExitStack() as stack:
            await enter_call(stack, self.middleware, seen)
            new = new_job(self, call._replace(headers=seen.headers), job_try)
            handle = self._handle(call, new, await self._stored(new))
            seen.job_id = None if handle is None else handle.job_id
            return handle
        raise AssertionError("a middleware swallowed the exception of an enqueue")

    async def _enqueue_many_within_middleware(
        self, calls: list[Call[Any]], ids: Sequence[str] = ()
    ) -> list[Job[Any] | None]:
        seen = [self._as_seen(call) for call in calls]
        async with AsyncExitStack() as stack:
            await enter_batch(stack, self.middleware, seen)
            handles = await self._enqueue_all(
                [call._replace(headers=each.headers) for call, each in zip(calls, seen, strict=True)], ids
            )
            for each, handle in zip(seen, handles, strict=True):
                each.job_id = None if handle is None else handle.job_id
            return handles
        raise AssertionError("a middleware swallowed the exception of an enqueue")

    def _as_seen(self, call: Call[Any]) -> EnqueuedCall:
        """The call as middleware sees it."""
        queue = call.queue or self.default_queue_name
        return EnqueuedCall(
            call.name, call.args, call.kwargs, queue=queue, headers=dict(call.headers or {}), job_id=call.job_id
        )

    async def _enqueue_all(self, calls: list[Call[Any]], ids: Sequence[str] = ()) -> list[Job[Any] | None]:
        """:param ids: of the new jobs, if wrappers have seen them already"""
        news = [new_job(self, call) for call in calls]
        if ids:
            news = [new._replace(id=job_id) for new, job_id in zip(news, ids, strict=True)]
        if self.store.enqueued.stranded:
            await self.store.enqueued.write_stranded()
        accepted = await self.store.enqueue(news)
        return [self._handle(call, new, ok) for call, new, ok in zip(calls, news, accepted, strict=True)]

    async def enqueue_many(self, specs: Iterable[JobSpec]) -> list[Job[Any] | None]:
        """Enqueue many jobs, 1,000 a round trip.

        :param specs: bound calls (`function.bind(...)`), or tuples of a name or job function, arguments and keyword
            arguments
        :returns: for each the job, or None if a job of its id exists
        :raises ArgumentsError, SerializationError, PayloadTooLarge: nothing was enqueued then
        """
        calls = [call_of(spec) for spec in specs]
        if calls and (self.middleware or ArqRedis.enqueue_job is not PLAIN_ENQUEUE):
            return await self._enqueue_many_observed(calls)
        return await self._enqueue_all(calls)

    async def enqueue_flow(
        self,
        canvas: Canvas[R],
        *,
        flow_id: str | None = None,
        name: str | None = None,
        keep_result: Seconds = FLOW_KEEP_S,
        defer_by: Seconds | None = None,
        defer_until: datetime | None = None,
    ) -> FlowHandle[R]:
        """Enqueue a signature, chain, group or chord. Nothing of it starts before the whole of it is stored.

        :param canvas: `f.s(1) | g.s()`, `group(...)`, `chord(...)`, nested as you like
        :param flow_id: its id; default a new one
        :param name: for people; default the name of its last function
        :param keep_result: seconds that the flow and its jobs' results are kept after its end, a century at most
        :param defer_by: seconds (or timedelta) from now before which none of it starts; delays of its first jobs
            (`.set(defer_by=)`) come on top
        :param defer_until: time before which none of it starts
        :returns: a handle on the flow
        :raises FlowExists: a flow of this id exists, or a job of an id that was chosen
        :raises GraphError, ArgumentsError, SerializationError, PayloadTooLarge: nothing was stored then
        :raises SettingsError: both defer_by and defer_until, or an impossible value
        """
        if not isinstance(canvas, Canvas):
            raise ArgumentsError(f"enqueue_flow: expected a signature, chain or group, got {canvas!r}")
        check_options(
            "enqueue_flow",
            {
                **{"flow_id": flow_id, "name": name, "keep_result": keep_result},
                **{"defer_by": defer_by, "defer_until": defer_until},
            },
        )
        start_ms = None if defer_until is None else to_unix_ms(defer_until)
        if defer_by:
            start_ms = timestamp_ms() + round(self.clock_offset_ms) + to_ms(defer_by)
        graph = graph_of(canvas)
        chosen = flow_id or new_job_id()
        kept_ms = max(1000, keep_ms(keep_result))
        await start_flow(self, graph, chosen, name=name or _flow_name(graph), keep_ms=kept_ms, start_ms=start_ms)
        return FlowHandle(chosen, self, graph)

    def flow(self, flow_id: str) -> FlowHandle[Any]:
        """A handle on a flow by its id."""
        return FlowHandle(flow_id, self)

    async def signal(
        self, flow_id: str, event: str, value: Any = None, *, queue: str | None = None, key: str | None = None
    ) -> bool:
        """Send an event to a workflow. Its `flow.wait_for(event)` receives it, also if it waits only later.

        A job that has not begun counts as a workflow if the function itself was enqueued, or if a worker that has a
        workflow of its function's name was started in the last 30 days.

        :param flow_id: the workflow's job id
        :param event: name of the event
        :param value: what it carries
        :param queue: the queue that the workflow was put in; default the pool's, else where it is
        :param key: events with the same key count once, whoever sends them: for 30 days, and among the newest 10,000
            keys of the workflow
        :returns: False if there is no such workflow, or it has ended; nothing was sent then
        :raises SerializationError: the value does not fit the serializer
        """
        return await send_signal(self, flow_id, event, value=value, key=key, queue=queue)

    def job(self, job_id: str, *, queue: str | None = None) -> Job[Any]:
        """A handle on a job by its id.

        :param queue: the queue that it was put in; default the pool's
        """
        return Job(job_id, self, checked_queue_name(queue or self.default_queue_name, self.store.keys))

    def queue(self, name: str | None = None) -> Queue:
        """A handle on a queue: pause, resume, purge, its dead set.

        :param name: default the pool's queue
        """
        return Queue(checked_queue_name(name or self.default_queue_name, self.store.keys), self)

    @property
    def schedules(self) -> Schedules:
        """Define, pause, run and list schedules at run time."""
        return Schedules(self)

    def _handle(self, call: Call[R], new: NewJob, verdict: EnqueueResult) -> Job[R] | None:
        if not verdict:
            return None
        if isinstance(verdict, Duplicate):
            return Job(verdict.id, self, verdict.queue, _result_type=call.result_type)
        self.store.enqueued.add(new.queue, call.name)
        return Job(new.id, self, new.queue, _result_type=call.result_type)

    async def close(self, close_connection_pool: bool | None = None) -> None:
        """Close the connections."""
        await self.aclose(close_connection_pool)

    async def aclose(self, close_connection_pool: bool | None = None) -> None:
        """Close the connections."""
        await self.listener.close()
        await self.store.close()
        await super().aclose(close_connection_pool)
        await close_sentinels(self.connection_pool)


def _arguments_of(call: Call[Any]) -> EnqueueArguments:
    """The call as wrappers around arq's `enqueue_job` see it."""
    options = {
        **{"_job_id": call.job_id, "_queue_name": call.queue, "_expires": call.expires},
        **{"_defer_until": call.defer_until, "_defer_by": call.defer_by},
    }
    given = {name: value for name, value in options.items() if value is not None}
    return EnqueueArguments(call.name, call.args, call.kwargs, given)


def _flow_name(graph: Graph) -> str:
    named = [node.call.name for node in graph.jobs if node.call is not None and not node.is_callback]
    return named[-1] if named else "empty"
