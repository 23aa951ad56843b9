"""How a `Pool` enqueues jobs: from the arguments of a call to a `NewJob` that is stored.

`enqueue_job` and its siblings make a `Call`; `new_job` makes a `NewJob` of it: its due time, its deadline, its payload,
its limits and its lock. `store/enqueue.py` sends it. The observed way is slower; it is taken where middleware, or a
wrapper of arq's `enqueue_job`, is to see the call.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from datetime import datetime
from typing import Any, ParamSpec, TypeVar

from arq.connections import ArqRedis
from arq.utils import to_ms, to_unix_ms
from arq.worker import Function

from ..definitions.function import BoundJob, Call, JobFunction, Seconds
from ..definitions.job_options import JobOptions
from ..definitions.middleware import EnqueuedCall, Middleware, checked_headers, enter_batch, enter_call
from ..definitions.options import check_enqueue
from ..definitions.rules import is_text
from ..drop_in.instrumentation import PLAIN_ENQUEUE, EnqueueArguments, Stored, enqueue_batch_through, enqueue_through
from ..errors import ArgumentsError, PayloadTooLarge
from ..flow.signals import WORKFLOW
from ..handles.job import Job
from ..protocol.clock import new_job_id, timestamp_ms
from ..protocol.keys import checked_queue_name
from ..protocol.wire import Payload, encode_payload
from ..store.codec import encode_extra
from ..store.enqueue import EnqueueBatch
from ..store.records import Duplicate, EnqueueResult, NewJob
from .fleet_views import PoolViews

__all__ = ("EnqueuingPool", "JobSpec", "new_job")

P = ParamSpec("P")
R = TypeVar("R")

# What `enqueue_many` takes for one job: a bound call, or a name or function with its arguments.
JobSpec = (
    Call[Any]
    | tuple[str | Function | BoundJob[..., Any]]
    | tuple[str | Function | BoundJob[..., Any], Sequence[Any]]
    | tuple[str | Function | BoundJob[..., Any], Sequence[Any], Mapping[str, Any]]
)


class EnqueuingPool(PoolViews):
    """The part of a `Pool` that enqueues jobs. The attributes say how they are stored."""

    middleware: tuple[Middleware, ...]
    max_payload_bytes: int
    expires_extra_ms: int
    clock_offset_ms: int
    _batch: EnqueueBatch

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
        if self.is_observed:
            return await self.enqueue_observed(call, _job_try)
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
        if self.is_observed:
            return await self.enqueue_observed(call)
        new = new_job(self, call)
        return self._handle(call, new, await self._stored(new))

    async def enqueue_many(self, specs: Iterable[JobSpec]) -> list[Job[Any] | None]:
        """Enqueue many jobs, 1,000 a round trip.

        :param specs: bound calls (`function.bind(...)`), or tuples of a name or job function, arguments and keyword
            arguments
        :returns: for each the job, or None if a job of its id exists
        :raises ArgumentsError, SerializationError, PayloadTooLarge: nothing was enqueued then
        """
        calls = [call_of(spec) for spec in specs]
        if calls and self.is_observed:
            return await self.enqueue_many_observed(calls)
        return await self._enqueue_all(calls)

    async def _enqueue_all(self, calls: list[Call[Any]], ids: Sequence[str] = ()) -> list[Job[Any] | None]:
        """:param ids: of the new jobs, if wrappers have seen them already"""
        news = [new_job(self, call) for call in calls]
        if ids:
            news = [new._replace(id=job_id) for new, job_id in zip(news, ids, strict=True)]
        return await self.put_many(calls, news)

    async def put_many(self, calls: list[Call[Any]], news: list[NewJob]) -> list[Job[Any] | None]:
        """Enqueue jobs that are encoded already."""
        if self.store.enqueued.stranded:
            await self.store.enqueued.write_stranded()
        accepted = await self.store.enqueue(news)
        return [self._handle(call, new, ok) for call, new, ok in zip(calls, news, accepted, strict=True)]

    def put(self, new: NewJob) -> asyncio.Future[EnqueueResult]:
        """Enqueue a job that is encoded already, with those of the same tick. It is not counted."""
        return self._batch.add(new)

    async def _stored(self, new: NewJob) -> EnqueueResult:
        """Store a job, with those of the same tick."""
        if self.store.enqueued.stranded:
            await self.store.enqueued.write_stranded()
        return await self._batch.add(new)

    def _handle(self, call: Call[R], new: NewJob, verdict: EnqueueResult) -> Job[R] | None:
        """What the caller gets."""
        if not verdict:
            return None
        if isinstance(verdict, Duplicate):
            return Job(verdict.id, self, verdict.queue, _result_type=call.result_type)
        self.store.enqueued.add(new.queue, call.name)
        return Job(new.id, self, new.queue, _result_type=call.result_type)

    # -- where somebody is to see the call ------------------------------------------------------------------------

    @property
    def is_observed(self) -> bool:
        """Whether middleware, or a wrapper of arq's `enqueue_job`, is to see the calls."""
        return bool(self.middleware) or ArqRedis.enqueue_job is not PLAIN_ENQUEUE

    async def enqueue_observed(self, call: Call[R], job_try: int | None = None) -> Job[R] | None:
        """Enqueue within the middleware, and within the wrappers that tools put around arq's `enqueue_job`."""
        if ArqRedis.enqueue_job is PLAIN_ENQUEUE:
            return await self._enqueue_within_middleware(call, job_try)

        async def enqueue(stored: Stored) -> Job[R] | None:
            return await self._enqueue_within_middleware(call._replace(**stored._asdict()), job_try)

        return await enqueue_through(self, _arguments_of(call), enqueue)

    async def enqueue_many_observed(self, calls: list[Call[Any]]) -> list[Job[Any] | None]:
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


def _arguments_of(call: Call[Any]) -> EnqueueArguments:
    """The call as wrappers around arq's `enqueue_job` see it."""
    options = {
        **{"_job_id": call.job_id, "_queue_name": call.queue, "_expires": call.expires},
        **{"_defer_until": call.defer_until, "_defer_by": call.defer_by},
    }
    given = {name: value for name, value in options.items() if value is not None}
    return EnqueueArguments(call.name, call.args, call.kwargs, given)


# -- from what `enqueue_many` takes to a call -------------------------------------------------------------------------


def name_of_function(function: Any) -> str:
    """The name by which a function is enqueued.

    :raises ArgumentsError: it is neither a name nor a function of arq's or ours
    """
    if isinstance(function, str):
        return function
    if isinstance(function, Function):
        return function.name
    raise ArgumentsError(f"expected the name of a job function (str), got {function!r}")


def _types_of(spec: Any) -> str:
    """The types of an impossible entry, without its values: they may be secret."""
    if isinstance(spec, tuple):
        return f"({', '.join(type(part).__name__ for part in spec)})"
    return type(spec).__name__


def call_of(spec: Any) -> Call[Any]:
    """The call of one entry of `enqueue_many`.

    :raises ArgumentsError: it is neither a bound call nor such a tuple
    """
    if isinstance(spec, Call):
        return spec
    if not (isinstance(spec, tuple) and 1 <= len(spec) <= 3):
        raise ArgumentsError(
            f"enqueue_many: expected function.bind(...) or a tuple (function, args, kwargs), got {_types_of(spec)}"
        )
    target, args, kwargs = (*spec, (), {})[:3] if len(spec) == 1 else (*spec, {})[:3]
    # The usual types first: `isinstance` with an abstract class costs as much as all the rest here.
    plain = type(args) in (tuple, list) and type(kwargs) is dict
    if not plain and (isinstance(args, str | bytes | Mapping) or not isinstance(kwargs, Mapping)):
        raise ArgumentsError(
            f"enqueue_many: expected (function, list of arguments, dict of keywords), got {_types_of(spec)}"
        )
    if isinstance(target, JobFunction | BoundJob):
        return target.bind(*args, **kwargs)
    return Call(name_of_function(target), args, kwargs)


# -- from a call to a job that is stored ------------------------------------------------------------------------------


def new_job(pool: EnqueuingPool, call: Call[Any], job_try: int | None = None) -> NewJob:
    """Make a job that can be stored, by arq's rules for due time and expiry.

    :param job_try: arq's `_job_try`: number of its first attempt
    :raises ArgumentsError, SettingsError, SerializationError, PayloadTooLarge: as `Pool.enqueue_job`
    """
    deferred = call.defer_by is not None or call.defer_until is not None
    if deferred or call.expires is not None or call.priority or job_try is not None:
        check_enqueue(call.defer_by, call.defer_until, call.expires, call.priority, job_try)
    now_ms = timestamp_ms()
    redis_now_ms = now_ms + pool.clock_offset_ms
    job_options = call.job_options
    if job_options is not None and job_options.debounce is not None and call.defer_until is None and not call.defer_by:
        call, deferred = call._replace(defer_by=job_options.debounce.quiet_s), True
    when, due_in_ms = _when(call, redis_now_ms) if deferred else ("", 0)
    nonce = ""
    expires_ms = (to_ms(call.expires) if call.expires else 0) or max(0, due_in_ms) + pool.expires_extra_ms
    options: dict[str, Any] = {"x": redis_now_ms + expires_ms}
    if call.job_id:
        if not is_text(call.job_id):
            raise ArgumentsError(f"job id: expected a str that UTF-8 can write, got {call.job_id!r}")
        options["n"] = nonce = new_job_id()  # by it a repeated call knows its own job
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
    # No keywords here and below: they would double the time of these calls, and each job comes by here.
    payload = Payload(call.name, tuple(call.args), kwargs, job_try, now_ms, options)
    data = encode_payload(pool.serializer, payload)
    if len(data) > pool.max_payload_bytes:
        raise PayloadTooLarge(
            f'job "{call.name}": expected at most {pool.max_payload_bytes} bytes of encoded arguments '
            f"(max_payload_bytes), got {len(data)}; store the data elsewhere and pass a reference to it"
        )
    queue = call.queue or pool.default_queue_name
    if call.queue:  # the pool has checked its own
        if not is_text(queue):
            raise ArgumentsError(f"queue name: expected a str that UTF-8 can write, got {queue!r}")
        checked_queue_name(queue, pool.store.keys)
    attempts = max(0, (job_try or 1) - 1)
    extra = _extra_of(call, job_options) if call.priority or job_options is not None else b""
    return NewJob(queue, call.job_id or new_job_id(), data, when, nonce, attempts, extra)


def _when(call: Call[Any], redis_now_ms: int) -> tuple[str, int]:
    """When a deferred job is due, as `enqueue.lua` reads it, and in how many ms that is."""
    if call.defer_until is not None:
        due_ms = to_unix_ms(call.defer_until)
        return f"={due_ms}", due_ms - redis_now_ms
    if not call.defer_by:
        return "", 0
    due_in_ms = max(-redis_now_ms // 2, to_ms(call.defer_by))  # as in arq, it may be in the past, but not before 1970
    return f"+{due_in_ms}", due_in_ms


def _extra_of(call: Call[Any], job_options: JobOptions | None) -> bytes:
    """Priority, limits and lock of a job, as `enqueue.lua` reads them; b"" for a job without any."""
    priority = call.priority
    entries = job_options.limits(call.name, call.args, call.kwargs) if job_options is not None else []
    lock = job_options.lock(call.name, call.args, call.kwargs) if job_options is not None else None
    if lock is not None and lock.until:
        entries.append(("u", lock.name, lock.until))
    if not (priority or entries or lock):
        return b""
    return encode_extra(priority, lock, entries)
