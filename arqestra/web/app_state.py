"""What all pages of one dashboard share: a pool that never unpickles, and caches."""

import asyncio
import contextlib
from collections.abc import Iterable
from typing import Any

from arq.connections import RedisSettings
from redis.exceptions import RedisError

from ..client.connect import create_pool, settings_of, sibling
from ..client.pool import Pool
from ..definitions.redact import Redactor, redactor_of
from ..errors import SettingsError
from ..protocol.clock import timestamp_ms
from ..protocol.keys import Keys
from ..store.find import find_queues
from ..store.server import clock_offset_ms
from ..store.store import Store
from .cpu import CpuShares
from .payload_view import Signatures
from .safe_serializer import SAFE_SERIALIZER
from .shared_cache import SharedCache
from .stats_cache import StatsCache

__all__ = ("AppState",)

SCAN_EVERY_S = 60.0  # for queues that only stock arq uses; a scan reads at most 100,000 keys
SCAN_WAIT_S = 0.02


class AppState:
    """The pool and the caches of one dashboard. Each request calls `open`: an app that is mounted has no lifespan.

    :param source: a pool, whose Redis is used, or settings of one
    :param functions: job functions, whose signatures say which arguments are secret
    :param key_prefix: of the application; default the pool's
    :raises SettingsError: the prefix is not valid, or is not the pool's
    """

    def __init__(
        self, source: Pool | RedisSettings | str | None, functions: Iterable[Any] = (), key_prefix: str | None = None
    ) -> None:
        self._source = source
        self._key_prefix = source.key_prefix if isinstance(source, Pool) else Keys.of(key_prefix).key_prefix
        if isinstance(source, Pool) and key_prefix not in (None, source.key_prefix):
            raise SettingsError(
                f"dashboard: key_prefix: expected that of the pool, {source.key_prefix!r}, got {key_prefix!r}"
            )
        self._making: asyncio.Future[Pool] | None = None
        self._pool: Pool | None = None
        self._warming: asyncio.Future[None] | None = None
        self.signatures: Signatures = dict(map(_named, functions))
        self.cache = SharedCache()
        self.cpu = CpuShares()

    async def open(self) -> None:
        """Connect, unless that is done already.

        :raises redis.exceptions.ConnectionError: no Redis answers
        """
        if self._pool is not None:
            return
        if self._making is None or (self._making.done() and self._making.exception() is not None):
            self._making = asyncio.ensure_future(self._connect())
        pool = await asyncio.shield(self._making)
        if self._pool is not None:
            return  # another request waited for the same connection
        self._pool = pool
        self.stats = StatsCache(self._pool.store)
        self._warming = asyncio.ensure_future(self._warm_up())

    async def _connect(self) -> Pool:
        if isinstance(self._source, Pool):
            pool = Pool(sibling(self._source.connection_pool), serializer=SAFE_SERIALIZER, key_prefix=self._key_prefix)
            pool.default_queue_name = self._source.default_queue_name
            pool.clock_offset_ms = await clock_offset_ms(pool)
            return pool
        settings = settings_of(self._source)
        # No retries: a page says at once that Redis does not answer, and the next request tries again.
        return await create_pool(
            settings, retry=settings.conn_retries, serializer=SAFE_SERIALIZER, key_prefix=self._key_prefix
        )

    async def _warm_up(self) -> None:
        with contextlib.suppress(RedisError, OSError):  # then pages read it themselves, and report the error
            await self.stats.warm_up()

    async def close(self) -> None:
        """Close the connections."""
        if self._warming is not None:
            self._warming.cancel()
            await asyncio.gather(self._warming, return_exceptions=True)
        if self._pool is not None:
            pool, self._pool, self._making = self._pool, None, None
            await pool.aclose(close_connection_pool=True)

    @property
    def pool(self) -> Pool:
        """The pool that `open` has made."""
        if self._pool is None:
            raise RuntimeError("expected the dashboard to be open")
        return self._pool

    @property
    def store(self) -> Store:
        return self.pool.store

    def now_ms(self) -> int:
        """The time on Redis' clock."""
        return timestamp_ms() + self.pool.clock_offset_ms

    async def queues(self) -> list[str]:
        """Queues that were used in the last 30 days, and those that only stock arq uses; at least the default one."""
        used = await self.cache.get("queues", self.pool.used_queues)
        scanning = self.cache.get("scan", self._scanned, fresh_s=SCAN_EVERY_S)
        with contextlib.suppress(TimeoutError):  # what takes longer is known the next time
            async with asyncio.timeout(SCAN_WAIT_S):
                used = sorted({*used, *await scanning})
        return used or [self.pool.default_queue_name]

    async def _scanned(self) -> list[str]:
        names, _ = await find_queues(self.store)
        return names


def _named(function: Any) -> tuple[str, Redactor]:
    """Name of a job function, of arq's `func(...)` or of a plain function, and what of its arguments is secret."""
    target = getattr(function, "sync_function", None) or getattr(function, "coroutine", function)
    name = getattr(function, "name", None) or getattr(target, "__qualname__", None)
    if not callable(target) or not isinstance(name, str):
        raise SettingsError(f"dashboard: functions: expected job functions, got {function!r}")
    return name, getattr(function, "redactor", None) or redactor_of(target)
