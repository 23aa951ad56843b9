"""Reading the minute statistics."""

from collections.abc import Mapping

from redis.asyncio import Redis

from ..keys import Keys

__all__ = ("FIGURES", "read_statistics")

FIGURES = (
    "complete",
    "failed",
    "retried",
    "aborted",
    "expired",
    "run_ms_total",
    "wait_ms_total",
    "run_ms_max",
)


async def read_statistics(redis: Redis, keys: Keys, last_minute: int, minutes: int) -> dict[int, dict[str, int]]:
    """The counters of each minute that has some: minute since the epoch -> field -> number."""
    wanted = range(last_minute - minutes + 1, last_minute + 1)
    async with redis.pipeline(transaction=False) as pipe:
        for minute in wanted:
            pipe.hgetall(keys.statistics(minute))
        replies: list[Mapping[bytes, bytes]] = await pipe.execute()
    return {
        minute: {field.decode(): int(number) for field, number in reply.items()}
        for minute, reply in zip(wanted, replies, strict=True)
        if reply
    }
