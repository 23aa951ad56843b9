"""`arqestra init`: the project that it writes runs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

FILES = [
    "Dockerfile",
    "README.md",
    "compose.yaml",
    "dashboard-users.txt",
    "enqueue.py",
    "jobs.py",
    "pytest.ini",
    "requirements-dev.txt",
    "requirements.txt",
    "test_jobs.py",
    "worker.py",
]
ARQESTRA = [sys.executable, "-m", "arqestra.cli"]


def run(folder: Path, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "COLUMNS": "200", "NO_COLOR": "1", **environment},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "new" / "project"
    done = run(tmp_path, *ARQESTRA, "init", str(folder))
    assert done.returncode == 0, done.stderr
    assert sorted(each.name for each in folder.iterdir()) == FILES
    return folder


def test_its_tests_pass(project: Path) -> None:
    done = run(project, sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 passed" in done.stdout


def test_its_worker_and_producer_run(project: Path, redis_url: str) -> None:
    with subprocess.Popen(
        [*ARQESTRA, "worker", "worker.WorkerSettings"],
        cwd=project,
        env={**os.environ, "REDIS_URL": redis_url},
        stderr=subprocess.PIPE,
        text=True,
    ) as worker:
        try:
            done = run(project, sys.executable, "enqueue.py", "Ada", REDIS_URL=redis_url)
        finally:
            worker.terminate()
            _, errors = worker.communicate(timeout=60)
    assert (done.returncode, done.stdout) == (0, "Hello, Ada!\n"), done.stderr + errors
    assert worker.returncode == 0, errors


def test_it_is_in_form(project: Path) -> None:
    for action in (["check", "--select", "E,F,I,UP,B,SIM"], ["format", "--check"]):
        done = run(project, sys.executable, "-m", "ruff", *action, "--isolated", "--line-length", "120", ".")
        assert done.returncode == 0, done.stdout + done.stderr


def test_compose_names_commands_that_there_are(project: Path) -> None:
    services = yaml.safe_load((project / "compose.yaml").read_text())["services"]
    dashboard = services["dashboard"]["command"].split()
    done = run(project, *ARQESTRA, *dashboard[1:], "--help")
    assert done.returncode == 0, done.stderr
    assert (project / dashboard[dashboard.index("--users") + 1]).is_file()


@pytest.mark.parametrize("what", ["a file", "a folder with something in it"])
def test_nothing_is_overwritten(tmp_path: Path, what: str) -> None:
    target = tmp_path / "there"
    if what == "a file":
        target.write_text("mine")
    else:
        target.mkdir()
        for name in "abcde":
            (target / name).write_text("mine")
    done = run(tmp_path, *ARQESTRA, "init", "there")
    assert done.returncode == 2
    assert "expected an empty folder, got" in done.stderr
    assert what == "a file" or "with a, b, c and 2 more" in done.stderr
    assert what == "a file" or sorted(each.name for each in target.iterdir()) == list("abcde")


def test_the_folder_of_a_new_repository(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    assert run(tmp_path, *ARQESTRA, "init").returncode == 0
    assert (tmp_path / "worker.py").is_file()
