"""Limits that the tests of the store use, as an enqueue says them."""

from __future__ import annotations

RATE = ("r", "r:f:", 1000.0, 1)
BURSTY = ("r", "r:f:", 1000.0, 5)
TWO_AT_ONCE = ("c", "c:f:", 2)


def of_tenant(tenant: str, jobs: int = 1) -> tuple[object, ...]:
    return ("c", f"c:f:{tenant}", jobs)
