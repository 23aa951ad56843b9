"""The port that is scraped: what it answers, and that nobody keeps it from answering others."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from arqestra.observe import endpoint as module
from arqestra.observe.endpoint import MAX_CONNECTIONS, MAX_HEAD_BYTES, Endpoint, serve_when_free
from tests.support.scrape import fetch, say
from tests.support.wait import wait_until

BODY = b"arqestra_up 1\n"


async def metrics(accept: str) -> tuple[bytes, str]:
    return BODY, f"text/plain; asked={accept}"


@pytest.fixture
async def served() -> AsyncIterator[Endpoint]:
    endpoint = Endpoint(metrics, 0)
    await endpoint.start()
    yield endpoint
    await endpoint.stop()


def address_of(endpoint: Endpoint) -> tuple[str, int]:
    host, _, port = endpoint.url.removeprefix("http://").removesuffix("/metrics").rpartition(":")
    return host, int(port)


async def test_metrics_and_health(served: Endpoint) -> None:
    response = await fetch(served.url, accept="this/that")
    assert (response.status, response.body.encode()) == (200, BODY)
    assert response.headers["content-type"] == "text/plain; asked=this/that"
    assert response.headers["content-length"] == str(len(BODY))
    assert (await fetch(f"{served.url}?name[]=up")).status == 200

    health = await fetch(served.url.replace("/metrics", "/healthz"))
    assert (health.status, health.body) == (200, "ok\n")
    head = await fetch(served.url, method="HEAD")
    assert (head.status, head.body, head.headers["content-length"]) == (200, "", str(len(BODY)))


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ("GET /nothing HTTP/1.1\r\n\r\n", 404),
        ("GET /metrics/../etc HTTP/1.1\r\n\r\n", 404),
        ("POST /metrics HTTP/1.1\r\nContent-Length: 0\r\n\r\n", 405),
        ("GET /metrics\r\n\r\n", 400),
        ("nonsense\r\n\r\n", 400),
        ("\x16\x03\x01 \x01\r\n\r\n", 400),
        (f"GET /metrics HTTP/1.1\r\nX: {'x' * MAX_HEAD_BYTES}\r\n\r\n", 431),
    ],
)
async def test_what_else_is_asked_is_refused(served: Endpoint, text: str, status: int) -> None:
    assert (await say(address_of(served), text)).status == status
    assert (await fetch(served.url)).status == 200


async def test_who_sends_no_request_is_hung_up_on(served: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REQUEST_WAIT_S", 0.05)
    reader, writer = await asyncio.open_connection(*address_of(served))
    writer.write(b"GET /metrics HT")
    async with asyncio.timeout(20):
        assert await reader.read() == b""
    writer.close()
    await writer.wait_closed()


async def test_who_reads_no_answer_is_hung_up_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ANSWER_WAIT_S", 0.2)

    async def long(accept: str) -> tuple[bytes, str]:
        return b"x" * 50_000_000, "text/plain"

    endpoint = Endpoint(long, 0)
    await endpoint.start()
    _, writer = await asyncio.open_connection(*address_of(endpoint), limit=1)
    writer.write(b"GET /metrics HTTP/1.1\r\n\r\n")
    await wait_until(lambda: endpoint.connections == 1, "a connection")
    await wait_until(lambda: endpoint.connections == 0, "it to be hung up on")
    writer.transport.abort()
    await endpoint.stop()


async def test_who_asks_nothing_keeps_nobody_from_an_answer(served: Endpoint) -> None:
    idle = [await asyncio.open_connection(*address_of(served)) for _ in range(MAX_CONNECTIONS)]
    await wait_until(lambda: served.connections == MAX_CONNECTIONS, "as many connections")
    for reader, _ in idle[:2]:
        idle.append(await asyncio.open_connection(*address_of(served)))
        assert await reader.read() == b""  # the one that has been silent for the longest
    assert (await fetch(served.url)).status == 200
    for _, writer in idle:
        writer.transport.abort()


async def test_more_scrapes_than_scrapers_make_are_turned_away() -> None:
    go = asyncio.Event()

    asked = 0

    async def slow(accept: str) -> tuple[bytes, str]:
        nonlocal asked
        asked += 1
        await go.wait()
        return BODY, "text/plain"

    endpoint = Endpoint(slow, 0)
    await endpoint.start()
    asking = [asyncio.create_task(fetch(endpoint.url)) for _ in range(MAX_CONNECTIONS)]
    await wait_until(lambda: asked == MAX_CONNECTIONS, "all of them to have asked")
    assert (await fetch(endpoint.url)).status == 503
    go.set()
    assert {(await each).status for each in asking} == {200}
    await endpoint.stop()


async def test_an_error_is_an_answer(caplog: pytest.LogCaptureFixture) -> None:
    async def broken(accept: str) -> tuple[bytes, str]:
        raise KeyError("secret")

    endpoint = Endpoint(broken, 0)
    await endpoint.start()
    response = await fetch(endpoint.url)
    await endpoint.stop()

    assert response.status == 500
    assert "secret" not in response.body
    assert "a scrape went wrong" in caplog.text


async def test_a_port_that_is_in_use(
    served: Endpoint, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "TRY_AGAIN_S", 0.01)
    _, port = address_of(served)
    second = Endpoint(metrics, port)
    with pytest.raises(OSError, match=f"cannot listen at 127.0.0.1 port {port}: Address already in use"):
        await second.start()

    tries = 0
    start = second.start

    async def counted() -> None:
        nonlocal tries
        tries += 1
        await start()

    monkeypatch.setattr(second, "start", counted)
    waiting = asyncio.create_task(serve_when_free(second))
    await wait_until(lambda: tries >= 5, "it to be tried again")
    assert caplog.text.count("Address already in use") == 1
    await served.stop()
    async with asyncio.timeout(20):
        await waiting
    assert (await fetch(second.url)).status == 200
    await second.stop()


async def test_stopping_waits_for_nobody() -> None:
    async def never(accept: str) -> tuple[bytes, str]:
        await asyncio.Event().wait()
        raise AssertionError

    endpoint = Endpoint(never, 0)
    await endpoint.start()
    asked = asyncio.create_task(fetch(endpoint.url))
    await wait_until(lambda: endpoint.connections == 1, "a request")
    async with asyncio.timeout(10):
        await endpoint.stop()
    await asyncio.gather(asked, return_exceptions=True)
    assert endpoint.connections == 0
