"""Connections that no protocol of ours can take over: fakeredis, and connection classes of one's own."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
import uvloop
from arq.connections import ArqRedis
from fakeredis.aioredis import FakeRedis
from redis.asyncio import Connection, ConnectionPool, Redis

from arqestra import Flow, Pool, Unique, Worker, create_pool, every, job, schedule, workflow
from arqestra.store import link, listener
from arqestra.store.scripts import self_contained
from tests.support.wait import wait_until


class HiddenTransport:
    """A stream writer of which nobody sees that it has a transport."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer

    def __getattr__(self, name: str) -> Any:
        if name == "transport":
            raise AttributeError(name)
        return getattr(self._writer, name)


class OwnConnection(Connection):
    """A connection class as an application may have."""

    async def connect(self, *args: Any, **kwargs: Any) -> None:
        await super().connect(*args, **kwargs)
        if isinstance(self._writer, asyncio.StreamWriter):
            self._writer = HiddenTransport(self._writer)  # type: ignore[assignment]


@job
async def add(ctx: dict[Any, Any], *numbers: int) -> int:
    return sum(numbers)


@job
async def fail(ctx: dict[Any, Any]) -> None:
    raise ValueError("no good")


@job
async def nap(ctx: dict[Any, Any]) -> None:
    await asyncio.sleep(60)


@job(concurrency=1, rate_limit="100/s", unique=Unique(key=lambda number: number))
async def limited(ctx: dict[Any, Any], number: int) -> int:
    return number


@workflow
async def order(flow: Flow, number: int) -> int:
    return await flow.run(add.s(number, 1))


JOBS = [add, fail, nap, limited, order]


@pytest.fixture(params=["fakeredis", "own class"])
async def connections(request: pytest.FixtureRequest, redis_url: str) -> AsyncIterator[Any]:
    """A pool of redis-py's."""
    if request.param == "fakeredis":
        fake = FakeRedis()
        yield fake.connection_pool
        await fake.aclose()
    else:
        yield ConnectionPool.from_url(redis_url, connection_class=OwnConnection)


@contextlib.asynccontextmanager
async def working(pool: ArqRedis) -> AsyncIterator[Worker]:
    worker = Worker(JOBS, redis_pool=pool, allow_abort_jobs=True, handle_signals=False)
    running = asyncio.ensure_future(worker.async_run())

    async def waits() -> bool:
        return await pool.zcard("arqestra:waiting:arq:queue") > 0

    await wait_until(waits, "the worker waits for jobs")
    try:
        yield worker
        assert not running.done(), "the worker ended"
    finally:
        await worker.close()
        await asyncio.gather(running, return_exceptions=True)


async def test_everything_works(connections: Any) -> None:
    pool = Pool(connections)
    async with working(pool):
        plain = await pool.enqueue_job("add", 1, 2)
        later = await pool.enqueue_job("add", 1, _defer_by=0.2)
        failed, held = await pool.enqueue_job("fail"), await pool.enqueue(limited, 4)
        napping = await pool.enqueue_job("nap")
        assert plain is not None
        assert later is not None
        assert failed is not None
        assert held is not None
        assert napping is not None
        assert await plain.result(timeout=10) == 3
        assert await later.result(timeout=10) == 1
        assert await held.result(timeout=10) == 4
        with pytest.raises(ValueError, match="no good"):
            await failed.result(timeout=10)
        assert await napping.abort(timeout=10)
        flow = await pool.enqueue_flow(add.s(1) | add.s(2))
        assert await flow.result(timeout=10) == 3
        flowing = await pool.enqueue(order, 1)
        assert flowing is not None
        assert await flowing.result(timeout=10) == 2
        await pool.schedules.upsert(schedule(every(1), add, args=[1], name="made"))

        async def has_run() -> bool:
            return bool(await pool.schedules.history("made"))

        await wait_until(has_run, "the schedule has run")
        assert len(await pool.all_job_results()) >= 5
        assert [each.alive for each in await pool.workers()] == [True]
    await pool.aclose()


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def test_a_real_connection_is_taken_over(redis_url: str, run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a real connection was used as a plain one")

    monkeypatch.setattr(link, "RedisPyLink", refuse)
    monkeypatch.setattr(listener, "RedisPySubscription", refuse)

    async def use_both() -> None:
        pool = await create_pool(redis_url)
        ready = asyncio.Event()
        with pool.listener.listen("somewhere", lambda _: ready.set()):
            await asyncio.wait_for(ready.wait(), 10)
            assert await pool.enqueue_job("add") is not None
        await pool.aclose()

    run(use_both())


async def test_a_burst_on_a_pool_of_stock_arq() -> None:
    pool = ArqRedis(connection_pool=FakeRedis().connection_pool)
    await pool.enqueue_job("add", 1, 2)
    worker = Worker(JOBS, redis_pool=pool, burst=True, handle_signals=False)
    async with asyncio.timeout(10):
        await worker.async_run()
    assert worker.jobs_complete == 1
    await worker.close()


def test_without_lua_the_error_says_what_to_use() -> None:
    """In a process of its own: there the Lua that fakeredis uses cannot be imported."""
    program = (
        "import sys; sys.modules['lupa'] = None\n"
        "import asyncio; from fakeredis.aioredis import FakeRedis; from arqestra import Pool\n"
        "async def main(): await Pool(FakeRedis().connection_pool).enqueue_job('x')\n"
        "asyncio.run(main())"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60)
    assert "install fakeredis[lua], or use a real server, arqestra.embedded.EmbeddedRedis" in ran.stderr


NUMBERS = [0, 1, 127, 128, 255, 70_000, 2**32, 1_700_000_000_000, -1, -32, -33, -70_000, 0.1, -2.5, 1e-5, 6.02e23]
VALUES = [
    NUMBERS,
    "",
    "a" * 31,
    "a" * 32,
    "é" * 300,
    b"\xff\x00".hex(),
    True,
    False,
    [],
    [[1, ["x"]]],
    {"a": 1},
    ["x"] * 99,
]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: str(value)[:12])
async def test_the_scripts_messagepack_is_everybodys(value: Any) -> None:
    fake: Any = FakeRedis()
    text, _ = self_contained("return cmsgpack.pack(cmsgpack.unpack(ARGV[1]))")

    echoed = await fake.eval(text, 0, msgspec.msgpack.encode(value))

    assert msgspec.msgpack.decode(echoed) == value
    await fake.aclose()


async def test_a_server_that_has_messagepack_uses_its_own(redis_url: str) -> None:
    async with Redis.from_url(redis_url) as redis:
        text, _ = self_contained("return type(cmsgpack.pack_safe or cmsgpack.unpack_one)")
        assert await redis.eval(text, 0) == b"function"
