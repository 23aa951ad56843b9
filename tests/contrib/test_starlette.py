"""`Jobs` in real applications of Starlette and FastAPI."""

import asyncio
import logging
import warnings
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

import httpx
import pytest
from fastapi import Depends, FastAPI, WebSocket
from redis.exceptions import ConnectionError as RedisConnectionError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from arqestra import Pool, RedisSettings, job
from arqestra.contrib.fastapi import Jobs
from tests.support.wait import wait_until

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it asks for a successor of httpx that is new
    from fastapi.testclient import TestClient


@job
async def double(ctx: dict[Any, Any], number: int) -> int:
    return 2 * number


class WorkerSettings:
    functions = (double,)


def application(jobs: Jobs) -> FastAPI:
    app = FastAPI(lifespan=jobs.lifespan)
    pool_of_request = Depends(jobs.pool)

    @app.post("/double/{number}")
    async def enqueue(number: int, pool: Annotated[Pool, pool_of_request]) -> int:
        handle = await pool.enqueue(double, number)
        assert handle is not None
        return await handle.result(timeout=30)

    @app.websocket("/socket")
    async def socket(websocket: WebSocket, pool: Annotated[Pool, pool_of_request]) -> None:
        await websocket.accept()
        await websocket.send_text(str(await pool.ping()))
        await websocket.close()

    return app


def test_a_worker_in_the_same_process_runs_what_a_route_enqueues(redis_url: str) -> None:
    with TestClient(application(Jobs(redis_url, worker=WorkerSettings))) as client:
        assert client.post("/double/21").json() == 42
        with client.websocket_connect("/socket") as socket:
            assert socket.receive_text() == "True"


@pytest.mark.parametrize(
    "settings", [{"serializer": "json"}, {"default_queue_name": "own"}, {"key_prefix": "app", "max_payload_bytes": 99}]
)
def test_the_worker_reads_what_the_pool_writes(redis_url: str, settings: dict[str, Any]) -> None:
    with TestClient(application(Jobs(redis_url, worker={"functions": [double]}, **settings))) as client:
        assert client.post("/double/21").json() == 42


def test_starlette(redis_url: str) -> None:
    jobs = Jobs(redis_url)

    async def depth(request: Request) -> PlainTextResponse:
        return PlainTextResponse(str(await jobs.pool(request).queue("arq:queue").depth()))

    with TestClient(Starlette(routes=[Route("/", depth)], lifespan=jobs.lifespan)) as client:
        assert client.get("/").text == "0"


def test_the_application_s_own_lifespan_has_the_pool(redis_url: str) -> None:
    seen: list[Any] = []

    @asynccontextmanager
    async def own(app: FastAPI) -> AsyncIterator[dict[str, Any]]:
        seen.append(await app.state.arqestra_pool.ping())
        yield {"database": "open"}
        seen.append(await app.state.arqestra_pool.ping())

    jobs = Jobs(redis_url, lifespan=own)
    app = FastAPI(lifespan=jobs.lifespan)

    @app.get("/")
    async def state(request: Request) -> str:
        return str(request.state.database)

    with TestClient(app) as client:
        assert client.get("/").json() == "open"
    assert seen == [True, True]


def test_it_can_start_again(redis_url: str) -> None:
    app = application(Jobs(redis_url, worker=WorkerSettings))
    for number in (1, 2):
        with TestClient(app) as client:
            assert client.post(f"/double/{number}").json() == 2 * number


async def test_without_the_lifespan_the_error_says_what_is_missing(redis_url: str) -> None:
    app = application(Jobs(redis_url))
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        with pytest.raises(RuntimeError, match=r"lifespan=jobs\.lifespan"):
            await client.post("/double/1")


def test_without_redis_the_application_does_not_start() -> None:
    settings = RedisSettings(port=1, conn_retries=0)
    with pytest.raises((RedisConnectionError, OSError)), TestClient(application(Jobs(settings))):
        raise AssertionError("it runs")


def test_a_worker_that_cannot_start_keeps_the_application_from_starting(redis_url: str) -> None:
    async def fails(ctx: dict[Any, Any]) -> None:
        raise RuntimeError("no database")

    worker = {"functions": [double], "on_startup": fails}
    with pytest.raises(RuntimeError, match="no database"), TestClient(application(Jobs(redis_url, worker=worker))):
        raise AssertionError("it runs")


async def test_a_worker_that_ends_is_missed(redis_url: str, caplog: pytest.LogCaptureFixture) -> None:
    jobs, app = Jobs(redis_url, worker=WorkerSettings), FastAPI()
    async with jobs.lifespan(app):
        for task in asyncio.all_tasks():
            if "main" in repr(task.get_coro()) and "Worker.main" in repr(task):
                task.cancel()
        with caplog.at_level(logging.CRITICAL):
            await wait_until(lambda: "the worker beside this application has ended" in caplog.text)
