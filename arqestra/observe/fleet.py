"""Reading the whole fleet for its metrics, at a bounded cost, however many jobs are queued.

One reading is one look at each queue (`survey.lua`: a few thousand entries at most), the totals, the registry of
workers and how late the schedules are. Scrapes that come together, or within a second, share one.
"""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence

from redis.exceptions import RedisError, ResponseError

from ..client.pool import Pool
from ..store.look import QueueSurvey, survey
from ..store.schedules import read_overdue
from .figures import figures_of_worker
from .metrics import Exposition, FleetReading, exposition, fleet_families, silence

__all__ = ("FleetMetrics", "read_fleet")

logger = logging.getLogger("arq.metrics")

KEPT_S = 1.0
LIMIT_S = 5.0  # half of Prometheus' default for a scrape
QUEUES_AT_ONCE = 50
MAX_EXPOSITIONS = 8  # Accept headers for which the text is kept: there are two or three kinds of scrapers


async def read_fleet(pool: Pool) -> FleetReading:
    """What there is to tell of the fleet.

    :raises redis.exceptions.RedisError: Redis does not answer
    """
    workers = await pool.workers()
    served = Counter(queue for worker in workers if worker.alive for queue in set(worker.presence.queues))
    return FleetReading(
        totals=await pool.totals(),
        queues=await _survey_all(pool, await pool.used_queues()),
        schedules=await read_overdue(pool.store),
        workers=[figures_of_worker(worker) for worker in workers],
        served=served,
    )


async def _survey_all(pool: Pool, names: Sequence[str]) -> list[QueueSurvey]:
    found: list[QueueSurvey] = []
    for first in range(0, len(names), QUEUES_AT_ONCE):
        piece = names[first : first + QUEUES_AT_ONCE]
        found += filter(None, await asyncio.gather(*(_survey(pool, name) for name in piece)))
    return found


async def _survey(pool: Pool, name: str) -> QueueSurvey | None:
    try:
        return await survey(pool.store, name)
    except ResponseError as error:  # a key of that name is another program's
        logger.warning("metrics: queue %s is left out: %s", name, error)
        return None


class FleetMetrics:
    """The metrics of the fleet, as a scrape is answered with them: `arqestra metrics` and the dashboard serve these.

    :param read: reads the fleet: `partial(read_fleet, pool)`
    :param kept_s: seconds for which what was read is told again
    :param limit_s: seconds after which a reading counts as failed
    """

    def __init__(
        self, read: Callable[[], Awaitable[FleetReading]], *, kept_s: float = KEPT_S, limit_s: float = LIMIT_S
    ) -> None:
        self._read = read
        self._kept_s = kept_s
        self._limit_s = limit_s
        self._reading: asyncio.Task[FleetReading | None] | None = None
        self._read_at_s = 0.0
        self._away = False
        self._written: dict[str, Exposition] = {}

    async def exposition(self, accept: str = "") -> Exposition:
        """The metrics as text; `arqestra_up 0` and nothing else if Redis does not answer in time.

        :param accept: the request's Accept header
        """
        if self._reading is None or (self._reading.done() and time.monotonic() - self._read_at_s > self._kept_s):
            self._written.clear()
            self._reading = asyncio.create_task(self._read_once())
        reading = self._reading
        read = await asyncio.shield(reading)  # a scrape that is broken off does not spoil it for the others
        written = self._written.get(accept)
        if written is None or reading is not self._reading:
            written = exposition(silence() if read is None else fleet_families(read), accept)
            if reading is self._reading and len(self._written) < MAX_EXPOSITIONS:
                self._written[accept] = written
        return written

    async def _read_once(self) -> FleetReading | None:
        try:
            async with asyncio.timeout(self._limit_s):
                read = await self._read()
        except (RedisError, OSError) as error:  # TimeoutError is an OSError
            if not self._away:
                logger.warning("metrics: Redis does not answer: %s", str(error) or type(error).__name__)
            self._away = True
            return None
        else:
            if self._away:
                logger.warning("metrics: Redis answers again")
            self._away = False
            return read
        finally:
            self._read_at_s = time.monotonic()

    async def close(self) -> None:
        """Read no more."""
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)
            self._reading = None
