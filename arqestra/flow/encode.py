"""Calls of job functions as nodes of a flow, ready to be stored."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Protocol

from arq.utils import to_ms, to_unix_ms

from ..definitions.job_options import JobOptions
from ..definitions.limits import Entry
from ..definitions.middleware import EnqueuedCall, Middleware, checked_headers
from ..definitions.signature import Signature
from ..drop_in.instrumentation import EnqueueArguments, Stored
from ..errors import PayloadTooLarge
from ..protocol.clock import timestamp_ms
from ..protocol.serializers import Serializer
from ..protocol.wire import Payload, encode_payload
from ..store.flows import NodeRecord, Reference, node_spec
from ..store.listener import Listener
from ..store.store import Store

__all__ = ("Client", "NodeEncoder", "arguments_of", "as_seen", "with_arguments", "with_headers")


class Client(Protocol):
    """The parts of a `Pool` that flows need."""

    serializer: Serializer
    default_queue_name: str
    max_payload_bytes: int
    middleware: tuple[Middleware, ...]

    @property
    def store(self) -> Store: ...
    @property
    def listener(self) -> Listener: ...


class NodeEncoder:
    """Makes the records of a flow's jobs.

    :param serializer: of the payloads
    :param default_queue: queue of functions that name none
    :param max_payload_bytes: size limit of one job's encoded arguments
    """

    def __init__(self, serializer: Serializer, default_queue: str, max_payload_bytes: int) -> None:
        self._serializer = serializer
        self._default_queue = default_queue
        self._max_payload_bytes = max_payload_bytes

    def record(
        self,
        call: Signature[Any],
        flow_id: str,
        number: int,
        *,
        gets: Reference | None = None,
        children: Sequence[int] | None = None,
        on_error: bool = False,
        on_failure: str = "fail",
        output: bool = False,
    ) -> NodeRecord:
        """The record of a call.

        :param children: the nodes that come after it; None if they are not known
        :param gets: what its first argument is made of
        :param on_error: it runs only if its parent failed
        :param output: its result is part of the flow's result
        :raises SerializationError, PayloadTooLarge: the arguments cannot be stored
        """
        options, job_options = call.options, getattr(call.function, "job_options", None)
        queue = options.queue or getattr(call.function, "queue", None) or self._default_queue
        expires = options.expires if job_options is None else options.expires or job_options.expires_s
        stored: dict[str, Any] = {}
        if gets is not None:
            stored["in"] = gets
            if on_error:
                stored["er"] = 1
        if expires:
            stored["xr"] = to_ms(expires)
        if getattr(call.function, "is_workflow", False):
            stored["wf"] = 1
        if options.headers:
            stored["h"] = checked_headers(options.headers)
        priority = options.priority
        if priority is None:
            priority = 0 if job_options is None else job_options.priority
        entries = [] if job_options is None else _limits(job_options, call, takes_result=gets is not None)
        return NodeRecord(
            "job",
            "error" if on_error else "ok",
            on_failure,
            queue=queue,
            priority=priority,
            limit=entries[0][1] if entries else "",
            when=_when(call),
            label=call.name,
            spec=node_spec(entries, flow_id, number, children, output=output),
            payload=self._payload(call, stored),
        )

    def _payload(self, call: Signature[Any], options: dict[str, Any]) -> bytes:
        kwargs = dict(call.kwargs)
        if call.added:
            kwargs.update(call.added)
            options["w"] = list(call.added)
        payload = Payload(call.name, call.args, kwargs, job_try=None, enqueued_ms=timestamp_ms(), options=options)
        data = encode_payload(self._serializer, payload)
        if len(data) > self._max_payload_bytes:
            raise PayloadTooLarge(
                f'job "{call.name}": expected at most {self._max_payload_bytes} bytes of encoded arguments '
                f"(max_payload_bytes), got {len(data)}; store the data elsewhere and pass a reference to it"
            )
        return data


def as_seen(call: Signature[Any], default_queue: str, job_id: str) -> EnqueuedCall:
    """The call as middleware sees it."""
    options = call.options
    queue = options.queue or getattr(call.function, "queue", None) or default_queue
    return EnqueuedCall(
        call.name,
        call.args,
        call.kwargs,
        queue=queue,
        headers=dict(options.headers or {}),
        job_id=options.job_id or job_id,
    )


def with_headers(call: Signature[Any], headers: dict[str, str]) -> Signature[Any]:
    """The call with headers that middleware gave it."""
    return replace(call, options=replace(call.options, headers=headers)) if headers else call


def arguments_of(call: Signature[Any], default_queue: str, job_id: str) -> EnqueueArguments:
    """The call as wrappers around arq's `enqueue_job` see it (Sentry's, OpenTelemetry's)."""
    seen = as_seen(call, default_queue, job_id)
    return EnqueueArguments(call.name, call.args, call.kwargs, options={}, job_id=seen.job_id or "", queue=seen.queue)


def with_arguments(call: Signature[Any], stored: Stored) -> Signature[Any]:
    """The call with the arguments that came through the wrappers."""
    return replace(call, args=tuple(stored.args), kwargs=stored.kwargs, added=stored.added)


def _limits(job_options: JobOptions, call: Signature[Any], *, takes_result: bool) -> Sequence[Entry]:
    """The limits that are known by now. If the parent's result is an argument, the worker finds out the others."""
    limits = [limit for limit in (job_options.rate_limit, job_options.concurrency) if limit is not None]
    if takes_result and any(limit.key is not None for limit in limits):
        return []
    return job_options.limits(call.name, call.args, call.kwargs)


def _when(call: Signature[Any]) -> str:
    options = call.options
    if options.defer_until is not None:
        return f"={to_unix_ms(options.defer_until)}"
    return f"+{to_ms(options.defer_by)}" if options.defer_by else ""
