"""What is logged, as lines of JSON."""

from __future__ import annotations

import json
import logging
from typing import Any

from arqestra import JobLogFilter, JsonFormatter


class Lines(logging.Handler):
    """Keeps what was formatted."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(JsonFormatter())
        self.addFilter(JobLogFilter())
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(self.format(record))

    @property
    def all(self) -> list[dict[str, Any]]:
        return [json.loads(text) for text in self.texts]


def formatted(message: Any, *args: Any, **extra: Any) -> dict[str, Any]:
    record = logging.LogRecord("here", logging.INFO, __file__, 1, message, args, None)
    vars(record).update(extra)
    text = JsonFormatter().format(record)
    assert "\n" not in text
    found: dict[str, Any] = json.loads(text)
    return found
