"""Log records as lines of JSON: time, level, logger, message, and which job and trace they belong to."""

import logging
import sys
from datetime import UTC, datetime
from typing import Any, Literal

import msgspec
from arq.logs import default_log_config

from ..definitions.context import current_job
from ..definitions.redact import MASK, is_secret_name, redacted_value

__all__ = ("JsonFormatter", "LogFormat", "log_config")

LogFormat = Literal["text", "json"]

_OF_RECORD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_OF_FILTER = frozenset(
    {"job_id", "job_function", "job_try"}
)  # set by `JobLogFilter`; the line has them under other names
_encode = msgspec.json.Encoder(enc_hook=str).encode


class JsonFormatter(logging.Formatter):
    """One JSON object a line. Fields without a value are left out.

    `time` (UTC, ISO 8601), `level`, `logger`, `message`; inside a job `job_id`, `function`, `attempt`, `queue`; while a
    trace is active `trace_id` and `span_id` (of a line about a traced job outside of its span, `trace_id` alone); of an
    exception `exception` (its traceback) and `error_type`; and what was given as `extra=`, masked as arguments are.
    """

    def format(self, record: logging.LogRecord) -> str:
        """The line, without a line feed at its end."""
        fields: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        traceparent = ""
        running = current_job()
        if running is not None:
            traceparent = running.headers.get("traceparent", "")
            fields |= {"job_id": running.job_id, "function": running.function}
            fields |= {"attempt": running.job_try, "queue": running.queue}
        fields |= _trace_fields() or _trace_of(traceparent)
        if record.exc_info and record.exc_info[0] is not None:
            fields["error_type"] = record.exc_info[0].__qualname__
            fields["exception"] = self.formatException(record.exc_info)
        if record.stack_info:
            fields["stack"] = self.formatStack(record.stack_info)
        for name, value in vars(record).items():
            if name not in _OF_RECORD and name not in _OF_FILTER and name not in fields and value is not None:
                fields[name] = MASK if is_secret_name(name) else redacted_value(value)
        return _line(fields)


def _line(fields: dict[str, Any]) -> str:
    try:
        return _encode(fields).decode()
    except (
        Exception
    ):  # a value that JSON cannot hold (a tuple as key, a cycle, half a surrogate) must not lose the line
        plain = {name: str(value).encode("utf-8", "replace").decode() for name, value in fields.items()}
        return _encode(plain).decode()


def _trace_fields() -> dict[str, str]:
    """The ids of the current span. A process that has not imported OpenTelemetry has none."""
    trace = sys.modules.get("opentelemetry.trace")
    if trace is None:
        return {}
    context = trace.get_current_span().get_span_context()
    if not context.is_valid:
        return {}
    return {"trace_id": trace.format_trace_id(context.trace_id), "span_id": trace.format_span_id(context.span_id)}


def _trace_of(traceparent: str) -> dict[str, str]:
    """The trace id in the W3C header of a job: version, trace id, span id, flags."""
    parts = traceparent.split("-")
    return {"trace_id": parts[1]} if len(parts) >= 4 and len(parts[1]) == 32 else {}


def log_config(verbose: bool, log_format: LogFormat = "text") -> dict[str, Any]:
    """arq's logging configuration, with its lines as text or JSON, for `logging.config.dictConfig`.

    :param verbose: log from DEBUG on; else from INFO on
    :param log_format: "text" or "json"
    """
    config = default_log_config(verbose)
    if log_format == "json":
        config["formatters"]["arq.standard"] = {"()": f"{__name__}.{JsonFormatter.__qualname__}"}
    return config
