"""The registry of workers: each writes what it tells of itself, and anybody may read it."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Literal

import msgspec
from redis.asyncio import Redis

from ..protocol.presence import ALIVE_S, Presence, WorkerInfo, decode_presence, encode_presence
from .link import with_retries
from .server import redis_time_ms
from .store import Store

__all__ = (
    "ask_for_events",
    "read_health",
    "read_workers",
    "steer_worker",
    "withdraw_presence",
    "write_health",
    "write_presence",
)


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
    workers: list[WorkerInfo] = []
    quiet: dict[str, bool] = {}  # who may be away, and whether that is no longer than an idle worker is quiet
    for (worker_id, seen_ms), data in zip(seen, found, strict=True):
        if data is None:
            continue
        try:
            presence = decode_presence(data)
        except msgspec.ValidationError:
            continue  # of another version
        silent_s = (now_ms - seen_ms) / 1000
        at = datetime.fromtimestamp(seen_ms / 1000, UTC)
        workers.append(WorkerInfo(worker_id.decode(), at, silent_s < ALIVE_S, presence))
        if silent_s >= ALIVE_S:
            quiet[worker_id.decode()] = silent_s < presence.every_s + ALIVE_S
    listening = await _listening(store, list(quiet))
    for i, worker in enumerate(workers):
        if worker.worker_id in quiet:
            connected = worker.worker_id in listening
            workers[i] = replace(worker, alive=connected and quiet[worker.worker_id], connected=connected)
    return sorted(workers, key=lambda worker: worker.presence.started_ms)


async def _listening(store: Store, worker_ids: Sequence[str]) -> set[str]:
    """Those of these workers that listen for wake-ups. The server drops the subscription of a process that has died."""
    if not worker_ids:
        return set()
    channels = [store.keys.worker_channel(worker_id) for worker_id in worker_ids]
    counts = await with_retries(lambda _: store.redis.pubsub_numsub(*channels))
    return {worker_id for worker_id, (_, count) in zip(worker_ids, counts, strict=True) if count > 0}


async def ask_for_events(store: Store) -> None:
    """Somebody listens: the workers tell what happens from now on."""
    for worker_id in await with_retries(lambda _: store.redis.zrange(store.keys.workers, 0, -1)):
        await store.call("announce", store.keys.worker_channel(worker_id.decode()), "listen")


async def steer_worker(store: Store, worker_id: str, order: Literal["drain", "resume"]) -> bool:
    """Tell a worker to take no more jobs, or to take jobs again; whether it heard that."""
    heard: int = await store.call("announce", store.keys.worker_channel(worker_id), order)
    return heard > 0


async def read_health(redis: Redis, key: str) -> bytes | None:
    """The health check key; None if no worker writes it."""
    data: bytes | None = await redis.get(key)
    return data


async def write_health(redis: Redis, key: str, info: str, ttl_ms: int) -> None:
    """Write the health check key."""
    await redis.set(key, info.encode(), px=ttl_ms)
