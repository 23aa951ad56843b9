"""Workflows: which functions are workflows, which workflows are blocked by code, and resuming one that has failed.

`lua/block.lua` and `lua/flow_resume.lua` explain the data.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

from ..protocol.clock import timestamp_ms
from .link import with_retries
from .store import Store

__all__ = (
    "Blocked",
    "Resumed",
    "is_workflow_name",
    "mark_to_resume",
    "note_blocked",
    "note_workflows",
    "resume_life",
    "resume_queued",
)

WHY_CHARACTERS = 500
MAX_NAMES, NAMES_TTL_MS = 10_000, 30 * 86_400_000


class Blocked(NamedTuple):
    """A workflow that is blocked.

    :ivar tries: how often it was tried
    :ivar delay_ms: until it is to be tried again
    :ivar since_ms: how long ago that was first so
    :ivar early: this was no try: it was woken before its time
    """

    tries: int
    delay_ms: int
    since_ms: int
    early: bool


async def note_blocked(
    store: Store, flow_id: str, queue: str, token: str, why: str, *, pause_ms: int, most_ms: int
) -> Blocked | Literal["lost", "new"]:
    """Note that a workflow cannot go on.

    :param token: of its lease
    :param why: for people
    :param pause_ms: until the second try; doubled with each try
    :param most_ms: the longest pause
    :returns: "lost" if the lease is; "new" if it has not begun
    :raises redis.exceptions.RedisError: Redis does not answer
    """
    reply = await store.call("block", queue, flow_id, token, why[:WHY_CHARACTERS], pause_ms, most_ms)
    if reply[0] == b"blocked":
        return Blocked(int(reply[1]), int(reply[2]), int(reply[3]), reply[4] == b"1")
    return "lost" if reply[0] == b"lost" else "new"


async def note_workflows(store: Store, names: Sequence[str]) -> None:
    """Say that functions of these names are workflows; it is known for 30 days."""

    async def write(_: bool) -> None:
        async with store.redis.pipeline(transaction=False) as pipe:
            pipe.zadd(store.keys.workflow_names, dict.fromkeys(names, timestamp_ms()))
            pipe.zremrangebyrank(store.keys.workflow_names, 0, -MAX_NAMES - 1)
            pipe.pexpire(store.keys.workflow_names, NAMES_TTL_MS)
            await pipe.execute()

    await with_retries(write)


async def is_workflow_name(store: Store, name: str) -> bool:
    """Whether a worker of the last 30 days has said that the function of that name is a workflow."""
    return await with_retries(lambda _: store.redis.zscore(store.keys.workflow_names, name)) is not None


class Resumed(NamedTuple):
    """What became of it.

    :ivar verdict: "queued"; "busy": steps of it are still being aborted; "changed", "exists" or "missing"; of a mark
        "marked"; of a life "resumed" or "lost"
    :ivar steps: that are tried anew, or are still being aborted
    """

    verdict: str
    steps: int


async def resume_queued(
    store: Store, flow_id: str, queue: str, *, result: bytes, payload: bytes, priority: int
) -> Resumed:
    """Run a workflow that has ended once more, from its failed step on.

    :param result: as it was read; nothing is done if it is another one
    """
    return _resumed(await store.call("flow_resume", queue, flow_id, "queue", result, payload, priority))


async def resume_life(store: Store, flow_id: str, queue: str, token: str) -> Resumed:
    """The same, of one that is leased already as a step."""
    return _resumed(await store.call("flow_resume", queue, flow_id, "life", token))


async def mark_to_resume(store: Store, flow_id: str, queue: str) -> Resumed:
    """Note that the next life of a workflow that has ended is to resume it."""
    return _resumed(await store.call("flow_resume", queue, flow_id, "mark"))


def _resumed(reply: list[bytes | int]) -> Resumed:
    verdict, *steps = reply
    assert isinstance(verdict, bytes)
    return Resumed(verdict.decode(), int(steps[0]) if steps else 0)
