"""Fixtures of the chaos runs, and their figures at the end of pytest's report."""

from __future__ import annotations

import os
import random
from collections.abc import AsyncIterator, Callable, Iterator

import pytest
import redis.asyncio

from arqestra.embedded import EmbeddedRedis

from .ledger import Ledger

SEED_VARIABLE = "CHAOS_SEED"
_FIGURE = "chaos figure"

Tell = Callable[[str], None]


@pytest.fixture
def tell(request: pytest.FixtureRequest) -> Tell:
    """Report a figure of this run; all are listed after the tests, by the process that started the test processes."""

    def add(figure: str) -> None:
        print(figure)
        request.node.user_properties.append((_FIGURE, f"{request.node.name}: {figure}"))

    return add


@pytest.fixture
def rng(tell: Tell) -> random.Random:
    """Randomness with a seed that is printed; `CHAOS_SEED` sets it."""
    seed = int(os.environ.get(SEED_VARIABLE) or random.SystemRandom().randrange(1_000_000))
    tell(f"{SEED_VARIABLE}={seed}")
    return random.Random(seed)


@pytest.fixture
def server() -> Iterator[EmbeddedRedis]:
    """A server of this test's own."""
    with EmbeddedRedis(use_environment=False) as server:
        yield server


@pytest.fixture
async def ledger(server: EmbeddedRedis) -> AsyncIterator[Ledger]:
    async with redis.asyncio.Redis.from_url(server.url) as client:
        yield Ledger(client)


@pytest.fixture
def redis_url(server: EmbeddedRedis) -> str:
    """URL of the test's own server: `pool` and `supervise` use it too."""
    return server.url


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """List the figures of all runs."""
    # The report of the teardown has all of them; whatever the outcome, there is one.
    reports = [report for group in terminalreporter.stats.values() for report in group]
    ended = [report for report in reports if isinstance(report, pytest.TestReport) and report.when == "teardown"]
    figures = [figure for report in ended for name, figure in report.user_properties if name == _FIGURE]
    if figures:
        terminalreporter.section("chaos")
        for figure in figures:
            terminalreporter.write_line(str(figure))
