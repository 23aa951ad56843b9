"""mypy, as a user of the package runs it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.support.repository import REPOSITORY

__all__ = ("mypy_of_user",)


def mypy_of_user(folder: Path, *files: str, cache: str) -> list[str]:
    """The lines in which `mypy --strict` tells what is wrong.

    :param folder: where the user's files are
    :param files: their names
    :param cache: name of the cache, which is kept: the package itself is checked again only when it has changed. Each
        test has one of its own, since tests run side by side
    """
    ran = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", "--config-file=", *files],
        cwd=folder,
        env={
            **os.environ,
            "MYPYPATH": str(REPOSITORY),
            "MYPY_CACHE_DIR": str(REPOSITORY / "build" / "mypy_of_users" / cache),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.stderr == ""
    return ran.stdout.splitlines()
