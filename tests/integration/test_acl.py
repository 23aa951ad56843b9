"""The whole engine under the users of docs/deploying.md: each command that it sends is allowed there."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis
from redis.asyncio import Redis
from redis.exceptions import BusyLoadingError

from arqestra import (
    Backoff,
    Flow,
    Job,
    Pool,
    Unique,
    Worker,
    chain,
    chord,
    create_pool,
    current_job,
    every,
    job,
    schedule,
    workflow,
)
from arqestra.embedded import EmbeddedRedis
from arqestra.store.scripts import script
from arqestra.web import create_app
from arqestra.worker import worker as worker_module
from tests.support.command_line import CommandLine
from tests.support.repository import REPOSITORY
from tests.support.wait import wait_until
from tests.support.workers import worker_running

PAGE = REPOSITORY / "docs" / "deploying.md"
_USER = re.compile(r"^<!-- acl (\w+) -->\n```\n(.*?)^```$", re.M | re.S)
NICE_TO_KNOW = {
    "function|list",
    "function|delete",
    "info",
    "dbsize",
    "config|get",
    "client|setinfo",
    "msetex",
    "client|tracking",
}
SCRIPTS = sorted(
    path.stem for path in Path("arqestra/store/lua").resolve().glob("*.lua") if not path.stem.startswith("_")
)


def documented() -> dict[str, list[str]]:
    """User -> the words of its ACL SETUSER, as docs/deploying.md has them."""
    return {name: text.split()[2:] for name, text in _USER.findall(PAGE.read_text(encoding="utf-8"))}


class Guarded:
    """A server on which everybody is one of the documented users."""

    def __init__(self, server: EmbeddedRedis) -> None:
        self.server = server
        self.admin = redis.Redis.from_url(server.url, decode_responses=True)

    def url(self, user: str) -> str:
        name, _, password = documented()[user][0:3]
        return self.server.url.replace("redis://", f"redis://{name}:{password.removeprefix('>')}@")

    def denied(self) -> set[str]:
        """What was refused, but for what is only nice to know."""
        entries: Any = self.admin.acl_log()
        return {f"{each['username']}: {each['reason']} {each['object']}" for each in entries} - {
            f"{user}: command {name}" for user in documented() for name in NICE_TO_KNOW
        }


@pytest.fixture
def guarded(redis_server: EmbeddedRedis, redis_url: str) -> Iterator[Guarded]:
    found = Guarded(redis_server)
    for words in documented().values():
        found.admin.execute_command("ACL", "SETUSER", *words)
    found.admin.execute_command("ACL", "LOG", "RESET")
    yield found
    for name in documented():
        found.admin.execute_command("ACL", "DELUSER", name)
    found.admin.close()


@contextlib.asynccontextmanager
async def pool_of(url: str) -> AsyncIterator[Pool]:
    pool = await create_pool(url, serializer="msgpack")
    try:
        yield pool
    finally:
        await pool.aclose()


def working(url: str, **settings: Any) -> AbstractAsyncContextManager[Worker]:
    return worker_running(url, functions=JOBS, serializer="msgpack", **settings)


@job
async def add(ctx: dict[Any, Any], *numbers: Any) -> int:
    told = current_job()
    assert told is not None
    told.progress(1, 2, "half")
    told.log("a line")
    return sum(each for number in numbers for each in (number if isinstance(number, list) else [number]))


@job(max_tries=2, retry=Backoff(base=0))
async def fail(ctx: dict[Any, Any]) -> None:
    raise ValueError("no good")


@job
async def nap(ctx: dict[Any, Any]) -> None:
    await asyncio.sleep(60)


@job(rate_limit="100/s", concurrency=1, unique=Unique(key=lambda number: number))
async def limited(ctx: dict[Any, Any], number: int) -> int:
    return number


@workflow
async def order(flow: Flow, number: int) -> int:
    first = await flow.run(add.s(number, 1))
    more = await flow.wait_for("more")
    await flow.sleep(0.01)
    return first + int(more)


JOBS = [add, fail, nap, limited, order]


async def test_the_whole_engine_works_under_the_documented_users(guarded: Guarded) -> None:
    settings = {"schedules": [schedule(every(1), add, args=[1], name="coded")], "allow_abort_jobs": True}
    async with (
        pool_of(guarded.url("producer")) as producer,
        pool_of(guarded.url("operator")) as operator,
        working(guarded.url("worker"), **settings),
    ):
        await run_jobs(producer)
        await run_flows(producer)
        await run_schedules(operator)
        await read_dashboard(guarded.url("operator"))
        await use_command_line(guarded, producer)
    assert guarded.denied() == set()


async def run_jobs(pool: Pool) -> None:
    done = await pool.enqueue_job("add", 1, 2)
    assert done is not None
    assert await done.result(timeout=10) == 3
    await done.progress()
    await done.log()
    await done.info()
    await done.status()
    many = await pool.enqueue_many([limited.bind(number) for number in range(3)])
    assert [await each.result(timeout=10) for each in many if each is not None] == [0, 1, 2]
    failed = await pool.enqueue(fail)
    later = await pool.enqueue_job("add", 1, _defer_by=0.3)
    napping = await pool.enqueue(nap)
    assert failed is not None
    assert later is not None
    assert napping is not None
    with pytest.raises(ValueError, match="no good"):
        await failed.result(timeout=10)
    assert len(await failed.errors()) == 2
    assert await later.result(timeout=10) == 1
    assert await napping.abort(timeout=10)
    await pool.queued_jobs()
    await Job(done.job_id, pool).result_info()


async def run_flows(pool: Pool) -> None:
    flow = await pool.enqueue_flow(chord([add.s(1), add.s(2)], add.s()) | add.s(3))
    assert await flow.result(timeout=10) == 6
    await flow.status()
    await flow.progress()
    waiting = await pool.enqueue(order, 1)
    assert waiting is not None
    assert await pool.signal(waiting.job_id, "more", 5)
    assert await waiting.result(timeout=10) == 7
    assert (await pool.export_workflow(waiting.job_id))["id"] == waiting.job_id
    assert len((await pool.export_workflows(order)).histories) == 1
    stuck = await pool.enqueue_flow(chain(nap.s(), add.s()))
    assert await stuck.cancel("enough")


async def run_schedules(pool: Pool) -> None:
    await pool.schedules.upsert(schedule(every(1), add, args=[1], name="made"))

    async def have_run() -> bool:
        return bool(await pool.schedules.history("coded")) and bool(await pool.schedules.history("made"))

    await wait_until(have_run, "both schedules have run")
    assert await (await pool.schedules.run_now("made")).result(timeout=10) == 1
    assert await pool.schedules.pause("made")
    assert await pool.schedules.remove("made")


async def read_dashboard(url: str) -> None:
    app = create_app(url)
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app=app, client=("127.0.0.1", 1234))
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            for path in ("/healthz", "/metrics"):
                assert (await client.get(path)).status_code == 200, path
            for path in ("", "jobs", "errors", "queues", "workers", "schedules", "workflows", "audit"):
                assert (await client.get(f"/{path}")).status_code == 200, path
            assert (await client.get("/jobs?state=failed")).status_code == 200
            token = re.search(r'name="csrf" value="([0-9a-f]+)"', (await client.get("/queues")).text)
            assert token
            for action in ("pause", "resume"):
                fields = {"csrf": token[1], "name": "arq:queue"}
                headers = {"Sec-Fetch-Site": "same-origin"}
                done = await client.post(f"/actions/queues/{action}", data=fields, headers=headers)
                assert done.status_code in (200, 303), done.text


async def use_command_line(guarded: Guarded, pool: Pool) -> None:
    arqestra = CommandLine(guarded.url("operator"))
    failed = await pool.enqueue(fail)
    assert failed is not None
    with pytest.raises(ValueError, match="no good"):
        await failed.result(timeout=10)
    for words in (
        *("jobs list", "jobs list --state failed", f"jobs show {failed.job_id}", "jobs list --state complete"),
        *("queues list", "workers list", "cron list", "workflows list", "stats", f"jobs retry {failed.job_id}"),
        *("queues pause arq:queue", "queues resume arq:queue", "enqueue add --args [1,2]", "queues purge arq:queue -y"),
    ):
        ran = await arqestra(*words.split())
        assert ran.code == 0, (words, ran)
    checked = await arqestra("doctor")
    assert checked.code == 1, checked  # it warns of what it is not told
    assert "does not tell its version" in re.sub(r"\s+", " ", checked.out)


@pytest.mark.parametrize("role", ["worker", "operator"])
@pytest.mark.parametrize("name", SCRIPTS)
def test_a_user_may_use_each_command_of_the_scripts(name: str, role: str) -> None:
    """Also those of rare cases, which no run of the engine is sure to come by."""
    used = re.findall(r"\bp?call\('([A-Z]+)'(?:, '([A-Z]+)')?", script(name).text)
    names = {f"+{word.lower()}" + (f"|{sub.lower()}" if word == "PUBSUB" else "") for word, sub in used}

    assert names - {"+msetex"} <= set(documented()[role])


async def test_a_worker_starts_where_nothing_nice_to_know_is_told(
    guarded: Guarded, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "arq.worker")
    async with pool_of(guarded.url("producer")) as pool, working(guarded.url("worker")):
        done = await pool.enqueue_job("add", 1)
        assert done is not None
        assert await done.result(timeout=10) == 1
    assert "the server does not describe itself: NoPermissionError" in caplog.text
    assert guarded.denied() == set()
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.mark.parametrize("error", [BusyLoadingError("loading"), ConnectionError(), TimeoutError(), KeyError("x")])
async def test_a_worker_starts_whatever_is_wrong_with_its_first_line(
    redis_url: str, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    async def refuse(*_: Any) -> None:
        raise error

    monkeypatch.setattr(worker_module, "log_redis_info", refuse)
    worker = Worker(JOBS, redis_settings=redis_url, burst=True, handle_signals=False)
    await worker.async_run()
    await worker.close()


async def test_a_worker_starts_that_may_not_write_its_health_check_key(
    guarded: Guarded, caplog: pytest.LogCaptureFixture
) -> None:
    settings: dict[str, Any] = {"health_check_key": "elsewhere", "burst": True, "redis_settings": guarded.url("worker")}
    async with pool_of(guarded.url("producer")) as pool:
        done = await pool.enqueue_job("add", 1)
        assert done is not None
        worker = Worker(JOBS, serializer="msgpack", handle_signals=False, **settings)
        await worker.async_run()
        await worker.close()
        assert await done.result(timeout=10) == 1
    assert "the health check key elsewhere cannot be written" in caplog.text


@pytest.mark.parametrize("policy", ["allkeys-lru", "volatile-ttl", "noeviction"])
async def test_a_worker_warns_of_a_policy_that_loses_jobs(
    redis_server: EmbeddedRedis, redis_url: str, caplog: pytest.LogCaptureFixture, policy: str
) -> None:
    async with Redis.from_url(redis_url) as admin:
        await admin.config_set("maxmemory-policy", policy)
        try:
            worker = Worker(JOBS, redis_settings=redis_url, burst=True, handle_signals=False)
            await worker.async_run()
            await worker.close()
        finally:
            await admin.config_set("maxmemory-policy", "noeviction")
    warned = [record.message for record in caplog.records if "maxmemory-policy" in record.message]
    assert [f"is {policy}:" in message for message in warned] == ([] if policy == "noeviction" else [True])
