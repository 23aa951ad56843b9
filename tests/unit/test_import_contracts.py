"""The contracts of import-linter in pyproject.toml hold, and catch circles and imports that go up, for types too."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.repository import REPOSITORY


def lint_imports(root: Path) -> subprocess.CompletedProcess[str]:
    """Check the package that is in this folder."""
    program = Path(sys.executable).with_name("lint-imports")
    environment = os.environ | {"PYTHONPATH": str(root)}
    return subprocess.run(
        [program, "--no-cache", "--config", REPOSITORY / "pyproject.toml"],
        cwd=root,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the package."""
    only_code = shutil.ignore_patterns("__pycache__", "static", "templates", "lua")
    shutil.copytree(REPOSITORY / "arqestra", tmp_path / "arqestra", ignore=only_code)
    return tmp_path


def test_the_contracts_hold() -> None:
    ran = lint_imports(REPOSITORY)
    assert ran.returncode == 0, ran.stdout


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        (
            "client/enqueue.py",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from .pool import Pool\n",
            "No cycles are allowed in arqestra.client",
        ),
        ("flow/compare.py", "from .execution import Execution\n", "No cycles are allowed in arqestra.flow"),
        ("flow/compare.py", "from ..client import pool\n", "arqestra.flow is not allowed to import arqestra.client"),
        ("protocol/keys.py", "import socket\n", "arqestra.protocol is not allowed to import socket"),
    ],
)
def test_a_circle_and_an_import_that_goes_up_are_found(copy: Path, file: str, text: str, message: str) -> None:
    path = copy / "arqestra" / file
    path.write_text(path.read_text("utf-8") + text, "utf-8")
    ran = lint_imports(copy)
    assert ran.returncode == 1
    assert message in ran.stdout
