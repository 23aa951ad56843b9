"""The capped lists of attempts that have ended: one for each queue, state and function, with an index of them.

A search reads the ends of a few lists, however many jobs there are. They are kept for 30 days.
"""

from collections.abc import Iterable, Sequence
from heapq import nsmallest
from typing import NamedTuple

import msgspec

from ..protocol.recent_jobs import ENDED_STATES, EndedJob, decode_recent_job
from .link import with_retries
from .store import Store

__all__ = ("EndedList", "read_recent", "write_recent")

TTL_MS = 30 * 86_400_000
ENTRIES_PER_CALL = 1_000


class EndedList(NamedTuple):
    """Attempts to be added to one list: when each ended (ms) and its entry."""

    state: str
    function: str
    entries: Sequence[tuple[int, bytes]]


async def write_recent(store: Store, queue: str, lists: Iterable[EndedList]) -> None:
    """Add ended attempts of a queue."""
    flat: list[str | int | bytes] = []
    count = 0
    for each in lists:
        for first in range(0, len(each.entries), ENTRIES_PER_CALL):
            piece = each.entries[first : first + ENTRIES_PER_CALL]
            flat += (f"{each.state}|{each.function}", ENDED_STATES[each.state], len(piece))
            for entry in piece:
                flat += entry
            count += len(piece)
            if count >= ENTRIES_PER_CALL:
                await store.call("recent", store.keys.recent_index(queue), TTL_MS, queue, *flat)
                flat, count = [], 0
    if flat:
        await store.call("recent", store.keys.recent_index(queue), TTL_MS, queue, *flat)


async def read_recent(
    store: Store,
    queues: Sequence[str],
    *,
    state: str | None = None,
    function: str | None = None,
    since_ms: int | None = None,
    before_ms: int | None = None,
    limit: int = 100,
) -> list[EndedJob]:
    """The newest attempts that fit, the latest first.

    :param since_ms, before_ms: ended at that time or later, and before that time
    """
    keys = store.keys
    least = "-inf" if since_ms is None else str(since_ms)
    most = "+inf" if before_ms is None else f"({before_ms}"

    async def read(resent: bool) -> list[EndedJob]:
        async with store.redis.pipeline(transaction=False) as pipe:
            for queue in queues:
                pipe.zrevrangebyscore(keys.recent_index(queue), "+inf", least, withscores=True)
            indexes: list[list[tuple[bytes, float]]] = await pipe.execute()
        fitting = [
            (-latest_ms, queue, found_state, name)
            for queue, index in zip(queues, indexes, strict=True)
            for name, latest_ms in ((data.decode(), latest_ms) for data, latest_ms in index)
            for found_state, _, found_function in [name.partition("|")]
            if state in (None, found_state) and function in (None, found_function)
        ]
        if before_ms is None and len(fitting) > limit:  # each list has its latest: those of more lists are not wanted
            fitting = nsmallest(limit, fitting)
        wanted = [entry[1:] for entry in fitting]
        async with store.redis.pipeline(transaction=False) as pipe:
            for queue, _, name in wanted:
                pipe.zrevrangebyscore(keys.recent(queue, name), most, least, start=0, num=limit, withscores=True)
            found: list[list[tuple[bytes, float]]] = await pipe.execute()
        newest = sorted(
            (
                (ended_ms, data, queue, found_state)
                for (queue, found_state, _), entries in zip(wanted, found, strict=True)
                for data, ended_ms in entries
            ),
            reverse=True,
        )
        return [job for entry in newest[:limit] if (job := _readable(*entry)) is not None]

    return await with_retries(read)


def _readable(ended_ms: float, data: bytes, queue: str, state: str) -> EndedJob | None:
    try:
        return decode_recent_job(queue, state, ended_ms, data)
    except (msgspec.MsgspecError, ValueError, TypeError):
        return None  # of another version
