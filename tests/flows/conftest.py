"""A pool and workers for the flow tests."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest

from arqestra import Pool, Worker
from tests.flows import flow_jobs as jobs
from tests.support.pools import serializers
from tests.support.workers import worker_running

Working = Callable[..., AbstractAsyncContextManager[Worker]]


@pytest.fixture(autouse=True)
def fresh() -> None:
    jobs.RUNS.clear()
    jobs.GATES.clear()
    jobs.SWITCHES.clear()


serializer = serializers("pickle", "msgpack")


@pytest.fixture
def working(pool: Pool) -> Working:
    """A worker in this loop; of other functions than those of `flow_jobs`, if these are given."""

    @contextlib.asynccontextmanager
    async def work(functions: Sequence[Any] = (), **settings: Any) -> AsyncIterator[Worker]:
        async with worker_running(pool, functions=functions or jobs.ALL, **settings) as worker:
            yield worker
            for gate in jobs.GATES.values():
                gate.set()

    return work


async def keys_of_flows(pool: Pool) -> set[str]:
    """What Redis holds beside statistics, what workers tell, and history of errors that has a TTL."""
    kept = (
        *("arqestra:stats", "arqestra:recorded", "arqestra:recent", "arqestra:queues", "arqestra:waiting"),
        *("arqestra:dead", "arqestra:workers", "arqestra:presence", "arqestra:libraries", "arq:queue:health-check"),
    )
    return {key.decode() for key in await pool.keys("*") if not key.decode().startswith(kept)}
