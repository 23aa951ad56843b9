"""Reading the dead set: its changes are scripts (`finish`, `requeue`, `discard`)."""

from redis.asyncio import Redis

from ..protocol.keys import Keys
from .statistics import read_queues

__all__ = ("count_dead", "find_dead_result", "read_dead", "read_dead_result")


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


async def find_dead_result(redis: Redis, keys: Keys, likely: str, job_id: str) -> bytes | None:
    """As `read_dead_result`, of whichever queue: the likely one is asked first, then those of the last 30 days."""
    result = await read_dead_result(redis, keys, likely, job_id)
    if result is not None:
        return result
    async with redis.pipeline(transaction=False) as pipe:
        for queue in await read_queues(redis, keys):
            pipe.hget(keys.dead_results(queue), job_id)
        replies: list[bytes | None] = await pipe.execute()
    return next((reply for reply in replies if reply is not None), None)
