"""Fixtures of arqestra for pytest. They import nothing of it until a test uses one: see docs/testing.md.

- `arqestra_redis`: URL of an empty server, one for each test process
- `arqestra_pool`: a pool on it; a module's or folder's own `arqestra_pool_settings` says with which settings
- `arqestra_worker`: makes workers on it
- `arqestra_clock`: moves the time

Asynchronous fixtures need pytest-asyncio, or anyio's plugin.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pytest_asyncio import fixture as async_fixture

    from arqestra import Pool
    from arqestra.embedded import EmbeddedRedis
    from arqestra.testing import Clock, TestWorker
else:
    try:
        from pytest_asyncio import fixture as async_fixture
    except ImportError:  # anyio's plugin takes plain fixtures that are coroutine functions
        async_fixture = pytest.fixture


@pytest.fixture(scope="session")
def arqestra_server() -> Iterator[EmbeddedRedis]:
    """A server of this test process; never the one of REDIS_URL, as tests empty it."""
    from arqestra.embedded import EmbeddedRedis

    with EmbeddedRedis(use_environment=False) as server:
        yield server


@pytest.fixture
def arqestra_redis(arqestra_server: EmbeddedRedis) -> str:
    """URL of a Redis without any key in it."""
    import redis

    with redis.Redis.from_url(arqestra_server.url) as client:
        client.flushall()
    return arqestra_server.url


@pytest.fixture
def arqestra_pool_settings() -> dict[str, Any]:
    """Arguments of `create_pool` for `arqestra_pool`; define a fixture of this name to change them."""
    return {}


@async_fixture
async def arqestra_pool(arqestra_redis: str, arqestra_pool_settings: dict[str, Any]) -> AsyncIterator[Pool]:
    """A pool on the empty Redis."""
    from arqestra import create_pool

    async with await create_pool(arqestra_redis, **arqestra_pool_settings) as pool:
        yield pool


@async_fixture
async def arqestra_worker(arqestra_pool: Pool) -> AsyncIterator[Callable[..., TestWorker]]:
    """Makes a worker: `worker = arqestra_worker([f], **settings)`, then `await worker.main()`, which runs until the
    queue is empty. They are closed after the test.
    """
    from arqestra.testing import make_worker

    made = []

    def make(functions: Any = (), **settings: Any) -> TestWorker:
        made.append(make_worker(arqestra_pool, functions, **settings))
        return made[-1]

    yield make
    for worker in made:
        await worker.close()


@pytest.fixture
def arqestra_clock(arqestra_redis: str) -> Iterator[Clock]:
    """The time: `arqestra_clock.travel(hours=3)`. After the test the system's clock counts again."""
    from arqestra.testing import travelling

    with travelling(arqestra_redis) as clock:
        yield clock
