"""What an import of arqestra does not import: a producer needs no worker."""

from __future__ import annotations

import subprocess
import sys

import pytest

import arqestra


def run(*lines: str) -> str:
    """What the lines print, in an interpreter of their own."""
    command = [sys.executable, "-W", "error", "-c", "\n".join(lines)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def test_a_producer_does_not_import_the_worker() -> None:
    loaded = "print([name for name in sys.modules if name.startswith(('arqestra.worker', 'pebble', 'uvloop'))])"

    assert run("import sys", "import arqestra", "arqestra.create_pool, arqestra.Job, arqestra.job", loaded) == "[]\n"


def test_a_worker_without_jobs_for_processes_does_not_import_their_pool() -> None:
    assert run("import sys", "from arqestra import Worker", "print('pebble' in sys.modules)") == "False\n"


@pytest.mark.parametrize("name", ["Worker", "create_worker", "run_worker", "worker_settings", "check_health"])
def test_a_name_of_the_worker_is_there_when_it_is_first_used(name: str) -> None:
    lines = ("import arqestra", f"assert {name!r} in dir(arqestra)", f"print(arqestra.{name}.__name__)")

    assert run(*lines) == f"{name}\n"


def test_modules_of_the_worker_are_attributes_of_the_package() -> None:
    found = run("import arqestra", "print(arqestra.worker.Worker is arqestra.Worker, arqestra.settings.SETTINGS != {})")

    assert found == "True True\n"


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'arqestra' has no attribute 'Wroker'"):
        _ = arqestra.Wroker  # type: ignore[attr-defined]


def test_wrappers_of_create_worker_are_told_from_the_switch_however_late_the_worker_is_imported() -> None:
    lines = (
        "import arq.worker",
        "before = arq.worker.create_worker",
        "import arqestra",
        "from arqestra.worker.run import observed",
        "print(observed.create_worker_before is before, arq.worker.create_worker is before)",
    )

    assert run(*lines) == "True False\n"
