"""When jobs run in a test: at once, or when the test says so."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import wraps
from typing import Any

from ..client.connect import create_pool
from ..client.pool import Pool
from ..definitions.context import current_job
from ..embedded.server import EmbeddedRedis
from .drain import drain

__all__ = ("inline", "manual")

# All ways in which a pool makes a job due.
_WAYS = ("enqueue", "enqueue_job", "enqueue_many", "enqueue_flow", "signal")


@asynccontextmanager
async def manual(pool: Pool | None = None, **create: Any) -> AsyncIterator[Pool]:
    """A pool whose jobs run when `drain` is called, and not before: no worker is there.

    :param pool: default a new one, on a server that is started for it
    :param create: further arguments of `create_pool` for that one
    """
    async with AsyncExitStack() as stack:
        if pool is None:
            server = stack.enter_context(EmbeddedRedis(use_environment=False))
            pool = await stack.enter_async_context(await create_pool(server.url, **create))
        with _OwnWays(pool):
            yield pool


@asynccontextmanager
async def inline(functions: Any, pool: Pool | None = None, **settings: Any) -> AsyncIterator[Pool]:
    """A pool whose jobs run at once: an enqueue returns when the job has ended, and all that it has enqueued.

    A job that is due later runs at once, too: the time goes forward to it, and back. A job that fails is no error of
    the enqueue: its `result()` raises. Within jobs an enqueue returns at once, as always.

    :param functions: job functions, or the settings class of an application's worker
    :param pool: default a new one, on a server that is started for it
    :param settings: further settings of the worker
    """
    async with manual(pool) as pool_:
        running = asyncio.Lock()
        with _OwnWays(pool_):
            for way in _WAYS:
                setattr(pool_, way, _then_drained(pool_, getattr(Pool, way), running, functions, settings))
            yield pool_


class _OwnWays:
    """Within this the ways of a pool may be set; afterwards they are as before."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._before: dict[str, Any] = {}

    def __enter__(self) -> None:
        self._before = {way: vars(self._pool).pop(way) for way in _WAYS if way in vars(self._pool)}

    def __exit__(self, *_: object) -> None:
        for way in _WAYS:
            vars(self._pool).pop(way, None)
        vars(self._pool).update(self._before)


def _then_drained(
    pool: Pool, way: Callable[..., Any], running: asyncio.Lock, functions: Any, settings: dict[str, Any]
) -> Callable[..., Any]:
    @wraps(way)
    async def run(*args: Any, **kwargs: Any) -> Any:
        found = await way(pool, *args, **kwargs)
        if current_job() is None:
            async with running:
                await drain(pool, functions, **settings)
        return found

    return run
