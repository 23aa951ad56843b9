"""The commands that the documentation names are there, with their options."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator

import pytest
from typer.testing import CliRunner

from arqestra.cli import COMMANDS, app
from tests.support.repository import REPOSITORY

# At the start of a line of code, or in backticks within a text.
_COMMAND = re.compile(r"(?:^(?:    |\$ )?|`)arqestra ([^`\n]+)", re.M)
_BEHIND_IT = re.compile(r"\s+[#|>&\\\\]|\s{3,}")
_PAGES = ["README.md", *(f"docs/{path.name}" for path in sorted((REPOSITORY / "docs").glob("*.md")))]
_PROJECT = sorted(f"arqestra/cli/project/{path.name}" for path in (REPOSITORY / "arqestra/cli/project").glob("*.txt"))


def commands_of(text: str) -> Iterator[list[str]]:
    """The words of each command, but for those that only show what may stand there."""
    for found in _COMMAND.finditer(text):
        words = _BEHIND_IT.split(found[1])[0]
        if words.split(" ")[0] in COMMANDS and not re.search(r"[\[\]]|\.\.\.", words):
            yield shlex.split(words)


def documented() -> list[tuple[str, list[str]]]:
    return [
        (page, words) for page in [*_PAGES, *_PROJECT] for words in commands_of((REPOSITORY / page).read_text("utf-8"))
    ]


def test_the_pages_name_commands() -> None:
    assert len(documented()) > 50


@pytest.mark.parametrize(
    ("page", "words"), documented(), ids=lambda part: part if isinstance(part, str) else " ".join(part)
)
def test_a_documented_command_is_there(page: str, words: list[str]) -> None:
    """`--help` is looked at when all options before it are known."""
    told = CliRunner().invoke(app, [*words, "--help"])
    assert "No such" not in told.output, f"{page}: arqestra {' '.join(words)}\n{told.output}"
