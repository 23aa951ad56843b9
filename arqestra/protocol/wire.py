"""Payloads and results as arq writes them, with ours beside.

arq's dictionaries have the keys `t f a k et` (payload), and a result has `s r st ft q id` too. Ours add keys that stock
arq ignores. A payload has `o`, a dictionary of options. A result has `n`, the nonce of a chosen id. The result of a
failure has `tb`, the traceback as text, and the payload's `o`.
"""

import io
import logging
import pickle
from typing import Any, NamedTuple

from arq.jobs import DeserializationError, JobDef, JobResult, SerializationError
from arq.utils import ms_to_datetime

from .attempt_errors import storable, text_of
from .portable_errors import error_in, portable
from .serializers import Serializer
from .tracebacks import traceback_of

__all__ = (
    "JobEnd",
    "Payload",
    "decode_payload",
    "decode_result",
    "decode_value",
    "encode_payload",
    "encode_result",
    "function_of",
    "job_def",
    "retry_payload",
    "succeeded",
)

logger = logging.getLogger("arq.jobs")


class Payload(NamedTuple):
    """What Redis has of a job that has not ended.

    :ivar job_try: arq's `_job_try`: the number of the first attempt, or None
    :ivar enqueued_ms: when it was enqueued, on the producer's clock
    :ivar options: ours: `x` deadline in ms, `n` nonce, `h` headers, `p` priority; of a node of a flow `xr` ms from its
        release to its deadline, `in` what its first argument is made of, `er` that this is an `UpstreamFailed`
    """

    function: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    job_try: int | None
    enqueued_ms: int
    options: dict[str, Any]


class JobEnd(NamedTuple):
    """What is known of an attempt that ended the job."""

    payload: Payload
    job_id: str
    queue: str
    attempt: int
    success: bool
    value: Any
    started_ms: int
    finished_ms: int
    traceback: str = ""  # of a failure, if its text is made already


def encode_payload(serializer: Serializer, payload: Payload) -> bytes:
    """Bytes of a payload.

    :raises SerializationError: the arguments do not fit the serializer; its cause says which
    """
    data = {
        "t": payload.job_try,
        "f": payload.function,
        "a": payload.args,
        "k": payload.kwargs,
        "et": payload.enqueued_ms,
        "o": payload.options,
    }
    try:
        return serializer.dumps(data)
    except Exception as error:
        raise SerializationError(f'unable to serialize job "{payload.function}"') from error


def decode_payload(serializer: Serializer, data: bytes) -> Payload:
    """A payload of ours or of stock arq.

    :raises DeserializationError: the bytes are not a payload of this serializer
    """
    try:
        d = serializer.loads(data)
        # No keywords: they would double the time, and each job comes by here.
        return Payload(d["f"], tuple(d["a"]), d["k"], d["t"], d["et"], d.get("o") or {})
    except Exception as error:
        raise DeserializationError("unable to deserialize job") from error


class _Stub:
    """Stands for every object of a pickle of which only the plain parts are read."""

    def __new__(cls, *_: Any, **__: Any) -> "_Stub":
        return object.__new__(cls)

    def __init__(self, *_: Any, **__: Any) -> None: ...

    def __call__(self, *_: Any, **__: Any) -> "_Stub":
        return self

    def __setstate__(self, _: Any) -> None: ...

    def __setitem__(self, _: Any, __: Any) -> None: ...

    def append(self, _: Any) -> None: ...

    def extend(self, _: Any) -> None: ...

    def add(self, _: Any) -> None: ...


class _PlainParts(pickle.Unpickler):
    """Reads a pickle without running its code: its arguments may be of classes that this process does not have."""

    def find_class(self, module_name: str, global_name: str, /) -> Any:
        return _Stub

    def persistent_load(self, _: Any) -> Any:
        return _Stub()


def function_of(serializer: Serializer, data: bytes) -> tuple[str, dict[str, Any]]:
    """The function's name and our options of a payload. Arguments in a pickle are not made.

    :raises DeserializationError: the bytes are not a payload of this serializer
    """
    try:
        d = _plain_parts(serializer, data)
        return str(d["f"]), dict(d.get("o") or {})
    except Exception as error:
        raise DeserializationError("unable to deserialize job") from error


def succeeded(serializer: Serializer, data: bytes) -> bool:
    """Whether a result is a success. Objects in a pickle are not made.

    :raises DeserializationError: the bytes are not a result of this serializer
    """
    try:
        return bool(_plain_parts(serializer, data)["s"])
    except Exception as error:
        raise DeserializationError("unable to deserialize job result") from error


def _plain_parts(serializer: Serializer, data: bytes) -> Any:
    return _PlainParts(io.BytesIO(data)).load() if serializer.name == "pickle" else serializer.loads(data)


def job_def(payload: Payload, job_id: str | None, score: int | None) -> JobDef:
    """arq's view of a payload."""
    enqueued = ms_to_datetime(payload.enqueued_ms)
    job_try: Any = payload.job_try  # arq types it int, and gives None all the same
    return JobDef(
        payload.function,
        payload.args,
        payload.kwargs,
        job_try=job_try,
        enqueue_time=enqueued,
        score=score,
        job_id=job_id,
    )


def encode_result(serializer: Serializer, end: JobEnd) -> bytes | None:
    """Bytes of a result. It leaves out arguments that do not serialize any more, because the job changed them.

    :returns: None if not even a failure without its error can be written
    :raises SerializationError: the value of a success does not serialize: the job has failed
    """
    value = end.value
    data = {
        "t": end.attempt,
        "f": end.payload.function,
        "a": end.payload.args,
        "k": end.payload.kwargs,
        "et": end.payload.enqueued_ms,
        "s": end.success,
        "r": value,
        "st": end.started_ms,
        "ft": end.finished_ms,
        "q": end.queue,
        "id": end.job_id,
    }
    if "n" in end.payload.options:
        data["n"] = end.payload.options["n"]
    if not end.success and end.payload.options:
        data["o"] = end.payload.options  # for `retry_payload`
    if not end.success and isinstance(value, BaseException):
        data["tb"] = storable(end.traceback or traceback_of(value))
        data |= portable(serializer, value)
    try:
        return serializer.dumps(data)
    except Exception as error:
        refusal = error
    ref = f"{end.job_id}:{end.payload.function}"
    without_arguments: dict[str, Any] = {"a": (), "k": {}}
    try:
        encoded = serializer.dumps(data | without_arguments)
    except Exception as error:
        if end.success:
            logger.warning("error serializing result of %s", ref)  # arq's line; the job's failure says more
            raise SerializationError(
                f"unable to serialize result of {ref}: {type(value).__name__}: {text_of(error)}"
            ) from error
    else:
        logger.warning("result of %s is stored without its arguments, which do not serialize: %s", ref, refusal)
        return encoded
    try:
        return serializer.dumps(data | without_arguments | {"r": "unable to serialize result"})
    except Exception:
        logger.critical("error serializing result of %s even after replacing result", ref, exc_info=True)
        return None


def decode_result(serializer: Serializer, data: bytes) -> tuple[JobResult, str | None]:
    """A result of ours or of stock arq, and the traceback of the worker if there is one.

    :raises DeserializationError: the bytes are not a result of this serializer
    """
    try:
        d = serializer.loads(data)
        result = JobResult(
            job_try=d["t"],
            function=d["f"],
            args=tuple(d["a"]),
            kwargs=d["k"],
            enqueue_time=ms_to_datetime(d["et"]),
            score=None,
            success=d["s"],
            result=d["r"] if d["s"] else error_in(d),
            start_time=ms_to_datetime(d["st"]),
            finish_time=ms_to_datetime(d["ft"]),
            queue_name=d.get("q", "<unknown>"),
            job_id=d.get("id", "<unknown>"),
        )
        return result, d.get("tb")
    except Exception as error:
        raise DeserializationError("unable to deserialize job result") from error


def decode_value(serializer: Serializer, data: bytes) -> tuple[bool, Any, str | None]:
    """Only these parts of a result: whether it is a success, the value or the error, the worker's traceback.

    :raises DeserializationError: the bytes are not a result of this serializer
    """
    try:
        d = serializer.loads(data)
        success = d["s"]
        return success, d["r"] if success else error_in(d), d.get("tb")
    except Exception as error:
        raise DeserializationError("unable to deserialize job result") from error


def retry_payload(serializer: Serializer, data: bytes, now_ms: int) -> Payload:
    """Make the payload that runs an unsuccessful job once more, from its result.

    Headers and priority stay. The job has as long to start as it had when it was enqueued.

    :param now_ms: on Redis' clock
    :raises DeserializationError: the bytes are not a result of this serializer
    """
    try:
        d = serializer.loads(data)
        before = d.get("o") or {}
        options = {name: before[name] for name in ("h", "p", "wf") if name in before}
        if "xr" in before:  # a node of a flow: so long from its release on
            options["x"] = now_ms + before["xr"]
        elif "x" in before:
            options["x"] = now_ms + max(0, before["x"] - d["et"])
        return Payload(d["f"], tuple(d["a"]), d["k"], job_try=None, enqueued_ms=now_ms, options=options)
    except Exception as error:
        raise DeserializationError("unable to deserialize job result") from error
