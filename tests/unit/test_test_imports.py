"""Tests share code in tests/support and in modules of their folder: no test module is imported."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.repository import REPOSITORY

TESTS = REPOSITORY / "tests"


def imported(place: Path, source: str) -> Iterator[str]:
    """Every module of tests/ that is imported there: `support.wait`, as absolute names without `tests`."""
    package = place.parent.parts
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            start = ("tests", *package[: len(package) - node.level + 1]) if node.level else ()
            base = ".".join((*start, *filter(None, [node.module])))
            names = [f"{base}.{alias.name}" if _is_package(base) else base for alias in node.names]
        else:
            continue
        yield from (name.removeprefix("tests.") for name in names if name.startswith("tests."))


def _is_package(name: str) -> bool:
    return REPOSITORY.joinpath(*name.split(".")).is_dir()


def violations(place: Path, source: str) -> list[str]:
    folder = place.parts[0]
    found = []
    for name in imported(place, source):
        if name.rpartition(".")[2].startswith("test_"):
            found.append(f"{place} imports the test module {name}")
        elif name.split(".")[0] not in (folder, "support"):
            found.append(f"{place} imports {name}; expected modules of its own folder or of tests/support")
    return found


def test_no_test_module_and_no_other_folder_is_imported() -> None:
    modules = [path.relative_to(TESTS) for path in sorted(TESTS.rglob("*.py"))]
    assert [each for place in modules for each in violations(place, (TESTS / place).read_text())] == []


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("from tests.store.test_claim import x", "a/b.py imports the test module store.test_claim"),
        ("from .test_claim import x", "a/b.py imports the test module a.test_claim"),
        ("import tests.a.test_claim", "a/b.py imports the test module a.test_claim"),
        ("def f():\n    from tests.web import web_jobs", "a/b.py imports web.web_jobs; expected"),
    ],
)
def test_such_an_import_is_found(line: str, problem: str) -> None:
    (found,) = violations(Path("a/b.py"), line)
    assert found.startswith(problem)
