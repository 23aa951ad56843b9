"""What code without asyncio has: all methods of the asynchronous handles, with their parameters."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

from arqestra import (
    FlowHandle,
    Job,
    Pool,
    Queue,
    RedisSettings,
    Schedules,
    SyncFlow,
    SyncJob,
    SyncPool,
    SyncQueue,
    SyncSchedules,
    create_pool,
)

PAIRS = [(Job, SyncJob), (FlowHandle, SyncFlow), (Queue, SyncQueue), (Schedules, SyncSchedules), (Pool, SyncPool)]
# How a pool is set up and ended, and what arq's own class brings.
OF_THE_POOL_ALONE = {"aclose", "use_key_prefix", "use_serializer", "key_prefix", "is_observed", "put", "put_many"}
OF_THE_POOL_ALONE |= {"enqueue_observed", "enqueue_many_observed"}
NOT_HERE = {("result", "pole_delay"), ("close", "close_connection_pool")}  # deprecated by arq


def methods(kind: type) -> dict[str, Any]:
    """The public methods and properties that classes of arqestra define."""
    found: dict[str, Any] = {}
    for each in reversed(kind.__mro__):
        if each.__module__.startswith("arqestra."):
            found |= {name: value for name, value in vars(each).items() if not name.startswith("_")}
    return {name: value for name, value in found.items() if callable(value) or isinstance(value, property)}


@pytest.mark.parametrize(("kind", "sync"), PAIRS)
def test_each_method_is_there_and_blocks(kind: type, sync: type) -> None:
    there = methods(sync)

    assert set(methods(kind)) - OF_THE_POOL_ALONE <= set(there)
    assert [name for name, method in there.items() if inspect.iscoroutinefunction(method)] == []


@pytest.mark.parametrize(("kind", "sync"), PAIRS)
def test_parameters_are_the_same(kind: type, sync: type) -> None:
    there = methods(sync)
    for name, method in methods(kind).items():
        if name in OF_THE_POOL_ALONE or isinstance(method, property):
            continue
        expected, found = (inspect.signature(each).parameters for each in (method, there[name]))
        names = [each for each in expected if (name, each) not in NOT_HERE]
        assert names == list(found), name
        assert [expected[each].default for each in names] == [found[each].default for each in names], name


def test_a_pool_takes_what_create_pool_takes() -> None:
    assert inspect.signature(SyncPool).parameters == inspect.signature(create_pool).parameters


def test_what_is_shown_has_no_password() -> None:
    pool = SyncPool(RedisSettings(password="secret"))

    assert "secret" not in repr(pool)
    assert repr(pool.job("an id")) == "<SyncJob an id>"
    assert repr(pool.flow("an id")) == "<SyncFlow an id>"
