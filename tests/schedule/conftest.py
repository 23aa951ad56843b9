"""A harness for each test: an empty Redis, the schedules' store, a clock set by hand."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from tests.schedule import scheduled_jobs as jobs
from tests.schedule.harness import ScheduleHarness


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    async with Redis.from_url(redis_url) as client:
        yield client


@pytest.fixture
async def harness(redis: Redis) -> AsyncIterator[ScheduleHarness]:
    harness = ScheduleHarness(redis)
    yield harness
    await harness.jobs.close()


@pytest.fixture(autouse=True)
def fresh() -> None:
    jobs.RUNS.clear()
    jobs.GATES.clear()
    jobs.AT_ONCE[:] = [0, 0]
