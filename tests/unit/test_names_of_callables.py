"""Two callables of one name: one of them would never run, so the worker is not made, and both are named."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import wraps
from typing import Any

import arq
import arq.worker
import pytest

from arqestra import Flow, SettingsError, Timetable, Worker, cron, func, job, schedule, workflow


class Sender:
    async def send(self, ctx: Any) -> None:
        """A method."""

    @staticmethod
    async def ring(ctx: Any) -> None:
        """A function in a class."""


def made(text: str) -> Callable[..., Any]:
    async def inner(ctx: Any) -> str:
        return text

    return inner


async def tidy(ctx: Any) -> None:
    """A job."""


def plain(ctx: Any) -> None:
    """A plain one."""


def decorated(function: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(function)
    async def around(*args: Any) -> Any:
        return await function(*args)

    return around


@workflow
async def order(flow: Flow) -> None:
    """A workflow."""


one, other = Sender(), Sender()
a, b = made("a"), made("b")
other_tidy = job(name="tidy")(a)
TWICE: dict[str, Callable[[], dict[str, Any]]] = {
    "closures": lambda: {"functions": [a, b]},
    "named alike": lambda: {"functions": [tidy, func(a, name="tidy")]},
    "arq's func": lambda: {"functions": [arq.worker.func(a, name="x"), arq.worker.func(b, name="x")]},
    "methods of two objects": lambda: {"functions": [one.send, other.send]},
    "decorated and not": lambda: {"functions": [tidy, decorated(tidy)]},
    "a plain one": lambda: {"functions": [plain, func(a, name="plain")]},
    "a workflow": lambda: {"functions": [order, func(a, name="order")]},
    "two cron jobs": lambda: {"functions": [], "cron_jobs": [cron(a, hour=1), cron(b, hour=2)]},
    "two of arq's": lambda: {"functions": [], "cron_jobs": [arq.cron(a, name="c"), arq.cron(b, name="c")]},
    "cron job and function": lambda: {"functions": [func(a, name="cron:tidy")], "cron_jobs": [cron(tidy, hour=1)]},
    "cron job among the schedules": lambda: {"functions": [a], "schedules": [cron(b, name=a.__qualname__, hour=1)]},
    "function and schedule": lambda: {"functions": [tidy], "schedules": [schedule("* * * * *", other_tidy)]},
    "schedule of a raw one": lambda: {"functions": [a], "schedules": [schedule("* * * * *", b)]},
    "two schedules": lambda: {
        "functions": [tidy],
        "schedules": [schedule("* * * * *", a, name="1"), schedule("* * * * *", b, name="2")],
    },
}


@pytest.mark.parametrize("case", TWICE)
async def test_two_callables_of_one_name_are_refused(case: str) -> None:
    with pytest.raises(SettingsError, match="expected one callable of the name") as caught:
        Worker(**TWICE[case]())
    assert str(caught.value).count(__name__) == 2  # both are named


def test_a_timetable_refuses_them_too() -> None:
    with pytest.raises(SettingsError, match="expected one callable of the name"):
        Timetable([schedule("* * * * *", a, name="1"), schedule("* * * * *", b, name="2")])


HARMLESS: dict[str, Callable[[], dict[str, Any]]] = {
    "twice the same": lambda: {"functions": [tidy, tidy, plain, plain, order, order]},
    "by its name and itself": lambda: {"functions": [f"{__name__}.tidy", tidy]},
    "a method twice": lambda: {"functions": [one.send, one.send, Sender.ring, one.ring]},
    "several cron jobs of one": lambda: {"functions": [tidy], "cron_jobs": [cron(tidy, hour=1), cron(tidy, hour=2)]},
    "a job function in all of them": lambda: {
        "functions": [other_tidy, other_tidy],
        "cron_jobs": [cron(other_tidy, hour=1)],
        "schedules": [schedule("* * * * *", other_tidy), schedule("* * * * *", "tidy", name="by name")],
    },
    "a schedule of another worker's function": lambda: {"functions": [a], "schedules": [schedule("* * * * *", tidy)]},
    "a plain one with a schedule": lambda: {"functions": [plain], "schedules": [schedule("* * * * *", plain)]},
}


@pytest.mark.parametrize("case", HARMLESS)
async def test_the_same_callable_may_be_given_twice(case: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        Worker(handle_signals=False, **HARMLESS[case]())
    assert caplog.messages == []


async def test_the_same_callable_with_other_options_is_said(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        worker = Worker([func(tidy, timeout=5), func(tidy, timeout=9)], handle_signals=False)
    assert caplog.messages == ["tidy is there twice, with different options: those of the last one count"]
    assert worker.functions["tidy"].timeout_s == 9
