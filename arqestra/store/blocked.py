"""Workflows that are blocked by code: that of a worker does not fit their history."""

from typing import Literal, NamedTuple

from .store import Store

__all__ = ("Blocked", "note_blocked")

WHY_CHARACTERS = 500


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
