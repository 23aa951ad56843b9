"""Replies of redis-py's asyncio client, whose annotations are those of the client without asyncio as well."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TypeVar

T = TypeVar("T")


async def reply_of(command: Awaitable[T] | T) -> T:
    """The reply to `pool.hget(...)` and the like, with its type: redis-py says that it may be no awaitable."""
    assert isinstance(command, Awaitable)
    reply: T = await command
    return reply
