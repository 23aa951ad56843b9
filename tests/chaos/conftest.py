"""Fixtures of the chaos runs, and their figures at the end of pytest's report."""

from __future__ import annotations

import os
import random
from collections.abc import AsyncIterator, Callable, Iterator

import pytest
import redis.asyncio

import arqestra
from arqestra.embedded import EmbeddedRedis

from .ledger import Ledger

SEED_VARIABLE = "CHAOS_SEED"
_FIGURES = pytest.StashKey[list[str]]()

Tell = Callable[[str], None]


@pytest.fixture
def tell(request: pytest.FixtureRequest) -> Tell:
    """Report a figure of this run; all are listed after the tests."""
    figures = request.config.stash.setdefault(_FIGURES, [])

    def add(figure: str) -> None:
        print(figure)
        figures.append(f"{request.node.name}: {figure}")

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
async def pool(server: EmbeddedRedis) -> AsyncIterator[arqestra.Pool]:
    pool = await arqestra.create_pool(server.url)
    yield pool
    await pool.aclose()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """List the figures of all runs."""
    figures = config.stash.get(_FIGURES, [])
    if figures:
        terminalreporter.section("chaos")
        for figure in figures:
            terminalreporter.write_line(figure)
