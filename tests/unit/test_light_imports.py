"""What an import of arqestra, and `arqestra --help`, do not import: a producer needs no worker."""

from __future__ import annotations

import ast
import subprocess
import sys

import pytest

import arqestra
from tests.support.repository import REPOSITORY

# Whatever is used of them is imported when it is used. arq and redis-py, which arq's own users import too, are here.
OF_ARQESTRA = "client contrib definitions flow handles observe protocol scheduling store testing web worker"
OF_OTHERS = (
    "anyio fastapi httpx jinja2 msgspec opentelemetry pebble prometheus_client starlette uvicorn uvloop watchfiles"
)
HEAVY = (*(f"arqestra.{name}" for name in OF_ARQESTRA.split()), *OF_OTHERS.split())
# For producers as well that use `create_pool` and `@job`.
NOT_OF_A_PRODUCER = ("arqestra.observe", "arqestra.scheduling", "arqestra.web", "arqestra.worker", "pebble", "uvloop")


def run(*lines: str) -> str:
    """What the lines print, in an interpreter of their own."""
    command = [sys.executable, "-W", "error", "-c", "\n".join(lines)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def loaded(names: tuple[str, ...], *lines: str) -> list[str]:
    """Which of the modules there are after the lines."""
    text = run(*lines, "import sys", f"print([name for name in {names!r} if name in sys.modules])")
    found: list[str] = ast.literal_eval(text.splitlines()[-1])
    return found


def test_an_import_of_arqestra_imports_little() -> None:
    assert loaded(HEAVY, "import arqestra") == []


def test_the_help_of_the_command_imports_little() -> None:
    lines = ("import contextlib, sys", "from arqestra.cli import main", "sys.argv = ['arqestra', '--help']")

    assert loaded(HEAVY, *lines, "with contextlib.suppress(SystemExit): main()") == []


def test_a_producer_imports_neither_schedules_nor_the_worker() -> None:
    lines = ("import arqestra", "arqestra.create_pool, arqestra.RedisSettings, arqestra.Job, arqestra.job")

    assert loaded(NOT_OF_A_PRODUCER, *lines) == []


def test_type_checkers_find_each_name_where_it_is_imported_from() -> None:
    tree = ast.parse((REPOSITORY / "arqestra" / "__init__.py").read_text())
    block = next(node for node in tree.body if isinstance(node, ast.If))
    checked = {
        alias.asname or alias.name: (node.module, alias.name)
        for node in block.body
        if isinstance(node, ast.ImportFrom) and node.module is not None
        for alias in node.names
    }

    assert checked.pop("ArqRedis") == ("client.pool", "Pool")
    assert arqestra.ArqRedis is arqestra.Pool
    used = {name: (module, name) for name, module in vars(arqestra)["_module_of"].items() if name != "ArqRedis"}
    assert used == checked


def test_the_module_cron_does_not_hide_the_function() -> None:
    lines = ("import arqestra", "import arqestra.cron, arqestra.job", "from arqestra.cron import CronJob, cron")

    assert (
        run(*lines, "print(cron is arqestra.cron, arqestra.job.__module__)") == "True arqestra.definitions.decorator\n"
    )


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
