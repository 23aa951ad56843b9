"""From what a caller passes to a job that can be stored.

`call_of` reads one entry of `enqueue_many`. `new_job` makes a `NewJob` of a call: its due time, its deadline, its
payload, its limits and its lock.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from arq.utils import to_ms, to_unix_ms
from arq.worker import Function

from ..definitions.function import BoundJob, Call, JobFunction
from ..definitions.job_options import JobOptions
from ..definitions.middleware import checked_headers
from ..definitions.options import check_enqueue
from ..definitions.rules import is_text
from ..errors import ArgumentsError, PayloadTooLarge
from ..flow.signals import WORKFLOW
from ..protocol.clock import new_job_id, timestamp_ms
from ..protocol.keys import checked_queue_name
from ..protocol.serializers import Serializer
from ..protocol.wire import Payload, encode_payload
from ..store.codec import encode_extra
from ..store.records import NewJob
from ..store.store import Store

__all__ = ("JobSpec", "Producer", "call_of", "name_of_function", "new_job")

# What `enqueue_many` takes for one job: a bound call, or a name or function with its arguments.
JobSpec = (
    Call[Any]
    | tuple[str | Function | BoundJob[..., Any]]
    | tuple[str | Function | BoundJob[..., Any], Sequence[Any]]
    | tuple[str | Function | BoundJob[..., Any], Sequence[Any], Mapping[str, Any]]
)


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


class Producer(Protocol):
    """The parts of a `Pool` that decide how a job is stored."""

    store: Store
    serializer: Serializer
    default_queue_name: str
    max_payload_bytes: int
    expires_extra_ms: int
    clock_offset_ms: int


def new_job(pool: Producer, call: Call[Any], job_try: int | None = None) -> NewJob:
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
