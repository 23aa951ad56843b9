"""What a page may show of a payload or a result: its data with secrets masked, or the outline of a pickle."""

from collections.abc import Mapping
from typing import Any

import msgspec

from ..definitions.redact import Redactor, redacted, redacted_value
from .pickles import function_of, outline
from .safe_serializer import Format, format_of, serializer_for

__all__ = ("Failed", "PayloadView", "Signatures", "peek", "shown_text", "view_payload")

# Name of a function -> which of its arguments are secret.
Signatures = Mapping[str, Redactor]

NOT_SHOWN = {"pickle": "pickle: not shown", "unknown": "unknown serializer: not shown"}
MAX_SHOWN_BYTES = 256 * 1024
MAX_TEXT_CHARACTERS = 20_000
_EXCEPTION = "__exception__"


class Failed(msgspec.Struct, frozen=True):
    """What a job failed with: type and message."""

    type: str
    message: str


class PayloadView(msgspec.Struct, frozen=True):
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


def view_payload(data: bytes, signatures: Signatures) -> PayloadView:
    """What a page may show of a payload or a result."""
    found = format_of(data)
    if found in NOT_SHOWN:
        known = outline(data) if found == "pickle" else None
        fields = {} if known is None else {**known.fields, "o": dict(known.options)}
        return _view_of_fields(found, fields, NOT_SHOWN[found])
    if len(data) > MAX_SHOWN_BYTES:
        return PayloadView(found, f"{len(data):,} bytes: too large to be shown")
    serializer = serializer_for(data)
    assert serializer is not None
    try:
        fields = serializer.loads(data)
    except Exception as error:
        return PayloadView("unknown", f"not shown: it does not decode ({type(error).__name__})")
    if not isinstance(fields, dict):
        return PayloadView("unknown", NOT_SHOWN["unknown"])
    made = _view_of_fields(found, fields, "")
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


def peek(data: bytes) -> tuple[str | None, int | None]:
    """The function and the enqueue time (ms) of a payload; only the function of a pickle. Fast, for long searches."""
    if format_of(data) == "pickle":
        return function_of(data), None
    serializer = serializer_for(data)
    try:
        fields = {} if serializer is None else serializer.loads(data)
    except Exception:
        fields = {}
    if not isinstance(fields, dict):
        return None, None
    return _typed(str, fields.get("f")), _typed(int, fields.get("et"))


def _view_of_fields(found: Format, fields: Mapping[str, Any], note: str) -> PayloadView:
    """The fields that have the expected types. Anybody may have written the payload."""
    options = fields.get("o")
    options = options if isinstance(options, dict) else {}
    headers = redacted_value(options.get("h"))
    traceback = _typed(str, fields.get("tb"))
    return PayloadView(
        format=found,
        note=note,
        function=_typed(str, fields.get("f")),
        enqueued_ms=_typed(int, fields.get("et")),
        attempt=_typed(int, fields.get("t")),
        headers={str(key): str(each) for key, each in headers.items()} if isinstance(headers, dict) else {},
        priority=_typed(int, options.get("p")) or 0,
        deadline_ms=_typed(int, options.get("x")),
        success=_typed(bool, fields.get("s")),
        traceback=None if traceback is None else traceback[-MAX_TEXT_CHARACTERS:],
        started_ms=_typed(int, fields.get("st")),
        ended_ms=_typed(int, fields.get("ft")),
        queue=_typed(str, fields.get("q")),
    )


def _typed(kind: type, value: Any) -> Any:
    if kind is int and type(value) is int and abs(value) > 2**53:
        return None  # no valid time, and JavaScript cannot represent it
    return value if type(value) is kind else None


def _failed(value: Any) -> Failed:
    """Type and message of the error in a result (wire.py). It never builds the exception."""
    if isinstance(value, dict) and isinstance(value.get(_EXCEPTION), dict):
        data = value[_EXCEPTION]
        return Failed(str(data.get("type", "?")), str(data.get("message", ""))[:MAX_TEXT_CHARACTERS])
    return Failed("error", shown_text(redacted_value(value)))


def shown_text(value: Any) -> str:
    """A value as JSON text; only the beginning of a very long one."""
    try:
        text = msgspec.json.format(msgspec.json.encode(value, enc_hook=repr), indent=2).decode()
    except (TypeError, ValueError, RecursionError, msgspec.MsgspecError):
        text = repr(value)
    return text if len(text) <= MAX_TEXT_CHARACTERS else f"{text[:MAX_TEXT_CHARACTERS]}… ({len(text):,} characters)"
