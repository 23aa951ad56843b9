"""The exporter of the fleet: answers scrapes with the metrics of the whole fleet.

`arqestra metrics` and the dashboard serve it. Scrapes that come together, or within a second, share one snapshot.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

from redis.exceptions import RedisError

from .exposition import Exposition, families_of_fleet, families_without_redis, text_of
from .fleet import FleetSnapshot

__all__ = ("FleetExporter",)

logger = logging.getLogger("arq.metrics")

KEPT_S = 1.0
LIMIT_S = 5.0  # half of Prometheus' default for a scrape
MAX_EXPOSITIONS = 8  # Accept headers whose text is kept: there are two or three kinds of scrapers


class FleetExporter:
    """Reads the fleet when it is scraped, and keeps what it read for a second.

    :param read: reads the fleet: `partial(read_fleet, pool)`
    :param kept_s: seconds for which a snapshot answers further scrapes
    :param limit_s: seconds after which a read has failed
    """

    def __init__(
        self, read: Callable[[], Awaitable[FleetSnapshot]], *, kept_s: float = KEPT_S, limit_s: float = LIMIT_S
    ) -> None:
        self._read = read
        self._kept_s = kept_s
        self._limit_s = limit_s
        self._reader: asyncio.Task[FleetSnapshot | None] | None = None
        self._read_at_s = 0.0
        self._away = False
        self._texts: dict[str, Exposition] = {}

    async def exposition(self, accept: str = "") -> Exposition:
        """The metrics as text; only `arqestra_up 0` if Redis does not answer in time.

        :param accept: the request's Accept header
        """
        if self._reader is None or (self._reader.done() and time.monotonic() - self._read_at_s > self._kept_s):
            self._texts.clear()
            self._reader = asyncio.create_task(self._read_once())
        reader = self._reader
        snapshot = await asyncio.shield(reader)  # a scrape that hangs up must not cancel the read for the others
        text = self._texts.get(accept)
        if text is None or reader is not self._reader:
            text = text_of(families_without_redis() if snapshot is None else families_of_fleet(snapshot), accept)
            if reader is self._reader and len(self._texts) < MAX_EXPOSITIONS:
                self._texts[accept] = text
        return text

    async def _read_once(self) -> FleetSnapshot | None:
        try:
            async with asyncio.timeout(self._limit_s):
                snapshot = await self._read()
        except (RedisError, OSError) as error:  # TimeoutError is an OSError
            if not self._away:
                logger.warning("metrics: Redis does not answer: %s", str(error) or type(error).__name__)
            self._away = True
            return None
        else:
            if self._away:
                logger.warning("metrics: Redis answers again")
            self._away = False
            return snapshot
        finally:
            self._read_at_s = time.monotonic()

    async def close(self) -> None:
        """Stop reading."""
        if self._reader is not None:
            self._reader.cancel()
            await asyncio.gather(self._reader, return_exceptions=True)
            self._reader = None
