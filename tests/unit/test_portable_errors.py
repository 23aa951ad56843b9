"""An error that a pickle surely carries is not pickled for a trial; what goes into the result is the same."""

from __future__ import annotations

import copyreg
import sys
from typing import Any

import pytest

from arqestra.protocol.portable_errors import _is_made_of_any_arguments, portable
from arqestra.protocol.serializers import SERIALIZERS, Serializer

PICKLE = SERIALIZERS["pickle"]


class Plain(ValueError):
    """As most errors are defined."""


class WithTwoArguments(Exception):
    def __init__(self, first: str, second: str) -> None:
        super().__init__(f"{first} {second}")


class OfANewKind(Exception):
    def __new__(cls, *args: Any) -> OfANewKind:
        if len(args) != 2:
            raise TypeError("expected two arguments")
        return super().__new__(cls, args[0])


class Unpicklable(Exception):
    def __reduce__(self) -> str | tuple[Any, ...]:
        raise TypeError("no")


class Mixin:
    def __init__(self, *args: Any) -> None:
        if len(args) != 2:
            raise TypeError("expected two arguments")
        super().__init__(args[0])  # type: ignore[call-arg]


class Mixed(Mixin, ValueError):
    pass


class Outer:
    class Inner(Exception):
        pass


class Meta(type):
    def __call__(cls, *args: Any) -> Any:
        if len(args) != 2:
            raise TypeError("expected two arguments")
        return super().__call__(args[0])


class OfAMeta(Exception, metaclass=Meta):
    pass


class Registered(Exception):
    pass


class Renamed(Exception):
    pass


Other, Renamed = Renamed, ValueError  # type: ignore[misc, assignment]


def local() -> Exception:
    class Local(Exception):
        pass

    return Local("no good")


def with_state(value: Any) -> Exception:
    error = Plain("no good")
    error.value = value  # type: ignore[attr-defined]
    return error


def noted() -> Exception:
    error = Plain("no good")
    error.add_note("note")
    return error


def emptied() -> Exception:
    error = Plain("no good")
    vars(error)
    return error


def changed() -> Exception:
    error = UnicodeDecodeError("utf-8", b"x", 0, 1, "why")
    error.args = ("one",)
    return error


SURE = [
    ValueError("no good"),
    Plain("no good", 1, None, 2.5, b"x", True),
    KeyError("key"),
    Plain(),
    Exception("\udcff"),
]
TRIED = [
    *(WithTwoArguments("one", "two"), OfANewKind("one", "two"), Unpicklable("one"), Mixed("one", "two")),
    *(Outer.Inner("one"), OfAMeta("one", "two"), Other("one"), local(), with_state(1), with_state(lambda: 1)),
    *(noted(), changed(), Plain(["list"]), Plain(lambda: 1), OSError(2, "not there"), AttributeError("x", name="y")),
    *(ExceptionGroup("two", [Plain("one"), Unpicklable("two")]), SyntaxError("no", ("file", 1, 1, "text"))),
]


def counting(dumped: list[object], name: str) -> Serializer:
    def dumps(value: Any) -> bytes:
        dumped.append(value)
        return PICKLE.dumps(value)

    return Serializer(name, dumps, PICKLE.loads, plain=False)


@pytest.mark.parametrize("error", [*SURE, emptied()], ids=repr)
def test_an_error_that_is_surely_portable_is_not_tried(error: Exception) -> None:
    dumped: list[object] = []
    assert portable(counting(dumped, "pickle"), error) == {"r": error}
    assert dumped == []
    assert PICKLE.loads(PICKLE.dumps(error)).args == error.args


@pytest.mark.parametrize("error", [*SURE, *TRIED], ids=lambda error: type(error).__name__)
def test_the_result_is_that_of_a_trial(error: Exception) -> None:
    tried = portable(counting([], "custom"), error)
    found = portable(PICKLE, error)
    assert {name: repr(value) for name, value in found.items()} == {name: repr(value) for name, value in tried.items()}


@pytest.mark.parametrize("error", TRIED, ids=lambda error: type(error).__name__)
def test_any_other_error_is_tried(error: Exception) -> None:
    dumped: list[object] = []
    portable(counting(dumped, "pickle"), error)
    assert error in dumped


def test_a_class_that_somebody_registers_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    _is_made_of_any_arguments.cache_clear()
    monkeypatch.setitem(copyreg.dispatch_table, Registered, lambda error: 1 / 0)
    assert "e" in portable(PICKLE, Registered("no good"))
    _is_made_of_any_arguments.cache_clear()


def test_a_class_whose_name_is_anothers_by_now_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    assert portable(PICKLE, Plain("no good")).keys() == {"r"}
    monkeypatch.setattr(sys.modules[__name__], "Plain", ValueError)
    assert "e" in portable(PICKLE, SURE[1])
