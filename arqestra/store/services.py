"""Who serves a queue: workers that run its jobs, and whoever fires its schedules; the zone of those that name none."""

from collections.abc import Awaitable, Sequence
from typing import NamedTuple, cast

from arq.constants import health_check_key_suffix
from redis.exceptions import NoPermissionError

from .link import with_retries
from .presence import read_workers
from .server import redis_time_ms
from .store import Store

__all__ = (
    "OverdueSchedules",
    "Service",
    "note_zone",
    "noted_zones",
    "read_overdue",
    "read_services",
    "schedule_queues",
)

NAMES_PER_CALL = 500
LOOKED_LATELY_MS = 150_000  # a scheduler looks at least once a minute


class Service(NamedTuple):
    """Who serves a queue.

    :ivar has_worker: a worker lives that takes its jobs, ours or stock arq's
    :ivar is_fired: somebody looks for schedules of it that are due
    :ivar timezone: in which its workers read schedules that name none; "" if that is not known
    """

    now_ms: int
    has_worker: bool
    is_fired: bool
    timezone: str


async def read_services(store: Store, queues: Sequence[str]) -> dict[str, Service]:
    """Who serves these queues. Where an access control list does not let us see that, nothing is said to be missing."""
    try:
        return await with_retries(lambda _: _read_services(store, queues)) if queues else {}
    except NoPermissionError:
        return dict.fromkeys(queues, Service(0, has_worker=True, is_fired=True, timezone=""))


async def _read_services(store: Store, queues: Sequence[str]) -> dict[str, Service]:
    workers = [worker.presence for worker in await read_workers(store) if worker.alive]
    now_ms = await redis_time_ms(store.redis)
    looked = await store.redis.mget([store.keys.schedules_clock(queue) for queue in queues])
    async with store.redis.pipeline(transaction=False) as pipeline:
        for queue in queues:
            pipeline.exists(store.keys.health_check(queue + health_check_key_suffix))
        checked = await pipeline.execute()
    found = {}
    for queue, at, is_healthy in zip(queues, looked, checked, strict=True):
        own = [worker for worker in workers if queue in worker.queues]
        schedule_runner = [worker for worker in own if worker.fires]
        lately = at is not None and abs(now_ms - int(at)) < LOOKED_LATELY_MS
        zones = [worker.timezone for worker in schedule_runner if worker.timezone]
        found[queue] = Service(now_ms, bool(own or is_healthy), bool(schedule_runner or lately), (*zones, "")[0])
    return found


async def note_zone(store: Store, name: str, zone: str) -> None:
    """Note in which time zone a schedule that names none is read. Where that changes, it is due at other times."""
    await store.call("schedule_set", name, "zone", zone)


async def noted_zones(store: Store, home: str) -> dict[str, str]:
    """The zones that were noted of the schedules of a queue."""
    names = [name.decode() for name in await store.redis.zrange(store.keys.schedules(home), 0, -1)]
    found: dict[str, str] = {}
    for first in range(0, len(names), NAMES_PER_CALL):
        piece = names[first : first + NAMES_PER_CALL]
        async with store.redis.pipeline(transaction=False) as pipeline:
            for name in piece:
                pipeline.hget(store.keys.schedule(name), "zone")
            zones = await pipeline.execute()
        found |= {name: zone.decode() for name, zone in zip(piece, zones, strict=True) if zone is not None}
    return found


class OverdueSchedules(NamedTuple):
    """How the schedules of a queue stand.

    :ivar schedules: how many there are, paused ones and those that are over among them
    :ivar overdue: how many are due and not fired yet
    :ivar lateness_ms: how long the most overdue one has been due; 0 if none is
    """

    queue: str
    schedules: int
    overdue: int
    lateness_ms: int


async def read_overdue(store: Store) -> list[OverdueSchedules]:
    """How late the schedules of each queue are, at a cost that does not grow with their number."""
    homes = await schedule_queues(store)
    return await with_retries(lambda _: _read_overdue(store, homes)) if homes else []


async def _read_overdue(store: Store, homes: Sequence[str]) -> list[OverdueSchedules]:
    async with store.redis.pipeline(transaction=False) as pipeline:
        now_ms = await redis_time_ms(store.redis)
        for key in map(store.keys.schedules, homes):
            pipeline.zcard(key)
            pipeline.zcount(key, "-inf", now_ms)
            pipeline.zrangebyscore(key, "(0", now_ms, start=0, num=1, withscores=True)  # 0: not planned yet
        replies = iter(await pipeline.execute())
    found = []
    for home, schedules, overdue, latest in zip(homes, *[replies] * 3, strict=True):
        lateness_ms = now_ms - int(latest[0][1]) if latest else 0
        found.append(OverdueSchedules(home, schedules, overdue, lateness_ms))
    return found


async def schedule_queues(store: Store) -> list[str]:
    """Queues that have schedules."""
    key = store.keys.schedule_queues
    found = await with_retries(lambda _: cast(Awaitable[set[bytes]], store.redis.smembers(key)))
    return sorted(queue.decode() for queue in found)
