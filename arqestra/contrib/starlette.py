"""Starlette and FastAPI: a pool for the time that the application runs, and a worker beside it for development.

jobs = Jobs("redis://localhost:6379")
app = FastAPI(lifespan=jobs.lifespan)

@app.post("/welcome/{address}")
async def welcome(address: str, pool: Annotated[Pool, Depends(jobs.pool)]) -> str: ...
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Any

from arq.connections import RedisSettings
from starlette.requests import HTTPConnection

from ..client.connect import create_pool
from ..client.pool import Pool
from ..worker.beside import running
from ..worker.settings_source import settings_in
from ..worker.worker import Worker

__all__ = ("Jobs",)

logger = logging.getLogger("arqestra.contrib")

Lifespan = Callable[[Any], AbstractAsyncContextManager[Mapping[str, Any] | None]]
STATE = "arqestra_pool"


class Jobs:
    """The jobs of one application. It may be mounted in several: each has a pool of its own while it runs.

    :param redis_settings: `RedisSettings` or a URL, as of `create_pool`
    :param lifespan: the application's own; it runs within ours, so it may use the pool
    :param worker: settings of a worker that runs in the same process and event loop, for development; None for none.
        In production workers are processes of their own
    :param create: further arguments of `create_pool`
    """

    def __init__(
        self,
        redis_settings: RedisSettings | str | None = None,
        *,
        lifespan: Lifespan | None = None,
        worker: Any = None,
        **create: Any,
    ) -> None:
        self._redis_settings = redis_settings
        self._lifespan = lifespan
        self._worker = worker
        self._create = create

    @asynccontextmanager
    async def lifespan(self, app: Any) -> AsyncIterator[dict[str, Any]]:
        """What an application is given as its lifespan: it connects at the start, and closes at the end.

        :param app: of Starlette or FastAPI
        :raises redis.exceptions.ConnectionError, redis.exceptions.TimeoutError: no Redis answers
        """
        async with AsyncExitStack() as stack:
            pool = await stack.enter_async_context(await create_pool(self._redis_settings, **self._create))
            setattr(app.state, STATE, pool)
            stack.callback(delattr, app.state, STATE)
            if self._worker is not None:
                task = await stack.enter_async_context(running(self._new_worker()))
                task.add_done_callback(_tell_of_end)
                stack.callback(task.remove_done_callback, _tell_of_end)
            given = None if self._lifespan is None else await stack.enter_async_context(self._lifespan(app))
            yield dict(given or {})

    def pool(self, connection: HTTPConnection) -> Pool:
        """The pool of the application that a request or a WebSocket belongs to: a dependency for FastAPI's `Depends`,
        and for `await jobs.pool(request).enqueue(...)` in Starlette.

        :raises RuntimeError: the lifespan has not run
        """
        pool = getattr(connection.app.state, STATE, None)
        if pool is None:
            raise RuntimeError(
                "expected an application that runs with lifespan=jobs.lifespan; in tests enter it: with TestClient(app)"
            )
        found: Pool = pool
        return found

    def _new_worker(self) -> Worker:
        settings = {"redis_settings": self._redis_settings, **self._create, **settings_in(self._worker)}
        settings |= {"handle_signals": False, "metrics_port": None}
        if "default_queue_name" in settings:
            settings.setdefault("queue_name", settings.pop("default_queue_name"))
        settings.pop("max_payload_bytes", None)
        settings.pop("retry", None)
        return Worker(**settings)


def _tell_of_end(task: "asyncio.Task[None]") -> None:
    """A worker that ends while the application runs is missed."""
    error = None if task.cancelled() else task.exception()
    logger.critical("the worker beside this application has ended: %s", error or "it was stopped", exc_info=error)
