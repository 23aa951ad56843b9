"""The audit log: what people did by the dashboard. The latest 10,000 entries are kept."""

from .link import with_retries
from .store import Store

__all__ = ("MAX_ENTRIES", "add_to_audit", "read_audit")

MAX_ENTRIES = 10_000


async def add_to_audit(store: Store, entry: bytes) -> None:
    """Add an entry. After a lost reply it may be there twice: that is better than not at all."""

    async def write(_: bool) -> None:
        async with store.redis.pipeline(transaction=True) as pipe:
            pipe.lpush(store.keys.audit, entry)
            pipe.ltrim(store.keys.audit, 0, MAX_ENTRIES - 1)
            await pipe.execute()

    await with_retries(write)


async def read_audit(store: Store, offset: int, limit: int) -> list[bytes]:
    """Entries, the latest first."""

    async def read(_: bool) -> list[bytes]:
        found: list[bytes] = await store.redis.lrange(store.keys.audit, offset, offset + limit - 1)  # type: ignore[misc]
        return found

    return await with_retries(read)
