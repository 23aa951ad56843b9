"""What has a time limit and what has none: commands that wait on purpose, slow lines, silence; and what errors say."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ReadOnlyError
from redis.exceptions import TimeoutError as RedisTimeoutError

import arqestra
from arqestra import Pool, RedisSettings
from arqestra.embedded import EmbeddedRedis
from arqestra.store import time_limits
from arqestra.store.calls import ScriptCall
from arqestra.store.link import Links
from arqestra.store.replies import ServerNotReady
from arqestra.store.scripts import script

LIMIT_S = 0.4


@pytest.fixture
def short_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time_limits, "REPLY_LIMIT_S", LIMIT_S)


BUSY = "local t = redis.call('TIME') local e = t[1] * 1000000 + t[2] + {us} repeat t = redis.call('TIME') until {done}"
SCRIPT = BUSY.format(us=int(LIMIT_S * 2_000_000), done="t[1] * 1000000 + t[2] > e") + " return 'done'"


@pytest.mark.parametrize(
    "command",
    [
        ("BLPOP", "nothing", LIMIT_S * 2),
        ("BLPOP nothing", LIMIT_S * 2),  # redis-py takes it apart
        (f"blpop nothing {LIMIT_S * 2}",),
        ("XREAD", "BLOCK", int(LIMIT_S * 2000), "STREAMS", "nothing", "$"),
        (f"xread block {int(LIMIT_S * 2000)} STREAMS nothing $",),
        ("EVAL", SCRIPT, 0),
    ],
)
async def test_commands_that_take_long_on_purpose_have_no_limit(
    pool: Pool, short_limit: None, command: tuple[Any, ...]
) -> None:
    await pool.config_set("busy-reply-threshold", 100)  # within a script the server's clock stands still until then
    started = time.monotonic()
    try:
        await pool.execute_command(*command)
    finally:
        await pool.config_set("busy-reply-threshold", 5000)
    assert time.monotonic() - started > LIMIT_S


Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@contextlib.asynccontextmanager
async def serving(handler: Handler) -> AsyncIterator[int]:
    """A server on a port of its own, which it yields."""
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            with contextlib.suppress(OSError):
                await handler(reader, writer)
        finally:
            await cut(writer)

    server = await asyncio.start_server(serve, "127.0.0.1", 0, limit=1 << 20)
    try:
        yield int(server.sockets[0].getsockname()[1])
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def cut(writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()
    with contextlib.suppress(OSError):
        await writer.wait_closed()


@contextlib.asynccontextmanager
async def line(port: int, carry: Handler) -> AsyncIterator[int]:
    """A proxy whose replies go as `carry` lets them; its port."""

    async def between(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        replies, requests = await asyncio.open_connection("127.0.0.1", port)

        async def ask() -> None:
            while data := await reader.read(65536):
                requests.write(data)
                await requests.drain()

        asking = asyncio.create_task(ask())
        try:
            await carry(replies, writer)
        finally:
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)
            await cut(requests)

    async with serving(between) as proxy_port:
        yield proxy_port


async def slowly(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Short replies at once, long ones in eight pieces that take twice the limit together."""
    while data := await reader.read(65536):
        size = len(data) if len(data) < 1000 else len(data) // 8
        for first in range(0, len(data), size):
            writer.write(data[first : first + size])
            await writer.drain()
            if len(data) >= 1000:
                await asyncio.sleep(LIMIT_S / 4)


async def one_half(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """The first half of each long reply."""
    while data := await reader.read(65536):
        writer.write(data if len(data) < 1000 else data[: len(data) // 2])
        await writer.drain()


@pytest.mark.parametrize("protocol", [2, 3])
async def test_a_long_reply_that_is_on_its_way_is_no_silence(
    pool: Pool, redis_server: EmbeddedRedis, short_limit: None, protocol: int
) -> None:
    await pool.set("long", "x" * 20_000)
    async with line(redis_server.port, slowly) as port:
        slow = arqestra.ArqRedis(port=port, protocol=protocol)
        started = time.monotonic()
        assert len(await slow.get("long")) == 20_000
        assert time.monotonic() - started > LIMIT_S
        await slow.aclose()


async def test_a_reply_of_which_no_more_comes_has_a_limit(
    pool: Pool, redis_server: EmbeddedRedis, short_limit: None
) -> None:
    await pool.set("long", "x" * 20_000)
    async with line(redis_server.port, one_half) as port:
        broken = arqestra.ArqRedis(port=port)
        with pytest.raises(RedisTimeoutError, match="expected a reply within"):
            async with asyncio.timeout(10):
                await broken.get("long")
        await broken.aclose()


async def take_slowly(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Take 50 MB a second, and answer OK to whatever ends with LAST."""
    taken = b""
    while data := await reader.read(1_000_000):
        taken = (taken + data)[-200:]
        if taken.endswith(b"LAST\r\n"):
            writer.write(b"+OK\r\n")
        elif greetings := taken.count(b"SETINFO"):
            writer.write(b"+OK\r\n" * greetings)
            taken = b""
        else:
            await asyncio.sleep(len(data) / 50_000_000)


async def test_a_long_command_that_is_on_its_way_is_no_silence(short_limit: None) -> None:
    value = "x" * 60_000_000 + "LAST"
    async with serving(take_slowly) as port:
        redis = arqestra.ArqRedis(port=port)
        started = time.monotonic()
        assert await redis.set("long", value)
        assert time.monotonic() - started > LIMIT_S
        await redis.aclose()


async def test_a_long_call_of_a_script_that_is_on_its_way_is_no_silence() -> None:
    async with serving(take_slowly) as port:
        redis = arqestra.ArqRedis(port=port)
        links = Links(redis.connection_pool, reply_timeout_s=LIMIT_S)
        peek = script("peek")
        call = ScriptCall(peek, ("FCALL", peek.function, 1, redis.store.keys.deployment, "x" * 60_000_000 + "LAST"))
        started = time.monotonic()
        assert await links.call([call]) == [b"OK"]
        assert time.monotonic() - started > LIMIT_S
        await links.close()
        await redis.aclose()


async def test_every_call_to_a_replica_fails_with_one_type_of_error(pool: Pool) -> None:
    await pool.execute_command("REPLICAOF", "127.0.0.1", "1")
    try:
        acts = [
            pool.enqueue_job("f"),
            pool.enqueue_many([("f", (), {})]),
            pool.enqueue_flow(arqestra.chain(arqestra.signature("f"), arqestra.signature("f"))),
            pool.schedules.upsert(arqestra.schedule(arqestra.every(60), "f", name="s")),
            pool.queue("q").pause(),
        ]
        errors = await asyncio.gather(*acts, return_exceptions=True)
    finally:
        await pool.execute_command("REPLICAOF", "NO", "ONE")
    assert [type(each).__name__ for each in errors if not isinstance(each, ServerNotReady)] == []
    assert all(isinstance(each, ReadOnlyError) and "READONLY" in str(each) for each in errors), errors


async def test_tls_and_its_lack_are_told(redis_server: EmbeddedRedis) -> None:
    """A client with TLS at a plain port, and one without at a port that wants it."""
    settings: dict[str, Any] = {"host": "127.0.0.1", "conn_retries": 0}
    with pytest.raises((RedisConnectionError, RedisTimeoutError), match="with TLS: does this port speak it"):
        await arqestra.create_pool(RedisSettings(port=redis_server.port, ssl=True, **settings))

    wants_tls = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0, ssl=ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
    port = wants_tls.sockets[0].getsockname()[1]
    with pytest.raises((RedisConnectionError, RedisTimeoutError), match="without TLS: does this port want it"):
        await arqestra.create_pool(RedisSettings(port=port, password="hidden", **settings))
    wants_tls.close()


async def test_a_connection_that_was_just_cut_is_made_anew(redis_url: str) -> None:
    """asyncio of Python 3.12 and 3.13 raises a `TypeError` where something is written to such a connection."""
    async with await arqestra.create_pool(redis_url) as pool:
        assert await pool.enqueue_job("f") is not None
        link: Any = pool.store._runner.links.open_link
        link._transport.abort()  # nobody has heard of it yet
        assert await pool.enqueue_job("f") is not None
        connection: Any = await pool.connection_pool.get_connection()
        connection._writer.transport.abort()
        await connection.send_command("PING")
        assert await connection.read_response() == b"PONG"
        await pool.connection_pool.release(connection)


async def test_the_timeout_of_a_result_counts_from_the_call_on_though_redis_is_frozen() -> None:
    with EmbeddedRedis(use_environment=False) as server:
        async with await arqestra.create_pool(server.url) as pool:
            handle = await pool.enqueue_job("f")
            assert handle is not None
            assert server.pid is not None
            os.kill(server.pid, signal.SIGSTOP)
            try:
                for timeout in (0.1, 2):
                    begin_s = time.monotonic()
                    with pytest.raises(TimeoutError, match=f"has not ended within {timeout} s"):
                        await handle.result(timeout=timeout)
                    assert time.monotonic() - begin_s < 10
            finally:
                os.kill(server.pid, signal.SIGCONT)
            with pytest.raises(TimeoutError):
                await handle.result(timeout=0)
