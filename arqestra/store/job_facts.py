"""What Redis has of single jobs besides payload and lease: attempts, kept results, the dead set. Nothing is changed."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from redis.asyncio import Redis

from ..protocol.keys import Keys
from .link import with_retries
from .statistics import read_queues
from .store import Store

__all__ = (
    "JobFacts",
    "count_dead",
    "find_dead_result",
    "read_dead",
    "read_dead_result",
    "read_job_facts",
    "results_kept",
)

RESULTS_PER_CALL = 1_000


class JobFacts(NamedTuple):
    """What Redis has of a job besides payload, lease and result.

    :ivar died_ms: when it was put into the dead set of its queue
    :ivar result_ttl_ms: how long the result is kept; None if there is none, or for ever
    """

    attempts: int
    abort_requested_ms: int | None
    died_ms: int | None
    result_ttl_ms: int | None


async def read_job_facts(store: Store, queue: str, job_id: str) -> JobFacts:
    """What else Redis has of a job."""
    keys = store.keys

    async def read(_: bool) -> list[Any]:
        async with store.redis.pipeline(transaction=False) as pipe:
            pipe.get(keys.attempts(job_id))
            pipe.zscore(keys.aborts, job_id)
            pipe.zscore(keys.dead(queue), job_id)
            pipe.pttl(keys.result(job_id))
            replies: list[Any] = await pipe.execute()
            return replies

    attempts, abort, died, ttl_ms = await with_retries(read)
    return JobFacts(
        int(attempts or 0),
        None if abort is None else int(abort),
        None if died is None else int(died),
        ttl_ms if ttl_ms > 0 else None,
    )


async def results_kept(store: Store, jobs: Sequence[tuple[str, str]]) -> list[bool]:
    """Whether the result of each job is still kept, as its own or in the dead set.

    :param jobs: queues and ids
    """
    kept: list[bool] = []
    for first in range(0, len(jobs), RESULTS_PER_CALL):
        kept += await _results_kept(store, jobs[first : first + RESULTS_PER_CALL])
    return kept


async def _results_kept(store: Store, jobs: Sequence[tuple[str, str]]) -> list[bool]:
    async def read(_: bool) -> list[Any]:
        async with store.redis.pipeline(transaction=False) as pipe:
            for queue, job_id in jobs:
                pipe.exists(store.keys.result(job_id))
                pipe.hexists(store.keys.dead_results(queue), job_id)
            replies: list[Any] = await pipe.execute()
            return replies

    replies = await with_retries(read)
    return [bool(own or dead) for own, dead in zip(replies[::2], replies[1::2], strict=True)]


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
