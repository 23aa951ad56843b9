"""A harness for each test: an empty Redis, the store, a clock set by hand."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from tests.support.store_harness import StoreHarness


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    async with Redis.from_url(redis_url) as client:
        yield client


@pytest.fixture(params=[True, False], ids=["functions", "eval"])
def functions(request: pytest.FixtureRequest) -> bool:
    """Whether scripts are called as functions of the library, or by EVAL as on Redis 6.2."""
    return bool(request.param)


@pytest.fixture
async def harness(redis: Redis, functions: bool) -> AsyncIterator[StoreHarness]:
    harness = StoreHarness(redis, functions=functions)
    yield harness
    await harness.store.close()
