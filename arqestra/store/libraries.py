"""Which libraries of Lua functions a server keeps.

Each version of arqestra has a library of its own (`scripts.py`), so in a rolling deploy several stand side by side.
Workers note once an hour which one they use. A library that nobody has noted for a day is deleted. A process that still
uses it, a producer, say, has it loaded again by its next call (`link.py`).
"""

from redis.exceptions import ResponseError

from .scripts import LIBRARY_PREFIX, library
from .server import redis_time_ms
from .store import Store

__all__ = ("NOTE_EVERY_S", "note_library")

NOTE_EVERY_S = 3600.0
UNUSED_MS = 86_400_000
NOTES_TTL_MS = 7 * UNUSED_MS


async def note_library(store: Store) -> list[str]:
    """Note that this version's library is in use, and delete those that nobody has used for a day.

    A server without functions, or a user who may not delete any, is left alone.

    :returns: the names of the libraries that were deleted
    """
    redis, key = store.redis, store.keys.libraries
    now_ms = await redis_time_ms(redis)
    await redis.hset(key, library().name, str(now_ms))  # type: ignore[misc]
    await redis.pexpire(key, NOTES_TTL_MS)
    try:
        listed = await redis.execute_command("FUNCTION LIST", "LIBRARYNAME", f"{LIBRARY_PREFIX}*")
    except ResponseError:
        return []
    deleted = []
    for name in (_name_of(entry) for entry in listed):
        # Seen for the first time: a day begins.
        await redis.hsetnx(key, name, str(now_ms))  # type: ignore[misc]
        noted_ms = int(await redis.hget(key, name) or now_ms)  # type: ignore[misc]
        if now_ms - noted_ms > UNUSED_MS:
            try:
                await redis.execute_command("FUNCTION DELETE", name)
            except ResponseError:  # another worker was faster, or this user may not
                continue
            await redis.hdel(key, name)  # type: ignore[misc]
            deleted.append(name)
    return deleted


def _name_of(entry: list[bytes] | dict[bytes, bytes]) -> str:
    """Of an entry as RESP2 gives it, or as RESP3 does."""
    name = entry[b"library_name"] if isinstance(entry, dict) else entry[entry.index(b"library_name") + 1]
    return name.decode()
