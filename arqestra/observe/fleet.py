"""Reading the whole fleet for its metrics, at a bounded cost, however many jobs are queued.

A snapshot takes one survey of each queue (`survey.lua`: a few thousand entries at most), the totals, the registry of
workers and how late the schedules are.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from redis.exceptions import ResponseError

from ..client.pool import Pool
from ..store.queues import QueueSurvey, survey
from ..store.services import OverdueSchedules, read_overdue
from .process_metrics import WorkerMetrics, metrics_of_worker

__all__ = ("FleetSnapshot", "read_fleet")

logger = logging.getLogger("arq.metrics")

QUEUES_AT_ONCE = 50


@dataclass(frozen=True, slots=True)
class FleetSnapshot:
    """The fleet at one moment.

    :ivar totals: rows of `Pool.totals()`
    :ivar served: queue -> how many living workers serve it
    """

    totals: Sequence[Mapping[str, Any]]
    queues: Sequence[QueueSurvey]
    schedules: Sequence[OverdueSchedules]
    workers: Sequence[WorkerMetrics]
    served: Mapping[str, int]


async def read_fleet(pool: Pool) -> FleetSnapshot:
    """Read a snapshot of the fleet.

    :raises redis.exceptions.RedisError: Redis does not answer
    """
    workers = await pool.workers()
    served = Counter(queue for worker in workers if worker.alive for queue in set(worker.presence.queues))
    return FleetSnapshot(
        totals=await pool.totals(),
        queues=await _survey_all(pool, await pool.used_queues()),
        schedules=await read_overdue(pool.store),
        workers=[metrics_of_worker(worker) for worker in workers],
        served=served,
    )


async def _survey_all(pool: Pool, names: Sequence[str]) -> list[QueueSurvey]:
    found: list[QueueSurvey] = []
    for first in range(0, len(names), QUEUES_AT_ONCE):
        batch = names[first : first + QUEUES_AT_ONCE]
        found += filter(None, await asyncio.gather(*(_survey(pool, name) for name in batch)))
    return found


async def _survey(pool: Pool, name: str) -> QueueSurvey | None:
    try:
        return await survey(pool.store, name)
    except ResponseError as error:  # another program has a key of that name
        logger.warning("metrics: queue %s is left out: %s", name, error)
        return None
