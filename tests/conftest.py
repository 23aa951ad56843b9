"""A throw-away Redis for every suite: one server a test process, emptied before each test that asks for its URL."""

from __future__ import annotations

from collections.abc import AsyncIterator, Generator, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import redis

from arqestra import Pool, create_pool
from arqestra.embedded import EmbeddedRedis
from tests.support.supervised import Supervise, supervising

# How long an example takes says nothing of the code on a machine that does other things as well.
hypothesis.settings.register_profile("no deadline", deadline=None)
hypothesis.settings.load_profile("no deadline")

# `make test` gives whole files to several processes, in this order: what takes longest must not begin last.
LONGEST_FIRST = (
    "tests/service/test_showcase.py",
    "tests/integration/test_supervisor.py",
    "tests/property/",
    "tests/chaos/",
    "tests/conformance/",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=_place)


def _place(item: pytest.Item) -> int:
    """Of its file among the longest; files of one place, and the tests of a file, keep their order."""
    places = (place for place, start in enumerate(LONGEST_FIRST) if item.nodeid.startswith(start))
    return next(places, len(LONGEST_FIRST))


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


@pytest.fixture
def serializer() -> str:
    """What `pool` serializes with; a module or folder chooses with `tests.support.pools.serializers`."""
    return "pickle"


@pytest.fixture
async def pool(redis_url: str, serializer: str) -> AsyncIterator[Pool]:
    """A pool on the emptied server."""
    async with await create_pool(redis_url, serializer=serializer) as pool:
        yield pool


@pytest.fixture
def supervise(redis_url: str, tmp_path: Path) -> Iterator[Supervise]:
    """Starts `arqestra worker` as a process; none of them outlives the test."""
    with supervising(redis_url, tmp_path) as start:
        yield start


@pytest.hookimpl(wrapper=True)
def pytest_report_to_serializable() -> Generator[None, Any, Any]:
    """A test process sends its reports as UTF-8, and what a job of a test logs may have lone surrogates."""
    return _encodable((yield))


def _encodable(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, list | tuple):
        return type(value)(_encodable(item) for item in value)
    if isinstance(value, dict):
        return {_encodable(name): _encodable(item) for name, item in value.items()}
    return value
