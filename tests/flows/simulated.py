"""What the tests of `run_workflow` share: when it starts, and the answers of steps."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from tests.flows.flow_jobs import add, fail, total

START = datetime(2026, 3, 1, 8, tzinfo=UTC)


def summed(*numbers: int) -> int:
    return sum(numbers)


ANSWERS: dict[Any, Any] = {add: summed, fail: ValueError("no good"), total: lambda numbers: sum(numbers)}
