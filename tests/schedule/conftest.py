"""A stage for each test: an empty Redis, the schedules' store, a clock set by hand."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from tests.schedule.harness import Stage


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    async with Redis.from_url(redis_url) as client:
        yield client


@pytest.fixture
async def stage(redis: Redis) -> AsyncIterator[Stage]:
    stage = Stage(redis)
    yield stage
    await stage.jobs.close()
