"""Waiting for a condition: no test sleeps for a time that it hopes is long enough."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Callable
from typing import Any

__all__ = ("PATIENCE_S", "block_until", "wait_until")

# How long a condition may take on a busy machine before the test fails; nothing sleeps this long.
PATIENCE_S = 60.0
POLL_S = 0.01

# What is waited for; a function can also say what is there instead.
Expected = str | Callable[[], str]


async def wait_until(
    condition: Callable[[], Any],
    expected: Expected = "the condition holds",
    *,
    timeout_s: float = PATIENCE_S,
    poll_s: float = POLL_S,
) -> Any:
    """Wait until the condition, a plain or a coroutine function, gives something true; returns that."""
    deadline = time.monotonic() + timeout_s
    while True:
        found = condition()
        if inspect.isawaitable(found):
            found = await found
        if found:
            return found
        assert time.monotonic() < deadline, _too_late(expected, timeout_s)
        await asyncio.sleep(poll_s)


def block_until(condition: Callable[[], Any], expected: Expected, *, timeout_s: float = PATIENCE_S) -> Any:
    """`wait_until` where there is no event loop, or where it may stand still."""
    deadline = time.monotonic() + timeout_s
    while not (found := condition()):
        assert time.monotonic() < deadline, _too_late(expected, timeout_s)
        time.sleep(POLL_S)
    return found


def _too_late(expected: Expected, timeout_s: float) -> str:
    return f"expected within {timeout_s:g} s: {expected if isinstance(expected, str) else expected()}"
