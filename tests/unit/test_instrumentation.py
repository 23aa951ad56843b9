"""Wrappers of arq's functions, made anew around ours."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import Any
from unittest.mock import AsyncMock, MagicMock, create_autospec

import arq.worker
import pytest
import wrapt
from arq.connections import ArqRedis

from arqestra import Pool, Worker, func
from arqestra.drop_in.instrumentation import PLAIN_ENQUEUE, bottom_of, mention_unknown_wrapper, rewrapped

ARQS = ArqRedis.enqueue_job


def wrapper_of(called: Callable[..., Any], calls: list[str], name: str = "wrapper") -> Callable[..., Any]:
    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        calls.append(name)
        return await called(*args, **kwargs)

    return wrapper


async def ours(*args: Any, **kwargs: Any) -> tuple[Any, ...]:
    return args


def test_arqs_own_function_is_replaced_by_ours() -> None:
    assert PLAIN_ENQUEUE is ARQS
    assert rewrapped(ARQS, ours) is ours


async def test_layers_are_kept_and_the_original_is_not_changed() -> None:
    calls: list[str] = []
    inner = wrapper_of(ARQS, calls, "inner")
    outer = functools.wraps(inner)(wrapper_of(inner, calls, "outer"))

    made = rewrapped(outer, ours)

    assert await made(1, 2) == (1, 2)
    assert calls == ["outer", "inner"]
    assert bottom_of(outer) is ARQS


async def test_what_has_two_ways_to_arqs_function_goes_both_ways_to_ours() -> None:
    """Sentry's `ensure_integration_enabled` does."""
    calls: list[str] = []
    original: Any = ARQS
    patched, enabled = wrapper_of(original, calls), [True]

    async def runner(*args: Any) -> Any:
        return await (patched(*args) if enabled[0] else original(*args))

    made = rewrapped(runner, ours)

    assert await made(1) == (1,)
    enabled[0] = False
    assert await made(2) == (2,)
    assert calls == ["wrapper"]


async def test_defaults_of_a_wrapper_are_kept() -> None:
    original: Any = ARQS

    async def wrapper(value: int = 7, *, more: int = 8) -> Any:
        return await original(value, more)

    assert await rewrapped(wrapper, ours)() == (7, 8)


class OfAnotherKind:
    """What keeps the function in an attribute cannot be followed."""

    def __init__(self, called: Any) -> None:
        self._called = called

    def __get__(self, instance: Any, _: Any) -> Any:
        return functools.partial(self._called, instance)


def cyclic() -> Any:
    def first() -> Any:
        return second

    def second() -> Any:
        return first

    return first


@pytest.mark.parametrize("patched", [OfAnotherKind(ARQS), functools.partial(ARQS), lambda: ARQS, print, None, cyclic()])
def test_what_is_not_understood_is_none(patched: Any) -> None:
    assert rewrapped(patched, ours) is None


async def test_a_pool_enqueues_through_what_was_put_around_arqs_enqueue_job(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[Any, ...]] = []
    enqueue_job: Any = ARQS

    async def closure(self: ArqRedis, function: str, *args: Any, **kwargs: Any) -> Any:
        seen.append((self, function, args, kwargs))
        return await enqueue_job(self, function, *args, **kwargs, tenant="t")

    monkeypatch.setattr(ArqRedis, "enqueue_job", closure)
    job = await pool.enqueue_job("f", 1, _job_id="a", _queue_name="q", function_="x", _priority=3)

    assert seen == [(pool, "f", (1,), {"_job_id": "a", "_queue_name": "q", "function_": "x"})]
    assert job is not None
    info = await job.info()
    assert info is not None
    assert (info.args, info.kwargs) == ((1,), {"function_": "x", "tenant": "t"})
    assert await pool.enqueue_job("f", 1, _job_id="a", _queue_name="q") is None


async def test_an_error_of_the_enqueue_passes_through_the_wrapper(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[BaseException] = []
    enqueue_job: Any = ARQS

    async def wrapper(self: ArqRedis, function: str, *args: Any, **kwargs: Any) -> Any:
        try:
            return await enqueue_job(self, function, *args, **kwargs)
        except Exception as error:
            seen.append(error)
            raise

    monkeypatch.setattr(ArqRedis, "enqueue_job", wrapper)
    pool.max_payload_bytes = 10
    with pytest.raises(Exception, match="max_payload_bytes") as raised:
        await pool.enqueue_job("f", "x" * 100)
    with pytest.raises(Exception, match="max_payload_bytes") as raised_many:
        await pool.enqueue_many([("f", (1,)), ("f", ("x" * 100,))])

    assert seen == [raised.value, raised_many.value]


async def test_a_wrapper_that_cannot_be_followed_is_told_once_and_nothing_is_lost(
    pool: Pool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    mention_unknown_wrapper.cache_clear()
    monkeypatch.setattr(ArqRedis, "enqueue_job", OfAnotherKind(ARQS))
    with caplog.at_level(logging.WARNING, "arq.connections"):
        assert await pool.enqueue_job("f") is not None
        assert all(await pool.enqueue_many([("f",), ("f",)]))

    (record,) = caplog.records
    assert "ArqRedis.enqueue_job was replaced by" in record.getMessage()
    assert "Middleware" in record.getMessage()


@pytest.mark.parametrize("mock", [AsyncMock(), MagicMock(spec=ARQS), create_autospec(ARQS)])
async def test_a_mock_of_arqs_enqueue_job_leaves_ours_as_it_is(
    pool: Pool, monkeypatch: pytest.MonkeyPatch, mock: Any
) -> None:
    """Tests that still patch `arq.connections`: a mock has every attribute, those of wrapt's wrappers too."""
    monkeypatch.setattr(ArqRedis, "enqueue_job", mock)
    assert await pool.enqueue_job("f", _job_id="a") is not None
    assert all(await pool.enqueue_many([("f",), ("f",)]))
    assert [job.function for job in await pool.queued_jobs()] == ["f"] * 3
    assert not mock.called


async def test_wrapt_wrappers_are_made_anew(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenTelemetry's instrumentations are of this kind."""
    seen: list[tuple[Any, ...]] = []

    async def traced(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
        seen.append((instance, args, kwargs))
        return await wrapped(*args, **kwargs)

    monkeypatch.setattr(ArqRedis, "enqueue_job", wrapt.FunctionWrapper(ARQS, traced))
    job = await pool.enqueue_job("f", 1, two=2)

    assert job is not None
    assert seen == [(pool, ("f", 1), {"two": 2})]


class Timed:
    """A tool's wrapper of a job that is no function."""

    def __init__(self, coroutine: Any, seen: list[str]) -> None:
        self.coroutine = coroutine
        self.seen = seen

    async def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.seen.append("in")
        return await self.coroutine(*args, **kwargs)


async def _timed(coroutine: Any, seen: list[str], *args: Any) -> Any:
    seen.append("in")
    return await coroutine(*args)


@pytest.mark.parametrize("wrap", [Timed, functools.partial(functools.partial, _timed)])
async def test_jobs_run_through_wrappers_that_are_no_functions(
    redis_url: str, pool: Pool, monkeypatch: pytest.MonkeyPatch, wrap: Any
) -> None:
    seen: list[str] = []
    inner = arq.worker.create_worker

    def create_worker(settings: Any, **keywords: Any) -> Any:
        for each in settings.functions:
            each.coroutine = wrap(each.coroutine, seen)
        return inner(settings, **keywords)

    async def double(ctx: dict[Any, Any], number: int) -> int:
        return number * 2

    monkeypatch.setattr(arq.worker, "create_worker", create_worker)
    job = await pool.enqueue_job("double", 4)
    assert job is not None
    worker = Worker([func(double, name="double")], redis_settings=redis_url, burst=True, handle_signals=False)
    await worker.async_run()
    await worker.close()
    assert await job.result(timeout=5) == 8
    assert seen == ["in"]
