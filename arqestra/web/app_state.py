"""What the pages of one dashboard work with: a pool that decodes plain data alone, and what was read for all."""

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
from ..store.health import clock_offset_ms
from ..store.look import find_queues
from ..store.store import Store
from .cpu import ProcessorShares
from .payload_view import Signatures
from .plain import PLAIN
from .shared_cache import Readings
from .stats_cache import Counted

__all__ = ("Site",)

SCAN_EVERY_S = 60.0  # for queues that nothing of ours has used: at most 100,000 keys are looked at
SCAN_WAIT_S = 0.02


class Site:
    """One dashboard over one Redis. Its pool is its own, made when it is first needed: a mounted app has no lifespan.

    :param source: a pool, whose Redis is used, or settings of one
    :param functions: job functions, whose signatures say which arguments are secret
    :param key_prefix: of the application; default the pool's
    :raises SettingsError: the prefix is none, or another one than the pool's
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
        self.readings = Readings()
        self.cpu = ProcessorShares()

    async def open(self) -> None:
        """Connect, if that was not done.

        :raises redis.exceptions.ConnectionError: no Redis answers
        """
        if self._pool is not None:
            return
        if self._making is None or (self._making.done() and self._making.exception() is not None):
            self._making = asyncio.ensure_future(self._connect())
        pool = await asyncio.shield(self._making)
        if self._pool is not None:
            return  # somebody else has waited for the same
        self._pool = pool
        self.counted = Counted(self._pool.store)
        self._warming = asyncio.ensure_future(self._warm_up())

    async def _connect(self) -> Pool:
        if isinstance(self._source, Pool):
            pool = Pool(sibling(self._source.connection_pool), serializer=PLAIN, key_prefix=self._key_prefix)
            pool.default_queue_name = self._source.default_queue_name
            pool.clock_offset_ms = await clock_offset_ms(pool)
            return pool
        settings = settings_of(self._source)
        # Without tries of its own: a page says at once that Redis does not answer, and the next one tries again.
        return await create_pool(settings, retry=settings.conn_retries, serializer=PLAIN, key_prefix=self._key_prefix)

    async def _warm_up(self) -> None:
        with contextlib.suppress(RedisError, OSError):  # pages read it then, and say so
            await self.counted.warm_up()

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
        """The pool; `open` has made it."""
        if self._pool is None:
            raise RuntimeError("expected an open site")
        return self._pool

    @property
    def store(self) -> Store:
        return self.pool.store

    def now_ms(self) -> int:
        """The time on Redis' clock."""
        return timestamp_ms() + self.pool.clock_offset_ms

    async def queues(self) -> list[str]:
        """Queues that were used in the last 30 days, and those that only stock arq uses; at least the default one."""
        used = await self.readings.get("queues", self.pool.used_queues)
        scanning = self.readings.get("scan", self._scanned, fresh_s=SCAN_EVERY_S)
        with contextlib.suppress(TimeoutError):  # what takes longer is known the next time
            async with asyncio.timeout(SCAN_WAIT_S):
                used = sorted({*used, *await scanning})
        return used or [self.pool.default_queue_name]

    async def _scanned(self) -> list[str]:
        names, _ = await find_queues(self.store)
        return names


def _named(function: Any) -> tuple[str, Redactor]:
    """Name of a job function, of arq's `func(...)` or of a plain function, and what of its arguments is secret."""
    target = getattr(function, "plain", None) or getattr(function, "coroutine", function)
    name = getattr(function, "name", None) or getattr(target, "__qualname__", None)
    if not callable(target) or not isinstance(name, str):
        raise SettingsError(f"dashboard: functions: expected job functions, got {function!r}")
    return name, getattr(function, "redactor", None) or redactor_of(target)
