"""Python and the Lua scripts agree on numbers: each that stands in both comes from `protocol/constants.py`."""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

import pytest

from arqestra.definitions.durations import LONGEST_S
from arqestra.definitions.rules import CRASHES, LAST_DUE_S
from arqestra.protocol import constants
from arqestra.protocol.keys import Keys
from arqestra.protocol.lua_names import lua_names
from arqestra.store.scripts import script

LUA_FILES = sorted(Path(str(files("arqestra.store").joinpath("lua"))).glob("*.lua"))
LIBRARY = Path(constants.__file__).parents[1]
_COMMENT_OR_TEXT = re.compile(r"--.*|'(?:[^'\\\n]|\\.)*'")
_PRODUCT = re.compile(r"(?<![\w.])\d+(?:\.\d+)?(?:e\d+)?(?:\s*\*\s*\d+)*")

LEAST = 2_000  # smaller numbers are too common to tell by them that two places mean the same
COINCIDENCES = {
    5_000: "entries that a claim looks at; ms of a schedule's first look, waiting events",
    10_000: "the dead set's size, keys of a workflow; what a page or a listener gets at most",
    600_000: "ms that a worker's presence is kept; ms that a lease record outlives its lease",
    900_000: "ms of a quarter of an hour",
    3_600_000: "ms of an hour",
    86_400_000: "ms of a day",
    604_800_000: "ms of a week",
    2_592_000_000: "ms of 30 days",
    2**31 - 1: "the greatest number of 32 bits",
}


def code_of(path: Path) -> str:
    return _COMMENT_OR_TEXT.sub("", path.read_text(encoding="utf-8"))


def numbers_of_lua(path: Path) -> Iterator[float]:
    for found in _PRODUCT.findall(code_of(path)):
        yield math.prod(float(factor) for factor in found.split("*"))


def folded(node: ast.AST) -> float | None:
    """The number that an expression of numbers is."""
    if isinstance(node, ast.Constant) and type(node.value) in (int, float):
        return float(node.value)  # type: ignore[arg-type]
    if not isinstance(node, ast.BinOp):
        return None
    left, right = folded(node.left), folded(node.right)
    if left is None or right is None:
        return None
    if isinstance(node.op, ast.Mult):
        return left * right
    return left**right if isinstance(node.op, ast.Pow) and right < 20 else None


def numbers_of_python(node: ast.AST) -> Iterator[float]:
    number = folded(node)
    if number is not None:
        yield number
    else:
        for child in ast.iter_child_nodes(node):
            yield from numbers_of_python(child)


@pytest.fixture(scope="module")
def python_numbers() -> dict[str, set[float]]:
    """The numbers of each module of the library."""
    modules = [path for path in LIBRARY.rglob("*.py") if path != Path(constants.__file__)]
    return {
        str(path.relative_to(LIBRARY)): set(numbers_of_python(ast.parse(path.read_text(encoding="utf-8"))))
        for path in modules
    }


def test_no_number_stands_in_both_languages(python_numbers: dict[str, set[float]]) -> None:
    lua = {number for path in LUA_FILES for number in numbers_of_lua(path) if number >= LEAST}

    assert {int(number) for number in lua & set().union(*python_numbers.values())} - COINCIDENCES.keys() == set()


def test_shared_numbers_stand_nowhere_beside_their_names(python_numbers: dict[str, set[float]]) -> None:
    values = {value for value in constants.LUA.values() if isinstance(value, int) and value >= LEAST}
    values -= COINCIDENCES.keys()

    lua = {path.name: values.intersection(numbers_of_lua(path)) for path in LUA_FILES}
    python = {name: values & numbers for name, numbers in python_numbers.items() if name != "protocol/histogram.py"}

    assert {name: found for name, found in {**lua, **python}.items() if found} == {}


@pytest.mark.parametrize("name", constants.LUA)
def test_a_shared_constant_is_used_and_not_set_in_lua(name: str) -> None:
    code = "\n".join(code_of(path) for path in LUA_FILES)

    assert re.search(rf"\b{name}\b", code)
    assert not re.search(rf"\b{name} *=[^=]", code)
    assert name not in lua_names(Keys())


def test_scripts_have_values_in_the_place_of_names() -> None:
    for name in ("turn", "survey", "schedule_due", "signal", "flow_values"):
        assert not re.findall(rf"\b(?:{'|'.join(constants.LUA)})\b", _COMMENT_OR_TEXT.sub("", script(name).text))


def test_the_last_due_time_is_below_the_first_priority() -> None:
    """`definitions/` knows nothing of scores, so the bound stands there as well."""
    assert (LAST_DUE_S + LONGEST_S) * 1000 == constants.SPAN_MS


def test_no_max_crashes_is_more_than_an_early_acknowledgement_counts() -> None:
    """With more, a job with `acks="early"` whose worker died would run again."""
    assert CRASHES.accepts(constants.EARLY_CRASHES)
    assert not CRASHES.accepts(constants.EARLY_CRASHES + 1)
