"""Who serves a queue: workers that run its jobs, and whoever fires its schedules; the zone of those that name none."""

from collections.abc import Sequence
from typing import NamedTuple

from arq.constants import health_check_key_suffix
from redis.exceptions import NoPermissionError

from .health import redis_time_ms
from .link import with_retries
from .presence import read_workers
from .store import Store

__all__ = ("Service", "note_zone", "noted_zones", "read_services")

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
    await store.call("schedule_set", store.keys.schedules_rev, name, "zone", zone)


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
