"""The examples of the documentation run, and print what the page says.

A comment line directly before a code block says what is to be done with it:

    <!-- file tasks.py -->   keep it under that name, beside the page's other files
    <!-- run hello.py -->    the same, then run it
    <!-- run -->             a shell block: run it there
    <!-- start -->           a shell block: start it there and leave it running until the end of the page
    <!-- prints -->          what the block run before it has printed, to the letter

A block without such a comment is only read by people. REDIS_URL names the test server.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support.repository import REPOSITORY

PAGES = (
    "README.md",
    "docs/quickstart.md",
    "docs/concepts.md",
    "docs/migrating-from-arq.md",
    "docs/migrating-from-celery.md",
    "docs/deploying.md",
    "docs/monitoring.md",
    "docs/data-model.md",
    "docs/workflows.md",
    "docs/testing-workflows.md",
    "docs/scheduling.md",
    "docs/testing.md",
    "docs/fastapi.md",
    "docs/synchronous.md",
)
PATIENCE_S = 60
ACTIONS = ("file", "run", "start", "prints")

_BLOCK = re.compile(r"^<!-- (?P<action>\w+)(?: (?P<name>\S+))? -->\n```(?P<kind>\w+)\n(?P<text>.*?)^```$", re.M | re.S)
_MARK = re.compile(r"^<!-- (?:file|run|start|prints)\b", re.M)


class Block(NamedTuple):
    """A code block of a page, and what is to be done with it."""

    action: str
    name: str
    kind: str
    text: str


def blocks_of(page: str) -> list[Block]:
    """The marked blocks of a page. A mark that no block follows is an error: its example would go unchecked."""
    blocks = [
        Block(found["action"], found["name"] or "", found["kind"], found["text"]) for found in _BLOCK.finditer(page)
    ]
    blocks = [block for block in blocks if block.action in ACTIONS]
    assert len(blocks) == len(_MARK.findall(page)), "expected a code block on the line after each mark"
    return blocks


class Walk:
    """One reader's walk through a page: a folder, a server, and what the last command has printed."""

    def __init__(self, folder: Path, redis_url: str) -> None:
        self.folder = folder
        self.printed = ""
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        self.environment = {**os.environ, "REDIS_URL": redis_url, "PATH": path, "PYTHONUNBUFFERED": "1"}

    def run(self, command: list[str]) -> None:
        done = subprocess.run(
            command, cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=PATIENCE_S
        )
        assert done.returncode == 0, f"{command} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}"
        self.printed = done.stdout

    @contextmanager
    def started(self, command: str) -> Iterator[None]:
        """A command that runs meanwhile; it ends well when it is told to."""
        with subprocess.Popen(
            ["bash", "-c", f"exec {command}"],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            try:
                yield
            finally:
                process.send_signal(signal.SIGTERM)
                try:
                    _, errors = process.communicate(timeout=PATIENCE_S)
                except subprocess.TimeoutExpired:
                    process.kill()
                    raise
        assert process.returncode == 0, f"{command} ended with {process.returncode}:\n{errors}"

    def take(self, block: Block, stack: ExitStack) -> None:
        if block.name:
            (self.folder / block.name).write_text(block.text, encoding="utf-8")
        match block.action:
            case "run" if block.name:
                self.run([sys.executable, block.name])
            case "run":
                self.run(["bash", "-euc", block.text])
            case "start":
                stack.enter_context(self.started(block.text.strip()))
            case "prints":
                assert self.printed == block.text


def walk_through(page: str, folder: Path, redis_url: str) -> int:
    """Do what the page says; returns the number of marked blocks."""
    blocks = blocks_of(page)
    walk = Walk(folder, redis_url)
    with ExitStack() as stack:
        for block in blocks:
            walk.take(block, stack)
    return len(blocks)


@pytest.mark.parametrize("page", PAGES)
def test_the_examples_of_a_page_do_what_it_says(page: str, redis_url: str, tmp_path: Path) -> None:
    text = (REPOSITORY / page).read_text(encoding="utf-8")

    assert walk_through(text, tmp_path, redis_url) > 0


@pytest.mark.parametrize(
    ("page", "message"),
    [
        ("<!-- run a.py -->\n```python\nraise SystemExit(3)\n```\n", "ended with 3"),
        ("<!-- run a.py -->\n```python\nprint(1)\n```\n<!-- prints -->\n```text\n2\n```\n", "assert '1"),
        ("<!-- run -->\n```sh\nfalse\n```\n", "ended with 1"),
        ("<!-- run a.py -->\n\n```python\nprint(1)\n```\n", "on the line after each mark"),
    ],
)
def test_an_example_that_does_something_else_is_found(page: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=message):
        walk_through(page, tmp_path, "redis://127.0.0.1:1")


def test_every_page_has_links_that_lead_somewhere() -> None:
    pages = sorted(REPOSITORY.glob("*.md")) + sorted((REPOSITORY / "docs").glob("*.md"))
    for page in pages:
        for link in re.findall(r"\]\(([^)\s]+)", page.read_text(encoding="utf-8")):
            # The chart is drawn by `python -m benchmarks --publish`.
            if "://" in link or link.endswith("benchmark.png"):
                continue
            file, _, heading = link.partition("#")
            target = page.parent / file if file else page
            assert target.exists(), f"{page.name}: {link}"
            if heading:
                assert heading in headings_of(target), f"{page.name}: {link}"


def headings_of(page: Path) -> set[str]:
    """The names under which GitHub links to the headings of a page."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    titles = re.findall(r"^#+ (.*)$", text, flags=re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_the_architecture_page_names_every_module_and_no_file_that_is_not_there() -> None:
    text = (REPOSITORY / "ARCHITECTURE.md").read_text(encoding="utf-8")
    folders = text.split("    jobs/ worker.py")[0]
    parts = {path.name.removesuffix(".py") for path in (REPOSITORY / "arqestra").iterdir() if path.name[0] not in "_."}
    parts -= {"py.typed"}

    assert parts <= set(re.findall(r"\w+", folders)), "expected a place for each module in Folders"
    there = {path.as_posix() for path in (REPOSITORY / "arqestra").rglob("*.*")}
    there |= {path.as_posix() for path in (REPOSITORY / "tests").rglob("*.py")}
    there |= {path.as_posix() for path in REPOSITORY.glob("*.py")}
    for name in re.findall(r"`([\w/]+\.(?:py|lua))`", text):
        assert any(path.endswith(f"/{name}") for path in there), f"no file {name}"


def test_the_list_of_changes_says_nothing_twice() -> None:
    lines = (REPOSITORY / "CHANGELOG.md").read_text(encoding="utf-8").splitlines()
    long = [line for line in lines if len(line) > 60]

    assert sorted({line for line in long if long.count(line) > 1}) == []
