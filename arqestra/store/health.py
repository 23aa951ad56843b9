"""arq's health check: a key that a live worker writes, and the depth of the queue in it."""

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from ..protocol.clock import timestamp_ms
from ..protocol.keys import Keys
from .replies import CLUSTER_ADVICE, ServerIsCluster, reply_error

__all__ = ("clock_offset_ms", "greet", "is_paused", "queue_depth", "read_health", "redis_time_ms", "write_health")


async def clock_offset_ms(redis: Redis) -> int:
    """How far Redis' clock is ahead of this process' (ms), to within half a round trip."""
    before_ms = timestamp_ms()
    redis_ms = await redis_time_ms(redis)
    return redis_ms - (before_ms + timestamp_ms()) // 2


async def greet(redis: Redis) -> int:
    """The first words to a server: is it one that we can work with, and what is its time?

    :returns: how far its clock is ahead of this process' (ms), to within half a round trip
    :raises ServerIsCluster: it is a node of a Redis Cluster
    :raises redis.exceptions.RedisError: it does not answer, or refuses
    """
    before_ms = timestamp_ms()
    async with redis.pipeline(transaction=False) as pipe:
        pipe.time()
        pipe.info("cluster")
        answered, cluster = await pipe.execute(raise_on_error=False)
    if type(answered) is ResponseError:
        raise reply_error(str(answered))
    if isinstance(answered, Exception):
        raise answered
    if isinstance(cluster, dict) and cluster.get("cluster_enabled"):  # a server that does not tell is believed
        raise ServerIsCluster(CLUSTER_ADVICE)
    return _ms(answered) - (before_ms + timestamp_ms()) // 2


async def redis_time_ms(redis: Redis) -> int:
    """The time on Redis' clock."""
    return _ms(await redis.time())


def _ms(time: tuple[int, int]) -> int:
    seconds, microseconds = time
    return int(seconds) * 1000 + int(microseconds) // 1000


async def queue_depth(redis: Redis, keys: Keys, queue: str) -> int:
    """Entries in the queue: deferred, due and in progress."""
    depth: int = await redis.zcard(keys.queue(queue))
    return depth


async def is_paused(redis: Redis, keys: Keys, queue: str) -> bool:
    """Whether no worker takes jobs of the queue."""
    return bool(await redis.sismember(keys.paused, queue))  # type: ignore[misc]


async def read_health(redis: Redis, key: str) -> bytes | None:
    """The health check key; None if no worker writes it."""
    data: bytes | None = await redis.get(key)
    return data


async def write_health(redis: Redis, key: str, info: str, ttl_ms: int) -> None:
    """Write the health check key."""
    await redis.set(key, info.encode(), px=ttl_ms)
