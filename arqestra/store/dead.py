"""Reading the dead set: its changes are scripts (`finish`, `requeue`, `discard`)."""

from redis.asyncio import Redis

from ..keys import Keys

__all__ = ("count_dead", "read_dead", "read_dead_result")


async def count_dead(redis: Redis, keys: Keys, queue: str) -> int:
    """Jobs in the dead set of a queue."""
    count: int = await redis.zcard(keys.dead(queue))
    return count


async def read_dead(redis: Redis, keys: Keys, queue: str, offset: int, limit: int) -> list[tuple[str, int, bytes]]:
    """Id, time of death (ms) and result of dead jobs, the latest first."""
    entries = await redis.zrevrange(keys.dead(queue), offset, offset + limit - 1, withscores=True)
    if not entries:
        return []
    results = await redis.hmget(keys.dead_results(queue), [job_id for job_id, _ in entries])  # type: ignore[misc]
    return [
        (job_id.decode(), int(died_ms), result or b"")
        for (job_id, died_ms), result in zip(entries, results, strict=True)
    ]


async def read_dead_result(redis: Redis, keys: Keys, queue: str, job_id: str) -> bytes | None:
    """The result of one dead job."""
    result: bytes | None = await redis.hget(keys.dead_results(queue), job_id)  # type: ignore[misc]
    return result
