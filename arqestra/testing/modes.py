"""When jobs run in a test: at once, or when the test says so."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Container, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from contextvars import ContextVar
from functools import wraps
from typing import Any
from weakref import WeakKeyDictionary

from ..client.connect import create_pool
from ..client.pool import Pool
from ..embedded.server import EmbeddedRedis
from .clock import check_pool
from .drain import drain, job_of_worker

__all__ = ("inline", "manual")

# All ways in which a pool makes a job due, and the scripts by which handles of jobs, flows and schedules do.
_WAYS = ("enqueue", "enqueue_job", "enqueue_many", "enqueue_flow", "signal")
_SCRIPTS = ("signal", "schedule_fire", "flow_start", "flow_resume")
RunAll = Callable[[], Awaitable[None]]
_modes: WeakKeyDictionary[Pool, list[RunAll | None]] = WeakKeyDictionary()
_in_way: ContextVar[bool] = ContextVar("in_way", default=False)


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
        check_pool("inline or manual", pool)
        with _mode(pool, None):
            yield pool


@asynccontextmanager
async def inline(functions: Any, pool: Pool | None = None, **settings: Any) -> AsyncIterator[Pool]:
    """A pool whose jobs run at once: an enqueue returns when the job has ended, and all that it has enqueued. So do a
    retry, a signal, and whatever else makes a job due.

    A job that is due later runs at once, too: the time goes forward to it, and back. A job that fails is no error of
    the enqueue: its `result()` raises. Within jobs an enqueue returns at once, as always.

    :param functions: job functions, or the settings class of an application's worker
    :param pool: default a new one, on a server that is started for it
    :param settings: further settings of the worker
    """
    async with manual(pool) as pool_:
        running = asyncio.Lock()

        async def run_all() -> None:
            async with running:
                await drain(pool_, functions, **settings)

        with _mode(pool_, run_all):
            yield pool_


@contextmanager
def _mode(pool: Pool, run_all: RunAll | None) -> Iterator[None]:
    """Within this, jobs that the pool makes due are run by that; None: they are not. The innermost mode counts."""
    modes = _modes.get(pool)
    if modes is not None:
        modes.append(run_all)
        try:
            yield
        finally:
            modes.pop()
    elif run_all is None:
        yield
    else:
        modes = _modes[pool] = [run_all]
        try:
            with _set(pool, {way: _then(pool, modes, getattr(pool, way), is_way=True) for way in _WAYS}):
                store = pool.store
                then = {
                    "requeue": _then(pool, modes, store.requeue),
                    "call": _then(pool, modes, store.call, only=_SCRIPTS),
                }
                with _set(store, then):
                    yield
        finally:
            del _modes[pool]


@contextmanager
def _set(target: Any, attributes: dict[str, Any]) -> Iterator[None]:
    """Within this the object has these attributes; afterwards its own again, and those of its class."""
    own = vars(target)
    before = {name: own[name] for name in attributes if name in own}
    own.update(attributes)
    try:
        yield
    finally:
        for name in attributes:
            own.pop(name, None)
        own.update(before)


def _then(
    pool: Pool,
    modes: list[RunAll | None],
    way: Callable[..., Awaitable[Any]],
    *,
    is_way: bool = False,
    only: Container[str] = (),
) -> Callable[..., Awaitable[Any]]:
    """This way of making a job due, after which the job is run.

    :param is_way: what it calls does not run the job itself
    :param only: if its first argument is one of these; default always
    """

    @wraps(way)
    async def run(*args: Any, **kwargs: Any) -> Any:
        token = _in_way.set(_in_way.get() or is_way)
        try:
            found = await way(*args, **kwargs)
        finally:
            _in_way.reset(token)
        run_all = modes[-1]
        if run_all and not _in_way.get() and (not only or args[0] in only) and await job_of_worker(pool) is None:
            await run_all()
        return found

    return run
