"""What calls give, with the type that a test knows it to have."""

from __future__ import annotations

from typing import Any, TypeVar

from arqestra import Job

R = TypeVar("R")


async def reply_of(command: Any) -> Any:
    """The reply to `pool.hget(...)` and the like, of which redis-py says that it may be no awaitable, and text."""
    return await command


def accepted(job: Job[R] | None) -> Job[R]:
    """The handle that an enqueue gave: it is None only for an id that is there already."""
    assert job is not None, "expected the job to be accepted, and its id is taken"
    return job
