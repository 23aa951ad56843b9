"""Resuming a workflow that failed or was aborted, at its failed step: `store/lua/flow_resume.lua` says what is kept."""

from typing import NamedTuple

from .store import Store

__all__ = ("Resumed", "mark_to_resume", "resume_life", "resume_queued")


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
