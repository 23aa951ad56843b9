"""The limits for which jobs of a queue wait, for people. Nothing is changed. `lua/_limits.lua` explains the data."""

from typing import Any, NamedTuple

from .link import with_retries
from .server import redis_time_ms
from .store import Store

__all__ = (
    "LimitInForce",
    "limits_in_force",
)

MAX_LIMITS = 100
MAX_GROUPS = 20


class LimitInForce(NamedTuple):
    """A limit with a wait list.

    :ivar kind: "rate" or "concurrency": by what is counted of it; "limit" if nothing is
    :ivar groups: limit groups in its wait list
    :ivar jobs: in the first of these groups
    :ivar holders: jobs that run under it
    :ivar opens_in_ms: until the first may be tried
    """

    name: str
    kind: str
    groups: int
    jobs: int
    holders: int
    opens_in_ms: int


async def limits_in_force(store: Store, queue: str) -> list[LimitInForce]:
    """The first hundred limits of a queue with a wait list, the next to be tried first."""
    return await with_retries(lambda _: _read(store, queue))


async def _read(store: Store, queue: str) -> list[LimitInForce]:
    redis, keys = store.redis, store.keys
    limits: list[tuple[bytes, float]] = await redis.zrange(keys.retry_at(queue), 0, MAX_LIMITS - 1, withscores=True)
    if not limits:
        return []
    names = [name.decode(errors="replace") for name, _ in limits]
    async with redis.pipeline(transaction=False) as pipe:
        for name in names:
            pipe.zcard(keys.wait_list(queue, name))
            pipe.zrange(keys.wait_list(queue, name), 0, MAX_GROUPS - 1)
            pipe.zcard(keys.holders(name))
            pipe.exists(keys.rate(name))
        replies: list[Any] = await pipe.execute()
    facts = list(zip(*[iter(replies)] * 4, strict=True))
    async with redis.pipeline(transaction=False) as pipe:
        for _, groups, _, _ in facts:
            for group in groups:
                pipe.zcard(keys.limit_group(queue, group.decode(errors="replace")))
        sizes = iter(await pipe.execute())
    now_ms = await redis_time_ms(redis)
    return [
        LimitInForce(
            name=name,
            kind="concurrency" if holders else "rate" if rate else "limit",
            groups=count,
            jobs=sum(next(sizes) for _ in groups),
            holders=holders,
            opens_in_ms=max(0, int(retry_at_ms) - now_ms),
        )
        for name, (_, retry_at_ms), (count, groups, holders, rate) in zip(names, limits, facts, strict=True)
    ]
