"""A throw-away Redis for every suite: one server a session, emptied before each test that asks for its URL."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis

from arqestra.embedded import EmbeddedRedis


@pytest.fixture(scope="session")
def redis_server() -> Iterator[EmbeddedRedis]:
    """A server that tests may empty and fill as they like; never the one of REDIS_URL."""
    with EmbeddedRedis(use_environment=False) as server:
        yield server


@pytest.fixture
def redis_url(redis_server: EmbeddedRedis) -> str:
    """URL of the session's server, without any key in it."""
    with redis.Redis.from_url(redis_server.url) as client:
        client.flushall()
    return redis_server.url
