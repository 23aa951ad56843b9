"""What is in a payload or a result, fit to be shown: plain data with what is secret masked, of a pickle its outline."""

from collections.abc import Mapping
from typing import Any

import msgspec

from ..definitions.redact import Redactor, redacted, redacted_value
from .pickles import function_of, outline
from .plain import Format, format_of, serializer_for

__all__ = ("Contents", "Failed", "Signatures", "contents_of", "glance", "shown_text")

# By name of the function: what its signature says of which arguments are secret.
Signatures = Mapping[str, Redactor]

NOT_SHOWN = {"pickle": "pickle: not shown", "unknown": "unknown serializer: not shown"}
LARGEST_SHOWN_BYTES = 256 * 1024
LONGEST_TEXT = 20_000
_EXCEPTION = "__exception__"


class Failed(msgspec.Struct, frozen=True):
    """What a job failed with: type and message."""

    type: str
    message: str


class Contents(msgspec.Struct, frozen=True):
    """A payload or a result.

    :ivar format: the serializer that wrote it
    :ivar note: why arguments and result are not shown; "" if they are
    :ivar args, kwargs: as JSON texts; None if they are not shown
    :ivar headers, priority, deadline_ms: the job's options
    :ivar success: of a result; None of a payload
    :ivar value: what the job returned, as JSON text
    """

    format: Format
    note: str
    function: str | None = None
    args: list[str] | None = None
    kwargs: dict[str, str] | None = None
    enqueued_ms: int | None = None
    attempt: int | None = None
    headers: dict[str, str] = {}
    priority: int = 0
    deadline_ms: int | None = None
    success: bool | None = None
    value: str | None = None
    error: Failed | None = None
    traceback: str | None = None
    started_ms: int | None = None
    ended_ms: int | None = None
    queue: str | None = None


def contents_of(data: bytes, signatures: Signatures) -> Contents:
    """What may be shown of a payload or a result."""
    found = format_of(data)
    if found in NOT_SHOWN:
        known = outline(data) if found == "pickle" else None
        fields = {} if known is None else {**known.fields, "o": dict(known.options)}
        return _contents(found, fields, NOT_SHOWN[found])
    if len(data) > LARGEST_SHOWN_BYTES:
        return Contents(found, f"{len(data):,} bytes: too large to be shown")
    serializer = serializer_for(data)
    assert serializer is not None
    try:
        fields = serializer.loads(data)
    except Exception as error:
        return Contents("unknown", f"not shown: it does not decode ({type(error).__name__})")
    if not isinstance(fields, dict):
        return Contents("unknown", NOT_SHOWN["unknown"])
    made = _contents(found, fields, "")
    args, kwargs = fields.get("a"), fields.get("k")
    if not isinstance(args, list | tuple) or not isinstance(kwargs, dict):
        return msgspec.structs.replace(made, note="not shown: it has no arguments as arq writes them")
    redactor = signatures.get(made.function or "")
    shown_args, shown_kwargs = redacted(args, kwargs) if redactor is None else redactor.redacted(args, kwargs)
    value = fields.get("r")
    return msgspec.structs.replace(
        made,
        args=[shown_text(each) for each in shown_args],
        kwargs={str(name): shown_text(each) for name, each in shown_kwargs.items()},
        value=shown_text(redacted_value(value)) if made.success else None,
        error=_failed(value) if made.success is False else None,
    )


def glance(data: bytes) -> tuple[str | None, int | None]:
    """Function and time of enqueue (ms) of a payload, for those who look at thousands of them; of a pickle the function
    alone.
    """
    if format_of(data) == "pickle":
        return function_of(data), None
    serializer = serializer_for(data)
    try:
        fields = {} if serializer is None else serializer.loads(data)
    except Exception:
        fields = {}
    if not isinstance(fields, dict):
        return None, None
    return _of(str, fields.get("f")), _of(int, fields.get("et"))


def _contents(found: Format, fields: Mapping[str, Any], note: str) -> Contents:
    """The entries whose types are as they should be: anybody may have written them."""
    options = fields.get("o")
    options = options if isinstance(options, dict) else {}
    headers = redacted_value(options.get("h"))
    traceback = _of(str, fields.get("tb"))
    return Contents(
        format=found,
        note=note,
        function=_of(str, fields.get("f")),
        enqueued_ms=_of(int, fields.get("et")),
        attempt=_of(int, fields.get("t")),
        headers={str(key): str(each) for key, each in headers.items()} if isinstance(headers, dict) else {},
        priority=_of(int, options.get("p")) or 0,
        deadline_ms=_of(int, options.get("x")),
        success=_of(bool, fields.get("s")),
        traceback=None if traceback is None else traceback[-LONGEST_TEXT:],
        started_ms=_of(int, fields.get("st")),
        ended_ms=_of(int, fields.get("ft")),
        queue=_of(str, fields.get("q")),
    )


def _of(kind: type, value: Any) -> Any:
    if kind is int and type(value) is int and abs(value) > 2**53:
        return None  # no time of ours, and more than JavaScript can hold
    return value if type(value) is kind else None


def _failed(value: Any) -> Failed:
    """What a plain result says of its error (wire.py): type and message, never an object made of it."""
    if isinstance(value, dict) and isinstance(value.get(_EXCEPTION), dict):
        data = value[_EXCEPTION]
        return Failed(str(data.get("type", "?")), str(data.get("message", ""))[:LONGEST_TEXT])
    return Failed("error", shown_text(redacted_value(value)))


def shown_text(value: Any) -> str:
    """A value as JSON text, where it is longer than a page its beginning."""
    try:
        text = msgspec.json.format(msgspec.json.encode(value, enc_hook=repr), indent=2).decode()
    except (TypeError, ValueError, RecursionError, msgspec.MsgspecError):
        text = repr(value)
    return text if len(text) <= LONGEST_TEXT else f"{text[:LONGEST_TEXT]}… ({len(text):,} characters)"
