"""Fetches arq's own test suite and runs it in a process of its own, against stock arq or against arqestra.

The suite comes from arq's source distribution, whose checksum is pinned here, and is never committed. Only its
tests and its pytest settings are unpacked: arq itself is the installed one.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from xml.etree import ElementTree

ARQ_VERSION = "0.28.0"
SDIST_NAME = f"arq-{ARQ_VERSION}.tar.gz"
SDIST_SHA256 = "a458188aefc2d7ee17d136f80d8fa8df1d6eba4ceebdead87e9f172d027dc311"
DOWNLOAD_TIMEOUT_S = 120
# The suite takes about 30 s. Each of its tests has arq's own limit of 10 s; this one ends a run that hangs outside.
SUITE_TIMEOUT_S = 300

Target = Literal["arq", "arqestra"]


class SuiteError(RuntimeError):
    """arq's suite could not be fetched or did not run to its end."""


@dataclass(frozen=True)
class SuiteRun:
    """What a run of arq's suite reported, test ids such as `tests.test_worker::test_no_jobs`."""

    passed: frozenset[str]
    skipped: frozenset[str]
    failed: dict[str, str]
    output: str


def fetch_sdist(cache: Path) -> Path:
    """arq's source distribution, downloaded by pip unless the cache folder has it."""
    sdist = cache / SDIST_NAME
    if sdist.exists() and _sha256(sdist) == SDIST_SHA256:
        return sdist
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--retries", "2"]
    # Only arq's own source is asked for: the tool that pip needs to read its metadata comes as a wheel.
    command = [*pip, "--no-deps", "--no-binary", "arq", "--dest", str(cache), f"arq=={ARQ_VERSION}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=DOWNLOAD_TIMEOUT_S)
    if done.returncode != 0:
        raise SuiteError(
            f"expected `pip download arq=={ARQ_VERSION}` to fetch arq's source distribution, but it failed. "
            f"Is the package index reachable? pip says:\n{done.stderr.strip()}"
        )
    if _sha256(sdist) != SDIST_SHA256:
        raise SuiteError(f"expected {SDIST_NAME} with sha256 {SDIST_SHA256}, got {_sha256(sdist)}")
    return sdist


def unpack_suite(sdist: Path, folder: Path) -> None:
    """Put arq's tests and pytest settings into the folder, with our conftest in front of arq's."""
    top = f"arq-{ARQ_VERSION}/"
    with tarfile.open(sdist) as archive:
        wanted = [
            member
            for member in archive.getmembers()
            if member.name == f"{top}pyproject.toml" or member.name.startswith(f"{top}tests/")
        ]
        for member in wanted:
            member.name = member.name.removeprefix(top)
            archive.extract(member, folder, filter="data")
    tests = folder / "tests"
    (tests / "conftest.py").rename(tests / "arq_conftest.py")
    shutil.copy(Path(__file__).with_name("suite_conftest.py"), tests / "conftest.py")


def run_suite(folder: Path, target: Target, redis_port: int, arguments: tuple[str, ...] = ()) -> SuiteRun:
    """Run the unpacked suite; raises SuiteError if it does not get to its end."""
    report = folder / f"report-{target}.xml"
    environment = {**os.environ, "ARQ_SUITE_TARGET": target, "ARQ_SUITE_REDIS_PORT": str(redis_port)}
    for name in ("PYTEST_ADDOPTS", "PYTEST_CURRENT_TEST", "REDIS_URL"):
        environment.pop(name, None)
    pytest = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junitxml={report}"]
    # arq turns warnings into errors. Two of them are about packages that are newer than those it locks:
    # pytest-asyncio warns when this option is unset, and redis-py 5 about the close() that arq calls.
    command = [*pytest, "-o", "asyncio_default_fixture_loop_scope=function"]
    command += ["-W", "ignore:Call to deprecated close:DeprecationWarning", *arguments]
    process = subprocess.Popen(
        command,
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=SUITE_TIMEOUT_S)
    except subprocess.TimeoutExpired as expired:
        so_far = (expired.output or b"").decode(errors="replace")
        raise SuiteError(f"expected arq's suite to end within {SUITE_TIMEOUT_S} s. Its output:\n{so_far}") from None
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
    if not report.exists():
        raise SuiteError(f"expected arq's suite to write {report.name}, got exit code {process.returncode}:\n{output}")
    return _read_report(report, output)


def _read_report(report: Path, output: str) -> SuiteRun:
    passed: set[str] = set()
    skipped: set[str] = set()
    failed: dict[str, str] = {}
    for case in ElementTree.parse(report).getroot().iter("testcase"):
        test_id = f"{case.get('classname')}::{case.get('name')}"
        problems = [child for child in case if child.tag in ("failure", "error")]
        if problems:
            failed[test_id] = "\n".join(problem.text or problem.get("message") or "" for problem in problems)
        elif case.find("skipped") is not None:
            skipped.add(test_id)
        else:
            passed.add(test_id)
    # A test that passes and then fails in its teardown is reported twice.
    return SuiteRun(frozenset(passed - failed.keys()), frozenset(skipped), failed, output)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
