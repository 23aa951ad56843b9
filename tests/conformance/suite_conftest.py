"""The conftest.py of arq's own test suite while it runs here; `suite.py` copies it there. Not collected by us.

arq's conftest stays as it is, next to this one, under the name arq_conftest.py. What it needs from outside is
provided differently: the server is given by its port (arq starts one with testcontainers), and the fixture `loop`
comes from the running loop (arq asks for `event_loop`, which pytest-asyncio 1.0 removed).

With ARQ_SUITE_TARGET=arqestra, arq's classes are replaced by ours before any of its test modules is imported, in
every module of arq that holds them, so that an unchanged `from arq.worker import Worker` gives ours.
"""

import asyncio
import os
import sys
import types


def replace_arq_names() -> None:
    import arq
    import arq.cli
    import arq.connections
    import arq.cron
    import arq.jobs
    import arq.worker

    import arqestra

    replacements = {
        arq.worker.Worker: arqestra.Worker,
        arq.connections.ArqRedis: arqestra.Pool,
        arq.connections.create_pool: arqestra.create_pool,
        arq.jobs.Job: arqestra.Job,
    }
    modules = [module for name, module in sys.modules.items() if name == "arq" or name.startswith("arq.")]
    for module in modules:
        for name, value in list(vars(module).items()):
            if isinstance(value, type | types.FunctionType) and value in replacements:
                setattr(module, name, replacements[value])


if os.environ["ARQ_SUITE_TARGET"] == "arqestra":
    replace_arq_names()

# arq's conftest imports it, and its fixture for it is not used here.
_testcontainers = types.ModuleType("testcontainers.redis")
vars(_testcontainers)["RedisContainer"] = None
sys.modules["testcontainers.redis"] = _testcontainers

import pytest  # noqa: E402

from .arq_conftest import *  # noqa: E402, F403


@pytest.fixture(scope="session")
def test_redis_host() -> str:
    return "127.0.0.1"


@pytest.fixture(scope="session")
def test_redis_port() -> int:
    return int(os.environ["ARQ_SUITE_REDIS_PORT"])


@pytest.fixture
async def loop() -> asyncio.AbstractEventLoop:
    return asyncio.get_running_loop()
