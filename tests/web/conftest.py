"""A Redis with jobs in it, a worker, and the dashboard as a client without a socket asks it."""

from __future__ import annotations

import contextlib
import re
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette

from arqestra import Pool, Worker
from arqestra.web import TokenAuth, create_app
from tests.support.pools import serializers
from tests.support.wait import wait_until
from tests.support.workers import worker_running
from tests.web.web_jobs import FUNCTIONS, SCHEDULES

VIEWER, OPERATOR = "a-token-of-a-viewer", "a-token-of-an-operator"
BASE = "http://127.0.0.1"


class Client(httpx.AsyncClient):
    """Asks the dashboard as a browser does, with the forms' token."""

    async def form_token(self) -> str:
        """The token of the forms of this visit."""
        page = await self.get("/queues")
        found = re.search(r'name="csrf" value="([0-9a-f]+)"', page.text)
        assert found, page.text
        return found[1]

    async def act(self, action: str, **fields: Any) -> httpx.Response:
        """Send a form."""
        data = {"csrf": await self.form_token(), **fields}
        return await self.post(f"/actions/{action}", data=data, headers={"Sec-Fetch-Site": "same-origin"})


serializer = serializers("msgpack")


@pytest.fixture
async def working(pool: Pool) -> AsyncIterator[Worker]:
    """A worker in this loop that has told of itself."""
    async with worker_running(pool, functions=FUNCTIONS, schedules=SCHEDULES, allow_abort_jobs=True) as worker:
        await wait_until(pool.workers)
        yield worker


@contextlib.asynccontextmanager
async def client_of(app: Starlette, **options: Any) -> AsyncIterator[Client]:
    """A client of an app, whose lifespan is run: that closes its connections."""
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app=app, client=("127.0.0.1", 1234))
        async with Client(transport=transport, base_url=BASE, **options) as client:
            yield client


@pytest.fixture
def app(redis_url: str) -> Starlette:
    return create_app(redis_url, functions=FUNCTIONS)


@pytest.fixture
async def web(app: Starlette) -> AsyncIterator[Client]:
    """On loopback: everybody is an operator."""
    async with client_of(app) as client:
        yield client


@pytest.fixture
def guarded_app(redis_url: str) -> Starlette:
    return create_app(redis_url, auth=TokenAuth({VIEWER: ("vera", "viewer"), OPERATOR: ("otto", "operator")}))


@pytest.fixture
async def viewer(guarded_app: Starlette) -> AsyncIterator[Client]:
    async with client_of(guarded_app, headers={"Authorization": f"Bearer {VIEWER}"}) as client:
        yield client


@pytest.fixture
def no_unpickling(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unpickling anything fails the test."""
    import pickle

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("something was unpickled")

    for name in ("loads", "load", "Unpickler", "_loads", "_Unpickler"):
        monkeypatch.setattr(pickle, name, refuse)
