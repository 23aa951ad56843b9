"""The registry of workers: each writes what it tells of itself, and anybody may read it."""

from datetime import UTC, datetime
from typing import Literal

import msgspec

from ..presence import ALIVE_S, Presence, WorkerInfo, decode_presence, encode_presence
from .health import redis_time_ms
from .link import with_retries
from .store import Store

__all__ = ("ask_for_events", "read_workers", "steer_worker", "withdraw_presence", "write_presence")


async def write_presence(store: Store, worker_id: str, presence: Presence) -> int:
    """Tell that a worker lives. Those that nothing was heard of for long are forgotten.

    :returns: how many listen to events
    """
    listeners: int = await store.call(
        "presence", store.keys.workers, worker_id, encode_presence(presence), *presence.queues
    )
    return listeners


async def withdraw_presence(store: Store, worker_id: str) -> None:
    """A worker ends."""
    await store.call("presence", store.keys.workers, worker_id, "")


async def read_workers(store: Store) -> list[WorkerInfo]:
    """All workers that were heard of in the last ten minutes, the longest running first."""

    async def read() -> tuple[list[tuple[bytes, float]], list[bytes | None], int]:
        seen = await store.redis.zrange(store.keys.workers, 0, -1, withscores=True)
        keys = [store.keys.presence(worker_id.decode()) for worker_id, _ in seen]
        found = await store.redis.mget(keys) if keys else []
        return seen, found, await redis_time_ms(store.redis)

    seen, found, now_ms = await with_retries(lambda _: read())
    workers = []
    for (worker_id, seen_ms), data in zip(seen, found, strict=True):
        if data is None:
            continue
        try:
            presence = decode_presence(data)
        except msgspec.ValidationError:
            continue  # of another version
        at = datetime.fromtimestamp(seen_ms / 1000, UTC)
        workers.append(WorkerInfo(worker_id.decode(), at, now_ms - seen_ms < ALIVE_S * 1000, presence))
    return sorted(workers, key=lambda worker: worker.presence.started_ms)


async def ask_for_events(store: Store) -> None:
    """Somebody listens: the workers tell what happens from now on."""
    for worker_id in await with_retries(lambda _: store.redis.zrange(store.keys.workers, 0, -1)):
        await store.call("announce", store.keys.worker_channel(worker_id.decode()), "listen")


async def steer_worker(store: Store, worker_id: str, order: Literal["drain", "resume"]) -> bool:
    """Tell a worker to take no more jobs, or to take jobs again; whether it heard that."""
    heard: int = await store.call("announce", store.keys.worker_channel(worker_id), order)
    return heard > 0
