"""Which queues there are, and which of them has a job. Nothing is changed."""

from collections.abc import Collection, Sequence
from typing import Any

from redis.exceptions import NoPermissionError

from ..errors import SettingsError
from ..protocol.keys import Keys
from .link import with_retries
from .statistics import read_queues
from .store import Store

__all__ = (
    "count_queued",
    "find_jobs",
    "find_queues",
    "queue_of",
    "queue_of_job",
    "queued_in",
)

KEYS_PER_SCAN = 1_000
MAX_SCANS = 100
MAX_QUEUES = 1_000
MEMBERS_TRIED = 3


async def find_queues(store: Store) -> tuple[list[str], bool]:
    """Queues that leave a trace in Redis, and whether not all keys were looked at: there are more than 100,000, or this
    user may not list them.

    Redis has no list of queues: a queue is there as long as it holds jobs.
    """
    redis, keys = store.redis, store.keys
    found = {name.decode() for name in await redis.smembers(keys.paused)}  # type: ignore[misc]
    found |= {name.decode() for name in await redis.smembers(keys.schedule_queues)}  # type: ignore[misc]
    maybe: set[str] = set()
    cursor, scans = 0, 0
    while True:
        try:
            cursor, names = await redis.scan(cursor, keys.prefix + "*", count=KEYS_PER_SCAN, _type="zset")
        except NoPermissionError:  # those that nothing of ours has used are not found then
            cursor = -1
            break
        for name in names:
            _sort_in(keys, name.decode(errors="replace"), found, maybe)
        scans += 1
        if cursor == 0 or scans == MAX_SCANS:
            break
    for name in sorted(maybe - found)[:MAX_QUEUES]:
        if await _holds_jobs(store, name):
            found.add(name)
    return sorted(found)[:MAX_QUEUES], cursor != 0


def _sort_in(keys: Keys, name: str, found: set[str], maybe: set[str]) -> None:
    """What the name of a sorted set says of queues."""
    for prefix in (keys.waiting(""), keys.resting(""), keys.dead(""), keys.retry_at(""), keys.promote("")):
        if name.startswith(prefix):
            found.add(name.removeprefix(prefix))
            return
    if not name.startswith(keys.ours) and name != keys.aborts:
        maybe.add(name.removeprefix(keys.prefix))


async def _holds_jobs(store: Store, name: str) -> bool:
    """Whether a sorted set is a queue: other programs may keep theirs in this Redis."""
    try:
        members = await store.redis.zrange(store.keys.queue(name), 0, MEMBERS_TRIED - 1)
    except NoPermissionError:  # SCAN names the keys of others, too
        return False
    ids = [member.decode(errors="replace") for member in members]
    return await _has_job(store, store.keys, ids) and not await _is_of_another(store, name, ids)


async def _has_job(store: Store, keys: Keys, ids: Sequence[str]) -> bool:
    names = [key for job_id in ids for key in (keys.job(job_id), keys.lease(job_id))]
    return bool(names) and bool(await store.redis.exists(*names))


async def _is_of_another(store: Store, name: str, ids: Sequence[str]) -> bool:
    """Whether it is a queue of an application with a key prefix, whose jobs may have the ids of ours."""
    if store.keys.prefix or ":" not in name:
        return False
    try:
        other = Keys.of(name.partition(":")[0])
    except SettingsError:
        return False  # no such application can be
    return bool(other.prefix) and await _has_job(store, other, ids)


async def queue_of(store: Store, job_id: str, queues: list[str]) -> str | None:
    """The first of these queues that holds a job, or has it in its dead set; None if none does."""
    async with store.redis.pipeline(transaction=False) as pipe:
        for queue in queues:
            pipe.zscore(store.keys.queue(queue), job_id)
            pipe.zscore(store.keys.dead(queue), job_id)
        replies = await pipe.execute()
    for queue, queued, dead in zip(queues, replies[::2], replies[1::2], strict=True):
        if queued is not None or dead is not None:
            return queue
    return None


async def queued_in(store: Store, job_id: str, queues: Sequence[str]) -> str | None:
    """The first of these queues that a job waits or runs in; None if it does in none."""

    async def read(_: bool) -> list[Any]:
        async with store.redis.pipeline(transaction=False) as pipe:
            for queue in queues:
                pipe.zscore(store.keys.queue(queue), job_id)
            replies: list[Any] = await pipe.execute(raise_on_error=False)
            return replies

    scores = await with_retries(read)  # errors among them: what is no queue, or another's
    return next((queue for queue, score in zip(queues, scores, strict=True) if isinstance(score, float)), None)


async def queue_of_job(store: Store, job_id: str, likely: Sequence[str]) -> tuple[str | None, bool]:
    """The queue that holds a job, wherever that is, and whether all queues were looked at.

    The likely queues are asked first, then those that were used in the last 30 days, then all that Redis has: an id
    does not say in which queue its job is.
    """
    if not await with_retries(lambda _: store.redis.exists(store.keys.job(job_id))):
        return None, True
    asked = list(dict.fromkeys([*likely, *await with_retries(lambda _: read_queues(store.redis, store.keys))]))
    found = await queued_in(store, job_id, asked)
    if found is not None:
        return found, True
    others, cut = await find_queues(store)
    return await queued_in(store, job_id, [queue for queue in others if queue not in asked]), not cut


async def count_queued(store: Store, job_ids: Collection[str], queues: Sequence[str]) -> int:
    """How many of these jobs wait or run in one of the queues."""
    scores = [score for queue in queues for score in await store.redis.zmscore(store.keys.queue(queue), list(job_ids))]
    return sum(score is not None for score in scores)


async def find_jobs(store: Store, job_ids: Sequence[str], queues: Sequence[str]) -> list[tuple[str, str]]:
    """Of these ids those that are jobs, each with the first of the queues that has it, else with the first queue."""
    async with store.redis.pipeline(transaction=False) as pipe:
        for job_id in job_ids:
            pipe.exists(store.keys.job(job_id), store.keys.result(job_id))
            for queue in queues:
                pipe.zscore(store.keys.queue(queue), job_id)
                pipe.zscore(store.keys.dead(queue), job_id)
        replies = iter(await pipe.execute())
    found = []
    for job_id in job_ids:
        kept = next(replies)
        has = [queue for queue in queues if [next(replies), next(replies)] != [None, None]]
        if has or kept:
            found.append((job_id, has[0] if has else ""))
    return found
