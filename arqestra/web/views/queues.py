"""The state of queues: depth, age, rates, time to drain, limits in force."""

import asyncio
from collections.abc import Sequence
from typing import Annotated

from msgspec import Meta, Struct
from redis.exceptions import ResponseError

from ...protocol.clock import timestamp_ms
from ...protocol.keys import DEFAULT_QUEUE
from ...protocol.presence import WorkerInfo
from ...store.limits import LimitInForce, limits_in_force
from ...store.queues import STUCK_AFTER_MS, QueueSurvey, survey
from ..app_state import AppState
from ..stats_cache import Bucket, sums_of

__all__ = ("QueueList", "QueuePage", "QueueQuery", "QueuesQuery", "Tile", "read_queue", "read_queues", "tiles")

MAX_QUEUES = 200
AT_ONCE = 20


class Tile(Struct, frozen=True):
    """A queue at a glance.

    :ivar depth: jobs that have not ended
    :ivar due: that could start
    :ivar held: that wait for their turn under a limit
    :ivar waiting: workflows that wait for news
    :ivar blocked: workflows that are blocked by code
    :ivar oldest_s: seconds that the oldest due job has been due
    :ivar in_per_s, out_per_s: enqueued and ended, of the last one to two minutes
    :ivar drain_s: seconds until no job is due at these rates; None if that is never
    :ivar workers: that serve it
    """

    name: str
    depth: int
    due: int
    deferred: int
    running: int
    held: int
    waiting: int
    dead: int
    stuck: int
    paused: bool
    blocked: int
    oldest_s: float
    in_per_s: float
    out_per_s: float
    drain_s: float | None
    workers: int
    served: bool


class QueuesQuery(Struct, frozen=True):
    """Nothing to choose."""


class QueueQuery(Struct, frozen=True):
    """Which queue."""

    name: Annotated[str, Meta(max_length=1000)] = DEFAULT_QUEUE


class QueueList(Struct, frozen=True):
    """All queues that were used in the last 30 days.

    :ivar left_out: queues beyond the first 200
    """

    now_ms: int
    queues: list[Tile]
    left_out: int


class QueueLimit(Struct, frozen=True):
    """A limit for which jobs of the queue wait.

    :ivar kind: "rate" or "concurrency", as far as that can be told
    :ivar jobs: that wait for it
    :ivar holders: jobs that run under it
    :ivar opens_in_s: when its first job may be tried
    """

    name: str
    kind: str
    jobs: int
    lanes: int
    holders: int
    opens_in_s: float


class QueuePage(Struct, frozen=True):
    """One queue."""

    now_ms: int
    queue: Tile
    limits: list[QueueLimit]
    workers: list[str]


async def read_queues(app_state: AppState, query: QueuesQuery) -> QueueList:
    """All queues, the first by name."""
    names = await app_state.queues()
    return QueueList(app_state.now_ms(), await tiles(app_state, names[:MAX_QUEUES]), max(0, len(names) - MAX_QUEUES))


async def read_queue(app_state: AppState, query: QueueQuery) -> QueuePage | None:
    """One queue, with the limits that its jobs wait for; None if the key of that name is no queue."""
    found = await tiles(app_state, [query.name])
    if not found:
        return None
    (tile,) = found
    workers = await app_state.cache.get("workers", app_state.pool.workers)
    limits = await limits_in_force(app_state.store, query.name)
    serving = [worker.worker_id for worker in workers if worker.alive and query.name in worker.presence.queues]
    return QueuePage(app_state.now_ms(), tile, [_limit(limit) for limit in limits], serving)


def _limit(limit: LimitInForce) -> QueueLimit:
    return QueueLimit(
        name=limit.name,
        kind=limit.kind,
        jobs=limit.jobs,
        lanes=limit.groups,
        holders=limit.holders,
        opens_in_s=limit.opens_in_ms / 1000,
    )


async def tiles(app_state: AppState, names: Sequence[str]) -> list[Tile]:
    """The tiles of some queues."""
    workers = await app_state.cache.get("workers", app_state.pool.workers)
    recent = await app_state.stats.minutes(2)
    elapsed_s = 60 + timestamp_ms() % 60_000 / 1000
    surveys: list[QueueSurvey] = []
    for first in range(0, len(names), AT_ONCE):
        found = await asyncio.gather(*(_survey(app_state, name) for name in names[first : first + AT_ONCE]))
        surveys += [each for each in found if each is not None]
    return [_tile(each, workers, list(recent.values()), elapsed_s) for each in surveys]


async def _survey(app_state: AppState, name: str) -> QueueSurvey | None:
    try:
        return await app_state.cache.get(("survey", name), lambda: survey(app_state.store, name))
    except ResponseError:  # another program has a key of that name
        return None


def _tile(found: QueueSurvey, workers: Sequence[WorkerInfo], recent: Sequence[Bucket], elapsed_s: float) -> Tile:
    sums = sums_of(recent, queue=found.name)
    in_per_s, out_per_s = sums.enqueued / elapsed_s, sums.ended / elapsed_s
    serving = sum(worker.alive and found.name in worker.presence.queues for worker in workers)
    gain_per_s = out_per_s - in_per_s
    drain_s = 0.0 if found.due == 0 else found.due / gain_per_s if gain_per_s > 0 else None
    found = found._replace(registered=serving > 0)
    return Tile(
        name=found.name,
        depth=found.entries,
        due=max(0, found.due),
        deferred=max(0, found.deferred),
        running=found.running,
        held=found.held,
        waiting=found.waiting,
        dead=found.dead,
        stuck=found.stuck,
        paused=found.paused,
        blocked=found.blocked,
        oldest_s=found.oldest_due_age_ms / 1000,
        in_per_s=in_per_s,
        out_per_s=out_per_s,
        drain_s=drain_s,
        workers=serving,
        served=found.served,
    )


def is_stuck(tile: Tile) -> bool:
    """Whether jobs have been due for a minute and nobody takes them."""
    return tile.due > 0 and tile.oldest_s * 1000 >= STUCK_AFTER_MS and tile.out_per_s == 0
