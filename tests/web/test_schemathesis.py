"""The API under everything that its description allows, and some that it does not: never an error of the server."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
import redis
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok

from arqestra import create_pool
from arqestra.embedded import EmbeddedRedis
from tests.support.dashboard_process import served
from tests.support.hostile_text import EVIL

EXAMPLES = 12


@pytest.fixture
async def url(redis_url: str) -> str:
    pool = await create_pool(redis_url, serializer="msgpack")
    await pool.enqueue_job("add", 1, _job_id="0")
    await pool.enqueue_job(EVIL, 1, _job_id=EVIL, _defer_by=3600)
    await pool.aclose()
    return redis_url


@pytest.fixture
def described(url: str) -> Iterator[schemathesis.BaseSchema]:
    with served(url) as address:
        yield schemathesis.openapi.from_url(f"{address}/api/openapi.json")


def test_the_api_has_no_server_error(described: schemathesis.BaseSchema, redis_server: EmbeddedRedis) -> None:
    count = 0
    for found in described.get_all_operations():
        assert isinstance(found, Ok)
        operation = found.ok()
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
            calls = settings(
                max_examples=EXAMPLES,
                deadline=None,
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
                database=None,
            )(given(case=operation.as_strategy(generation_mode=mode))(_call))
            with suppress(Unsatisfiable):  # what takes no parameter cannot be called wrongly
                calls()
            count += 1
    assert count > 40
    with redis.Redis.from_url(redis_server.url) as client:
        assert client.ping()


def _call(case: schemathesis.Case[Any]) -> None:
    case.validate_response(case.call(timeout=20), checks=[not_a_server_error])
