"""The text of a traceback is Python's own, and made once for a place at which jobs fail."""

from __future__ import annotations

import asyncio
import logging
import traceback
from collections.abc import Callable
from functools import partial
from types import TracebackType
from typing import Any

import pytest

from arqestra.protocol import tracebacks
from arqestra.protocol.tracebacks import TRACEBACK_LIMIT_CHARS, traceback_of
from arqestra.worker.run.report import _is_written_as_python_does


class Odd(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


def plain() -> None:
    raise ValueError("no good")


def deep(levels: int = 6) -> None:
    (lambda: deeper(levels - 1))()


def deeper(levels: int) -> None:
    if levels == 0:
        plain()
    deep(levels)


def over_lines() -> None:
    int(
        "nonumber",
    )


def caused() -> None:
    try:
        plain()
    except ValueError as error:
        raise KeyError("key") from error


def in_context() -> None:
    try:
        plain()
    except ValueError:
        raise KeyError("key")  # noqa: B904


def suppressed() -> None:
    try:
        plain()
    except ValueError:
        raise KeyError("key") from None


def grouped() -> None:
    raise ExceptionGroup("two", [ValueError("one"), KeyError("two")])


def noted() -> None:
    error = ValueError("no good")
    error.add_note("a note\nof two lines")
    raise error


def misspelt() -> None:
    nubmer = 1
    number  # type: ignore[name-defined] # noqa: B018, F821
    del nubmer


def without_attribute() -> None:
    [].apend(1)  # type: ignore[attr-defined]


def recursive(levels: int = 50) -> None:
    if levels == 0:
        raise ValueError("deep down")
    recursive(levels - 1)


def unreadable() -> None:
    compile("a b", "<text>", "exec")


def without_source() -> None:
    exec("def f():\n    raise ValueError('made')\nf()")


def odd() -> None:
    raise Odd


def cancelled() -> None:
    raise asyncio.CancelledError("why")


def noted_oddly() -> None:
    error = ValueError("no good")
    error.__notes__ = 5  # type: ignore[assignment]
    raise error


def without_module() -> None:
    import arqestra.nowhere  # type: ignore[import-not-found] # noqa: F401


def without_name() -> None:
    from traceback import walk_stak  # type: ignore[attr-defined] # noqa: F401


class Silent(Exception):
    """An error without a text."""

    def __bool__(self) -> bool:
        return False


class Ending(Exception):
    def __str__(self) -> str:
        raise SystemExit


def silent() -> None:
    raise Silent


def ending() -> None:
    raise Ending


def over_and_over() -> None:
    """A long chain, of errors of all kinds."""
    for way in (caused, in_context, misspelt, noted, unreadable, odd, plain, recursive, over_lines, without_attribute):
        try:
            way()
        except Exception as error:
            last = error
        else:
            raise AssertionError("expected an error")
        last.__context__ = raised_by(deep)
    try:
        raise last
    except Exception:
        raise LookupError(last)  # noqa: B904


def in_a_circle() -> None:
    first, second = raised_by(plain), raised_by(deep)
    first.__cause__, second.__cause__ = second, first
    second.__context__ = KeyError("beside the circle")
    raise first


def false_with_cause() -> None:
    raise Silent from ValueError("not told: the error is false as a value")


def suppressed_but_caused() -> None:
    error = raised_by(caused)
    error.__context__ = ValueError("suppressed")
    raise error


def nested_groups() -> None:
    members = [raised_by(plain), raised_by(caused), raised_by(grouped), raised_by(noted), raised_by(misspelt)]
    try:
        raise BaseExceptionGroup("outer", [*members, *(ValueError(number) for number in range(20))])
    except BaseExceptionGroup as group:
        raise RuntimeError("because of the group") from group


async def of_a_task_group() -> None:
    async with asyncio.TaskGroup() as group:
        for way in (plain, deep, caused):
            group.create_task(asyncio.to_thread(way))


def in_tasks() -> None:
    asyncio.run(of_a_task_group())


def two_in_turns(levels: int = 20) -> None:
    if levels == 0:
        raise ValueError("deep down")
    for _ in range(1):
        one_of_two(levels)


def one_of_two(levels: int) -> None:
    two_in_turns(levels - 1)


def endless() -> None:
    endless()


def recursive_over_lines(levels: int = 10) -> None:
    if levels % 2 or levels:
        recursive_over_lines(levels - 1)
    raise ValueError("no good")


def nothing_there() -> None:
    value: Any = None
    value.customer  # noqa: B018


def nearly_right() -> None:
    value: Any = "text"
    value.uper()


def private_of_self(self: Any = None) -> None:
    self.__clas__  # noqa: B018


def private_of_another(other: Any = None) -> None:
    other.__clas__  # noqa: B018


def private_at_the_top() -> None:
    exec("self = None\nself.__clas__")


def private_in_a_closure(self: Any = None) -> None:
    def inner() -> None:
        self.__clas__  # noqa: B018

    inner()


class Gone(AttributeError):
    pass


def by_hand() -> None:
    raise Gone("no customer", name="appendd", obj=[])


def by_hand_without_name() -> None:
    raise AttributeError("no customer")


def by_hand_with_an_odd_name() -> None:
    raise AttributeError("no customer", name=["x"], obj=[])  # type: ignore[arg-type]


def of_an_object() -> None:
    class Customer:
        adress = 1

    Customer().address  # type: ignore[attr-defined] # noqa: B018


WAYS: list[Callable[[], None]] = [
    *(plain, deep, over_lines, caused, in_context, suppressed, grouped, noted, misspelt, without_attribute, recursive),
    *(unreadable, without_source, odd, cancelled, noted_oddly, without_module, without_name, silent, ending),
    *(over_and_over, in_a_circle, false_with_cause, suppressed_but_caused, nested_groups, in_tasks, two_in_turns),
    *(endless, recursive_over_lines, nothing_there, nearly_right, private_of_self, private_of_another),
    *(private_at_the_top, private_in_a_closure, by_hand, by_hand_without_name, by_hand_with_an_odd_name, of_an_object),
]


def raised_by(way: Callable[[], None]) -> BaseException:
    try:
        way()
    except BaseException as error:
        return error
    raise AssertionError("expected an error")


@pytest.mark.parametrize("way", WAYS, ids=lambda way: str(way.__name__))
def test_the_text_is_pythons(way: Callable[[], None]) -> None:
    for _ in range(2):  # the second time out of what is remembered
        error = raised_by(way)
        assert traceback_of(error) == "".join(traceback.format_exception(error))


def test_fewer_frames_where_they_are_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    error = raised_by(deep)
    traceback_of(error)
    monkeypatch.setattr("sys.tracebacklimit", 2, raising=False)
    assert traceback_of(error) == "".join(traceback.format_exception(error))


def test_an_error_without_traceback() -> None:
    assert traceback_of(ValueError("never raised")) == "ValueError: never raised\n"


def test_one_place_with_different_messages() -> None:
    def fail(number: int) -> None:
        raise ValueError(f"number {number}")

    for number in range(3):
        assert traceback_of(raised_by(partial(fail, number))).endswith(f"ValueError: number {number}\n")


def test_a_storm_of_failures_looks_at_each_place_once(monkeypatch: pytest.MonkeyPatch) -> None:
    looked_at: list[object] = []
    extract = traceback.extract_tb

    def counted(entry: TracebackType, limit: int) -> traceback.StackSummary:
        looked_at.append(entry)
        return extract(entry, limit)

    monkeypatch.setattr(traceback, "extract_tb", counted)
    monkeypatch.setattr(tracebacks, "_frames", {})
    monkeypatch.setattr(tracebacks, "_stacks", {})

    for _ in range(100):
        traceback_of(raised_by(plain))

    assert len(looked_at) == 2  # the frame that called it, and its own


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracebacks, "MAX_FRAMES_REMEMBERED", 10)
    monkeypatch.setattr(tracebacks, "MAX_STACKS_REMEMBERED", 5)
    monkeypatch.setattr(tracebacks, "_frames", {})
    monkeypatch.setattr(tracebacks, "_stacks", {})
    for number in range(30):
        scope: dict[str, Callable[[], None]] = {}
        exec(f"def f():\n    raise ValueError({number})", scope)
        assert traceback_of(raised_by(scope["f"])).endswith(f"ValueError: {number}\n")
        assert len(tracebacks._frames) <= 10
        assert len(tracebacks._stacks) <= 5


def test_lines_that_are_remembered_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracebacks, "SUGGESTING", (AttributeError,))  # on Python 3.11 too
    monkeypatch.setattr(tracebacks, "MAX_LINES_REMEMBERED", 5)
    monkeypatch.setattr(tracebacks, "_lines", {})
    for number in range(12):
        error = raised_by(partial(getattr, None, f"name{number}"))
        assert traceback_of(error) == "".join(traceback.format_exception(error))
        assert 1 <= len(tracebacks._lines) <= 5


def test_a_very_long_stack_is_not_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracebacks, "_stacks", {})
    error = raised_by(partial(recursive, tracebacks.MAX_FRAMES_A_STACK))
    assert traceback_of(error) == "".join(traceback.format_exception(error))
    assert tracebacks._stacks == {}


def test_a_long_one_loses_its_middle() -> None:
    def fail() -> None:
        raise ValueError("x" * 3 * TRACEBACK_LIMIT_CHARS)

    text = traceback_of(raised_by(fail))
    assert text.startswith("Traceback (most recent call last):\n")
    assert "characters left out" in text
    assert len(text) < 1.1 * TRACEBACK_LIMIT_CHARS


class OneLine(logging.Formatter):
    def formatException(self, ei: object) -> str:  # noqa: N802
        return "one line"


class Bare:
    """What a handler needs of a formatter, and no more."""

    def format(self, record: logging.LogRecord) -> str:
        return record.getMessage()


@pytest.mark.parametrize(
    ("formatters", "is_pythons"),
    [
        ([], True),
        ([None], True),
        ([logging.Formatter("%(message)s")], True),
        ([logging.Formatter("%(message)s"), OneLine()], False),
        ([Bare()], False),
    ],
)
def test_a_formatter_that_writes_tracebacks_its_own_way_is_asked(formatters: list[Any], is_pythons: bool) -> None:
    above = logging.Logger("above")
    log = logging.Logger("log")
    log.parent = above
    for number, formatter in enumerate(formatters):
        handler = logging.NullHandler()
        handler.setFormatter(formatter)
        (log if number == 0 else above).addHandler(handler)

    assert _is_written_as_python_does(log) is is_pythons


def test_the_same_code_in_two_files_keeps_the_name_of_its_file() -> None:
    for path in ("one.py", "other.py"):
        names: dict[str, Callable[[], None]] = {}
        exec(compile("def fail():\n    raise ValueError('no good')\n", path, "exec"), names)
        with pytest.raises(ValueError, match="no good") as caught:
            names["fail"]()
        assert traceback_of(caught.value) == "".join(traceback.format_exception(caught.value))
