"""What pages, comments and docstrings name is in the repository: files, folders, make targets, papers.

A name without its folder stands for any file of that name. What a page tells its reader to write (a block marked with
`<!-- file ... -->`) is no file of ours.
"""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.support.repository import REPOSITORY

GENERATED = frozenset({".git", "data", "build", ".envs", "out", "__pycache__"})
OF_A_VIRTUAL_ENVIRONMENT = "pyvenv.cfg"
# What commands make, a program, a place in a traceback, a file of arq.
NOT_OURS = frozenset(
    {
        "benchmarks/out/results.json",
        "benchmarks/out/table.md",
        "results.json",
        "Node.js",
        "file.py",
        "arq_conftest.py",
        "histories/order-7.json",
        "compose.yaml",
    }
)
MADE_FOLDERS = frozenset({"data/"})

_FILE = re.compile(
    r"(?<![\w./*<{-])"
    r"((?:\.{1,2}/)*(?:[\w.-]+/)*\.?[\w-]+\.(?:py|lua|md|toml|txt|ya?ml|html|js|css|webp|png|json))"
    r"\b(?!\.?[\w/*(])"
)
_FOLDER = re.compile(r"`((?:[\w-]+/)+)`")
_TARGET = re.compile(r"(?:`|^ {4,}(?:\$ )?)make ([a-z-]+)", re.M)
_SECTION = re.compile(r"\b([A-Z]{3,}) sections? \d")
_WRITTEN_BY_THE_READER = re.compile(r"^<!-- (?:file|run) (\S+) -->", re.M)


def files_below(root: Path) -> Iterator[str]:
    """Every file below a folder, as its path from there, without virtual environments and what commands make."""
    for folder, subfolders, found in os.walk(root):
        if OF_A_VIRTUAL_ENVIRONMENT in found:
            subfolders.clear()
            continue
        subfolders[:] = [name for name in subfolders if name not in GENERATED]
        yield from ((Path(folder) / name).relative_to(root).as_posix() for name in found)


@cache
def files() -> frozenset[str]:
    """Every file of the repository, as its path from the root."""
    return frozenset(files_below(REPOSITORY))


@cache
def names() -> frozenset[str]:
    """What a file or folder may be called: its path from the root, and each end of that."""
    ends = set()
    for path in map(Path, files()):
        for place in (path, *path.parents):
            ends |= {"/".join(place.parts[start:]) for start in range(len(place.parts))}
    return frozenset(ends)


@cache
def targets() -> frozenset[str]:
    makefile = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    return frozenset(re.findall(r"^([a-z-]+):", makefile, re.M))


@cache
def written_by_readers() -> frozenset[str]:
    pages = (REPOSITORY / name for name in files() if name.endswith(".md"))
    return frozenset(name for page in pages for name in _WRITTEN_BY_THE_READER.findall(page.read_text("utf-8")))


def remarks_of_python(text: str) -> str:
    """Comments and docstrings."""
    comments = [line.partition("#")[2] for line in text.splitlines()]
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    docstrings = [ast.get_docstring(node) or "" for node in ast.walk(ast.parse(text)) if isinstance(node, documented)]
    return "\n".join(comments + docstrings)


def remarks_of_lua(text: str) -> str:
    return "\n".join(line.partition("--")[2] for line in text.splitlines())


READ: dict[str, Callable[[str], str]] = {
    ".py": remarks_of_python,
    ".lua": remarks_of_lua,
    ".md": str,
    ".toml": str,
    ".yaml": str,
    ".yml": str,
}
READ_AS_IT_IS = frozenset({"Makefile", ".ci/run"})


@cache
def remarks() -> dict[str, str]:
    """What each file says to a reader, by its name."""
    found = {}
    for name in sorted(files()):
        path = REPOSITORY / name
        reading = str if name in READ_AS_IT_IS else READ.get(path.suffix)
        if reading is not None and "vendor" not in path.parts:
            found[name] = reading(path.read_text(encoding="utf-8"))
    return found


def exists(name: str) -> bool:
    while name.startswith(("./", "../")):
        name = name.partition("/")[2]
    return name.rstrip("/") in names()


def unknown(text: str) -> Iterator[str]:
    """What a text names that a reader of the repository would not find."""
    for name in _FILE.findall(text):
        if not exists(name) and name not in NOT_OURS | written_by_readers():
            yield f"no file {name}"
    for name in _FOLDER.findall(text):
        if not exists(name) and name not in MADE_FOLDERS:
            yield f"no folder {name}"
    for name in _TARGET.findall(text):
        if name not in targets():
            yield f"no target {name} in the Makefile"
    for name in _SECTION.findall(text):
        if not exists(f"{name}.md"):
            yield f"no paper {name}"


def test_all_that_is_named_is_there() -> None:
    assert [f"{place}: {what}" for place, text in remarks().items() for what in unknown(text)] == []


def test_everything_a_reader_may_open_is_read() -> None:
    read = remarks().keys()

    assert read >= {"README.md", "ARCHITECTURE.md", "docs/concepts.md", "Makefile", "pyproject.toml", ".ci/run"}
    assert read >= {"arqestra/store/lua/turn.lua", "arqestra/errors.py", "tests/conftest.py", "worker.py"}


def test_virtual_environments_and_what_commands_make_are_left_out(tmp_path: Path) -> None:
    for name in (
        "README.md",
        "jobs/mail.py",
        "jobs/data/mail.md",
        ".venv/pyvenv.cfg",
        ".venv-3.12/pyvenv.cfg",
        ".venv-3.12/README.md",
        ".venv-3.12/lib/site-packages/package.py",
        "jobs/env/pyvenv.cfg",
        "jobs/env/lib/package.py",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()

    assert set(files_below(tmp_path)) == {"README.md", "jobs/mail.py"}


def test_the_map_of_the_tests_has_every_folder() -> None:
    contributing = (REPOSITORY / "CONTRIBUTING.md").read_text(encoding="utf-8")
    folders = {f"{Path(name).parent}/" for name in files() if re.match(r"tests/\w+/test_\w+\.py$", name)}

    assert set(re.findall(r"^\| `(tests/\w+/)`", contributing, re.M)) == folders


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("`store/nothing.py` decides", "no file store/nothing.py"),
        ("told at the head of `lua/_nothing.lua`.", "no file lua/_nothing.lua"),
        ("as NOWHERE.md has it", "no file NOWHERE.md"),
        ("([page](../docs/nothing.md))", "no file ../docs/nothing.md"),
        ("by NOWHERE sections 1 to 3", "no paper NOWHERE"),
        ("all of `tests/nothing/`", "no folder tests/nothing/"),
        ("run `make nothing`", "no target nothing in the Makefile"),
        ("    make nothing-at-all  # this", "no target nothing-at-all in the Makefile"),
    ],
)
def test_a_name_of_nothing_is_found(text: str, message: str) -> None:
    assert list(unknown(text)) == [message]


@pytest.mark.parametrize(
    "text",
    [
        "`store/lua/turn.lua`, `turn.lua`, `ARCHITECTURE.md` and `./README.md`",
        "`lua/`, `arqestra/store/` and `docs/dashboard/*.webp`",
        "`make check` and make sure",
        "redis.asyncio, asyncio.run, 12.5, `Pool.statistics()`, user@example.org, <name>.py",
    ],
)
def test_other_words_are_no_names_of_files(text: str) -> None:
    assert list(unknown(text)) == []


def test_comments_and_docstrings_are_read_and_code_is_not() -> None:
    python = '"""Module."""\n\n\ndef f():  # why\n    """What."""\n    return "code"\n'

    assert remarks_of_python(python).split() == ["why", "Module.", "What."]
    assert remarks_of_lua("-- head\nlocal a = 1 -- why\n").split() == ["head", "why"]
