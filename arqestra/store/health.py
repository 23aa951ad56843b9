"""arq's health check: a key that a live worker writes, and the depth of the queue in it."""

from redis.asyncio import Redis

__all__ = ("queue_depth", "write_health")


async def queue_depth(redis: Redis, queue: str) -> int:
    """Entries in the queue: deferred, due and in progress."""
    depth: int = await redis.zcard(queue)
    return depth


async def write_health(redis: Redis, key: str, info: str, ttl_ms: int) -> None:
    """Write the health check key."""
    await redis.set(key, info.encode(), px=ttl_ms)
