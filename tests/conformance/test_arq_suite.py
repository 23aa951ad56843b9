"""arq 0.28.0's own tests, against our Worker, Pool, Job and create_pool in place of arq's.

`suite.py` fetches and runs them, `suite_conftest.py` replaces the names. Every test of arq passes, except those that
look into arq's internals: they stand in EXCUSED with the reason, and an excuse that is not needed is an error too.
The list of failures of the last run is written to a report if ARQESTRA_CONFORMANCE_REPORT names a file.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from arqestra.embedded import EmbeddedRedis

from .suite import SUITE_TIMEOUT_S, SuiteRun, fetch_sdist, run_suite, unpack_suite

PASSED_BY_ARQ = 172
SKIPPED_BY_ARQ = 2
MAX_EXCUSED = 8

_EXPIRY = (
    "looks at the TTL of the payload's key: ours has none, the deadline stands in the payload, "
    "so that an expired job ends with a recorded result and does not vanish"
)
EXCUSED = {
    **{
        f"tests.test_worker::test_default_job_expiry[{case}]": _EXPIRY
        for case in ("None-86400000", "1000000-1000000", "10000000-10000000", "999999999-999999999")
    },
    "tests.test_worker::test_remain_keys": (
        "lists every key in Redis: ours also has the counters of the current minute, which expire by themselves"
    ),
}

pytestmark = pytest.mark.timeout(SUITE_TIMEOUT_S + 150)


@pytest.fixture
def arq_suite(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A folder with arq's tests; their source distribution stays in pytest's cache between runs."""
    sdist = fetch_sdist(request.config.cache.mkdir("arq-sdist"))
    unpack_suite(sdist, tmp_path)
    return tmp_path


def test_arqestra_passes_arqs_own_tests(arq_suite: Path, redis_server: EmbeddedRedis, redis_url: str) -> None:
    run = run_suite(arq_suite, "arqestra", redis_server.port)
    write_report(run)

    unexpected = {test: text for test, text in run.failed.items() if test not in EXCUSED}
    stale = EXCUSED.keys() - run.failed.keys()
    assert not unexpected, (
        f"{len(unexpected)} of arq's tests fail:\n" + "\n".join(sorted(unexpected)) + "\n" + run.output
    )
    assert not stale, f"expected these excused tests to fail, but they do not: {sorted(stale)}. Remove their excuse"
    assert len(run.passed) == PASSED_BY_ARQ - len(EXCUSED)
    assert len(run.skipped) == SKIPPED_BY_ARQ


def test_the_excuses_are_few_and_give_their_reason() -> None:
    assert len(EXCUSED) <= MAX_EXCUSED
    assert all(len(reason.split()) >= 5 for reason in EXCUSED.values())


@pytest.mark.slow  # in `make conformance`: that the suite itself is sound
def test_stock_arq_passes_its_own_tests(arq_suite: Path, redis_server: EmbeddedRedis, redis_url: str) -> None:
    """The baseline: what fails above fails because of us, and not because of the harness."""
    run = run_suite(arq_suite, "arq", redis_server.port)

    assert run.failed == {}, run.output
    assert len(run.passed) == PASSED_BY_ARQ
    assert len(run.skipped) == SKIPPED_BY_ARQ


def write_report(run: SuiteRun) -> None:
    report = os.environ.get("ARQESTRA_CONFORMANCE_REPORT")
    if report is None:
        return
    lines = [f"{len(run.passed)} passed, {len(run.skipped)} skipped, {len(run.failed)} failed", ""]
    lines += [f"{test}{'  (excused: ' + EXCUSED[test] + ')' if test in EXCUSED else ''}" for test in sorted(run.failed)]
    lines += ["", run.output]
    Path(report).write_text("\n".join(lines), encoding="utf-8")
