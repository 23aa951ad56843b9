"""`Pool`: what a producer enqueues with. An `arq.connections.ArqRedis`, so a redis client as well."""

import asyncio
import logging
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from datetime import datetime
from operator import attrgetter
from typing import Any, ParamSpec, TypeVar

from arq.connections import ArqRedis
from arq.constants import default_queue_name as arq_queue_name
from arq.constants import expires_extra_ms as arq_expires_extra_ms
from arq.jobs import DeserializationError, Deserializer, JobDef, JobResult
from arq.jobs import Serializer as ArqSerializer
from arq.utils import to_ms, to_unix_ms
from arq.worker import Function
from redis.asyncio import ConnectionPool
from redis.exceptions import ResponseError

from .clock import timestamp_ms
from .control import JobControl
from .durations import keep_ms
from .errors import ArgumentsError, PayloadTooLarge
from .flow.handle import FlowHandle
from .flow.sending import WORKFLOW, send_signal
from .flow.submit import start_flow
from .function import BoundJob, Call, JobFunction, Seconds
from .graph import Graph, graph_of
from .identity import new_job_id
from .instrumentation import PLAIN_ENQUEUE, EnqueueArguments, Stored, enqueue_batch_through, enqueue_through
from .job import Job
from .keys import Keys, checked_queue_name
from .middleware import EnqueuedCall, Middleware, checked_headers, enter_batch, enter_call
from .options import check_enqueue, check_options, is_text
from .pool_views import PoolViews
from .queue import Queue
from .scheduling.schedules import Schedules
from .serializers import Serializer, serializer_of
from .signature import Canvas
from .store.batch import EnqueueBatch
from .store.codec import encode_extra
from .store.link import close_sentinels
from .store.listener import Listener
from .store.records import NewJob, StandIn, Verdict
from .store.store import Store
from .wire import Payload, decode_payload, encode_payload, job_def

__all__ = ("MAX_PAYLOAD_BYTES", "JobSpec", "Pool")

logger = logging.getLogger("arq.connections")

FLOW_KEEP_S = 3600  # as arq keeps results
P = ParamSpec("P")
R = TypeVar("R")
MAX_PAYLOAD_BYTES = 16 * 1024 * 1024

# What `enqueue_many` takes for one job: a bound call, or a name or function with its arguments.
JobSpec = (
    Call[Any]
    | tuple[str | Function | BoundJob[..., Any]]
    | tuple[str | Function | BoundJob[..., Any], Sequence[Any]]
    | tuple[str | Function | BoundJob[..., Any], Sequence[Any], Mapping[str, Any]]
)


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
        check_options(
            "Pool",
            {
                **{"default_queue_name": default_queue_name, "expires_extra_ms": expires_extra_ms},
                **{"max_payload_bytes": max_payload_bytes, "middleware": middleware},
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

        :raises SettingsError: it is none, or the default queue's name has it already
        """
        self.store = Store(self, Keys.of(key_prefix))
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
        :param _expires: seconds (or timedelta) from now after which it is not started or retried any more; default
            24 hours after it is due. It then ends as expired, with a result that says so
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
        name = function if isinstance(function, str) else _name_of(function)
        call = Call(
            name, args, kwargs, _queue_name, _defer_by, _defer_until, _expires, _job_id, Any, _priority, _headers
        )
        if self.middleware or ArqRedis.enqueue_job is not PLAIN_ENQUEUE:
            return await self._enqueue_observed(call, _job_try)
        new = self._new_job(call, _job_try)
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
        new = self._new_job(call)
        return self._handle(call, new, await self._stored(new))

    async def _stored(self, new: NewJob) -> Verdict:
        if self.store.enqueued.stranded:
            await self.store.enqueued.write_stranded()
        return await self._batch.add(new)

    async def _enqueue_observed(self, call: Call[R], job_try: int | None = None) -> Job[R] | None:
        """Within the middleware, and what others have put around arq's `enqueue_job`."""
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
            new = self._new_job(call._replace(headers=seen.headers), job_try)
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
        return EnqueuedCall(call.name, call.args, call.kwargs, queue, dict(call.headers or {}), call.job_id)

    async def _enqueue_all(self, calls: list[Call[Any]], ids: Sequence[str] = ()) -> list[Job[Any] | None]:
        """:param ids: of the new jobs, where they have been told to somebody already"""
        news = [self._new_job(call) for call in calls]
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
        calls = [_call_of(spec) for spec in specs]
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
        """Send an event to a workflow; its `flow.wait_for(event)` receives it, also if it comes to that only later.

        A job that has not begun is known as a workflow by `enqueue` of the function itself, or by its function's name,
        if a worker that has it was started in the last 30 days.

        :param flow_id: the workflow's job id
        :param event: name of the event
        :param value: what it carries
        :param queue: the queue that the workflow was put in; default the pool's, else where it is
        :param key: an event that is sent again with the same key counts once, whoever sends it: for 30 days, and among
            the newest 10,000 keys of the workflow
        :returns: False if there is no such workflow, or it has ended; nothing was sent then
        :raises SerializationError: the value does not fit the serializer
        """
        return await send_signal(self, flow_id, queue or self.default_queue_name, event, value, key)

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
        """What is done with schedules at run time: define, pause, run, list them."""
        return Schedules(self)

    def _handle(self, call: Call[R], new: NewJob, verdict: Verdict) -> Job[R] | None:
        if not verdict:
            return None
        if isinstance(verdict, StandIn):
            return Job(verdict.id, self, verdict.queue, _result_type=call.result_type)
        self.store.enqueued.add(new.queue, call.name)
        return Job(new.id, self, new.queue, _result_type=call.result_type)

    def _new_job(self, call: Call[Any], job_try: int | None = None) -> NewJob:
        """A job ready to be stored; arq's rules for due time and expiry."""
        deferred = call.defer_by is not None or call.defer_until is not None
        if deferred or call.expires is not None or call.priority or job_try is not None:
            check_enqueue(call.defer_by, call.defer_until, call.expires, call.priority, job_try)
        now_ms = timestamp_ms()
        redis_now_ms = now_ms + self.clock_offset_ms
        control = call.control
        if control is not None and control.debounce is not None and call.defer_until is None and not call.defer_by:
            call, deferred = call._replace(defer_by=control.debounce.quiet_s), True
        when, due_in_ms = _when(call, redis_now_ms) if deferred else ("", 0)
        nonce = ""
        expires_ms = (to_ms(call.expires) if call.expires else 0) or max(0, due_in_ms) + self.expires_extra_ms
        options: dict[str, Any] = {"x": redis_now_ms + expires_ms}
        if call.job_id:
            if not is_text(call.job_id):
                raise ArgumentsError(f"job id: expected a str that UTF-8 can write, got {call.job_id!r}")
            options["n"] = nonce = new_job_id()  # tells a call that is sent again from another producer's
        if call.headers:
            options["h"] = checked_headers(call.headers)
        if call.priority:
            options["p"] = call.priority
        if call.workflow:
            options[WORKFLOW] = 1
        kwargs = dict(call.kwargs)
        if call.added:
            kwargs.update(call.added)
            options["w"] = list(call.added)
        payload = Payload(call.name, tuple(call.args), kwargs, job_try, now_ms, options)
        data = encode_payload(self.serializer, payload)
        if len(data) > self.max_payload_bytes:
            raise PayloadTooLarge(
                f'job "{call.name}": expected at most {self.max_payload_bytes} bytes of encoded arguments '
                f"(max_payload_bytes), got {len(data)}; store the data elsewhere and pass a reference to it"
            )
        queue = call.queue or self.default_queue_name
        if call.queue and not is_text(queue):
            raise ArgumentsError(f"queue name: expected a str that UTF-8 can write, got {queue!r}")
        checked_queue_name(queue, self.store.keys)
        attempts = max(0, (job_try or 1) - 1)
        extra = _extra_of(call, control) if call.priority or control is not None else b""
        return NewJob(queue, call.job_id or new_job_id(), data, when, nonce, attempts, extra)

    async def _get_job_result(self, key: bytes) -> JobResult:
        job_id = key[len(self.store.keys.result_prefix) :].decode()
        info = await Job(job_id, self).result_info()
        if info is None:
            raise KeyError(f'job "{key.decode()}" not found')
        info.job_id = job_id
        return info

    async def all_job_results(self) -> list[JobResult]:
        """The kept results of all jobs, by time of enqueue. What cannot be read is passed over, and the log says so."""
        keys = [key async for key in self.store.redis.scan_iter(match=self.store.keys.result_prefix + "*", count=1000)]
        found = await asyncio.gather(*(self._get_job_result(key) for key in keys), return_exceptions=True)
        results = []
        for key, result in zip(keys, found, strict=True):
            if isinstance(result, DeserializationError | ResponseError | UnicodeDecodeError):
                logger.warning("all_job_results: %r is passed over: %s", key, result)
            elif isinstance(result, BaseException) and not isinstance(result, KeyError):
                raise result
            elif isinstance(result, JobResult):
                results.append(result)
        return sorted(results, key=attrgetter("enqueue_time"))

    async def _get_job_def(self, job_id: bytes, score: int) -> JobDef:
        key = self.store.keys.job(job_id.decode())
        data = await self.store.redis.get(key)
        if data is None:
            raise RuntimeError(f'job "{key}" not found')
        return job_def(decode_payload(self.serializer, data), job_id.decode(), score)

    async def close(self, close_connection_pool: bool | None = None) -> None:
        """Close the connections."""
        await self.aclose(close_connection_pool)

    async def aclose(self, close_connection_pool: bool | None = None) -> None:
        """Close the connections."""
        await self.listener.close()
        await self.store.close()
        await super().aclose(close_connection_pool)
        await close_sentinels(self.connection_pool)


def _when(call: Call[Any], redis_now_ms: int) -> tuple[str, int]:
    """When a deferred job is due, as `enqueue.lua` reads it, and in how many ms that is."""
    if call.defer_until is not None:
        due_ms = to_unix_ms(call.defer_until)
        return f"={due_ms}", due_ms - redis_now_ms
    if not call.defer_by:
        return "", 0
    due_in_ms = max(-redis_now_ms // 2, to_ms(call.defer_by))  # arq takes times past; none is before 1970
    return f"+{due_in_ms}", due_in_ms


def _extra_of(call: Call[Any], control: JobControl | None) -> bytes:
    """Priority, limits and lock of a job, as `enqueue.lua` reads them; b"" for a job without any."""
    priority = call.priority
    entries = control.limits(call.name, call.args, call.kwargs) if control is not None else []
    lock = control.lock(call.name, call.args, call.kwargs) if control is not None else None
    if lock is not None and lock.until:
        entries.append(("u", lock.name, lock.until))
    if not (priority or entries or lock):
        return b""
    return encode_extra(priority, lock, entries)


def _arguments_of(call: Call[Any]) -> EnqueueArguments:
    """The call as what others put around arq's `enqueue_job` sees it."""
    options = {
        **{"_job_id": call.job_id, "_queue_name": call.queue, "_expires": call.expires},
        **{"_defer_until": call.defer_until, "_defer_by": call.defer_by},
    }
    given = {name: value for name, value in options.items() if value is not None}
    return EnqueueArguments(call.name, call.args, call.kwargs, given)


def _flow_name(graph: Graph) -> str:
    named = [node.call.name for node in graph.jobs if node.call is not None and not node.is_callback]
    return named[-1] if named else "empty"


def _name_of(function: Any) -> str:
    if isinstance(function, str):
        return function
    if isinstance(function, Function):
        return function.name
    raise ArgumentsError(f"expected the name of a job function (str), got {function!r}")


def _types_of(spec: Any) -> str:
    """What an impossible spec is, without its values: they may be secret."""
    if isinstance(spec, tuple):
        return f"({', '.join(type(part).__name__ for part in spec)})"
    return type(spec).__name__


def _call_of(spec: Any) -> Call[Any]:
    if isinstance(spec, Call):
        return spec
    if not (isinstance(spec, tuple) and 1 <= len(spec) <= 3):
        raise ArgumentsError(
            f"enqueue_many: expected function.bind(...) or a tuple (function, args, kwargs), got {_types_of(spec)}"
        )
    target, args, kwargs = (*spec, (), {})[:3] if len(spec) == 1 else (*spec, {})[:3]
    # Asked first, for it is nearly always so: `isinstance` of an abstract class costs as much as all else here.
    plain = type(args) in (tuple, list) and type(kwargs) is dict
    if not plain and (isinstance(args, str | bytes | Mapping) or not isinstance(kwargs, Mapping)):
        raise ArgumentsError(
            f"enqueue_many: expected (function, list of arguments, dict of keywords), got {_types_of(spec)}"
        )
    if isinstance(target, JobFunction | BoundJob):
        return target.bind(*args, **kwargs)
    return Call(_name_of(target), args, kwargs)
