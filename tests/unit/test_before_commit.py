"""The hooks of .pre-commit-config.yaml run what `make check` runs, but for the tests."""

from __future__ import annotations

import re
import subprocess
from typing import Any

import pytest
import yaml

from tests.support.repository import REPOSITORY

CONFIGURATION = yaml.safe_load((REPOSITORY / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
HOOKS: list[dict[str, Any]] = [hook for source in CONFIGURATION["repos"] for hook in source["hooks"]]


def steps_of_check() -> list[str]:
    """The targets that `make check` consists of."""
    line = re.search(r"^check: ([a-z ]+)", (REPOSITORY / "Makefile").read_text(encoding="utf-8"), re.M)
    assert line is not None
    return line[1].split()


def commands(target: str) -> str:
    """What make would run for it."""
    return subprocess.run(["make", "-n", target], cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout


def test_the_hooks_are_the_steps_of_make_check_before_the_tests() -> None:
    assert [hook["entry"] for hook in HOOKS] + ["make test"] == [f"make {step}" for step in steps_of_check()]


@pytest.mark.parametrize("hook", HOOKS, ids=lambda hook: hook["id"])
def test_a_hook_looks_at_the_whole_repository_and_downloads_nothing(hook: dict[str, Any]) -> None:
    assert hook["language"] == "system"
    assert hook["pass_filenames"] is False


@pytest.mark.parametrize("command", ["ruff format --check", "ruff check", "mypy", "tests.support.import_direction"])
def test_make_check_runs(command: str) -> None:
    assert command in "".join(commands(hook["entry"].removeprefix("make ")) for hook in HOOKS)


def test_continuous_integration_runs_make_check_and_nothing_else() -> None:
    script = (REPOSITORY / ".ci" / "run").read_text(encoding="utf-8").splitlines()

    assert [line for line in script if line and line[0] != "#"] == [
        "set -euo pipefail",
        'cd "$(dirname "$0")/.."',
        "exec make check",
    ]
