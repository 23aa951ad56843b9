"""A failure is made into text once: for the log, the result and the history of attempts."""

from __future__ import annotations

import io
import logging
import traceback
from collections.abc import Callable
from typing import Any

import pytest

from arqestra import Pool, func
from arqestra.protocol import wire
from arqestra.worker.run import attempt
from tests.support.replies import accepted
from tests.support.workers import worker_running


async def plain(ctx: dict[Any, Any]) -> None:
    raise ValueError("no good")


async def caused(ctx: dict[Any, Any]) -> None:
    try:
        await plain(ctx)
    except ValueError as error:
        raise RuntimeError("because of that") from error


async def grouped(ctx: dict[Any, Any]) -> None:
    raise ExceptionGroup("several", [ValueError("one"), KeyError("two")])


async def noted(ctx: dict[Any, Any]) -> None:
    error = ValueError("no good")
    error.add_note("a note")
    raise error


FUNCTIONS = [func(each, max_tries=1) for each in (plain, caused, grouped, noted)]


def count_calls(monkeypatch: pytest.MonkeyPatch, where: Any, name: str, calls: list[str]) -> None:
    original: Callable[..., Any] = getattr(where, name)

    def counted(*args: Any, **kwargs: Any) -> Any:
        calls.append(name)
        return original(*args, **kwargs)

    monkeypatch.setattr(where, name, counted)


@pytest.mark.parametrize("name", ["plain", "caused", "grouped", "noted"])
async def test_a_failing_job_is_formatted_once(pool: Pool, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    for where in (attempt, wire):
        count_calls(monkeypatch, where, "traceback_of", calls)
    count_calls(monkeypatch, logging.Formatter, "formatException", calls)
    count_calls(monkeypatch, traceback, "format_exception", calls)
    count_calls(monkeypatch, traceback, "print_exception", calls)
    written = io.StringIO()
    handler = logging.StreamHandler(written)
    logging.getLogger("arq.worker").addHandler(handler)
    try:
        async with worker_running(pool, functions=FUNCTIONS):
            job = accepted(await pool.enqueue_job(name))
            with pytest.raises((ValueError, RuntimeError, ExceptionGroup)) as caught:
                await job.result(timeout=10)
    finally:
        logging.getLogger("arq.worker").removeHandler(handler)

    assert calls == ["traceback_of"]
    [error] = await job.errors()
    assert error.traceback.startswith(("Traceback (most recent call last):\n", "  + Exception Group Traceback"))
    assert error.traceback in written.getvalue()
    assert error.traceback in str(caught.value.__cause__)
