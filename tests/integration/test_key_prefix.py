"""Applications that share a Redis, each with a key prefix: none sees or touches what is another's.

The server says so: the users of the applications may touch no other keys and channels than those of their prefix.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import arq
import httpx
import pytest
import redis
from arq.connections import ArqRedis

from arqestra import (
    Flow,
    Job,
    Pool,
    RedisSettings,
    ScheduleNotFound,
    SettingsError,
    Timetable,
    Unique,
    Worker,
    chord,
    create_pool,
    every,
    job,
    schedule,
    workflow,
)
from arqestra.embedded import EmbeddedRedis
from arqestra.protocol.keys import Keys
from arqestra.protocol.lua_names import lua_names
from arqestra.web import create_app
from arqestra.worker import async_check_health
from tests.support.command_line import CommandLine
from tests.support.repository import REPOSITORY
from tests.support.wait import wait_until
from tests.support.workers import worker_running

APPS = ("app1", "app2")
LUA = REPOSITORY / "arqestra" / "store" / "lua"
RAN: list[tuple[str, str]] = []  # who ran what


@job
async def add(ctx: dict[Any, Any], *numbers: Any) -> Any:
    ctx.log(f"in {ctx['app']}")  # type: ignore[attr-defined]
    RAN.append((ctx["app"], "add"))
    return [ctx["app"], *(number for number in numbers if isinstance(number, int))]


@job(max_tries=1)
async def fail(ctx: dict[Any, Any]) -> None:
    raise ValueError(ctx["app"])


@job
async def nap(ctx: dict[Any, Any]) -> None:
    await asyncio.sleep(60)


@job(rate_limit="1000/s", concurrency=1, unique=Unique(key=lambda number: number, on_conflict="return"))
async def limited(ctx: dict[Any, Any], number: int) -> str:
    return str(ctx["app"])


@workflow
async def order(flow: Flow) -> Any:
    first = await flow.run(add.s(1))
    more = await flow.wait_for("more")
    await flow.sleep(0.01)
    return [*first, more]


JOBS = [add, fail, nap, limited, order]


class Shared:
    """A server with a user for each application."""

    def __init__(self, server: EmbeddedRedis) -> None:
        self.server = server
        self.admin = redis.Redis.from_url(server.url, decode_responses=True)

    def url(self, app: str) -> str:
        return self.server.url.replace("redis://", f"redis://{app}:secret@")

    def names(self) -> set[str]:
        """All keys, and all channels that somebody listens to."""
        keys: Any = self.admin.keys()
        channels: Any = self.admin.pubsub_channels()
        return {*keys, *channels}

    def denied(self) -> set[str]:
        entries: Any = self.admin.acl_log()
        return {
            f"{each['username']}: {each['client-info']['cmd']} {each['reason']} {each['object']}" for each in entries
        }


@pytest.fixture
def shared(redis_server: EmbeddedRedis, redis_url: str) -> Iterator[Shared]:
    found = Shared(redis_server)
    for app in APPS:
        found.admin.execute_command("ACL", "SETUSER", app, "on", ">secret", f"~{app}:*", f"&{app}:*", "+@all")
    found.admin.execute_command("ACL", "LOG", "RESET")
    RAN.clear()
    yield found
    for app in APPS:
        found.admin.execute_command("ACL", "DELUSER", app)
    found.admin.close()


@contextlib.asynccontextmanager
async def application(url: str, app: str | None, **settings: Any) -> AsyncIterator[tuple[Pool, Worker]]:
    """A pool and a worker, under the names that every application has."""
    pool = await create_pool(url, serializer="msgpack", key_prefix=app)
    settings = {"queues": ["arq:queue", "bulk"], "cron_queue": "arq:queue", **settings}
    settings = {"key_prefix": app, "allow_abort_jobs": True, "ctx": {"app": app or "stock"}, **settings}
    async with pool, worker_running(pool, functions=JOBS, **settings) as worker:
        yield pool, worker


async def use_everything(pool: Pool, app: str) -> None:
    """The same names and ids in each application."""
    done = await pool.enqueue_job("add", 1, _job_id="one")
    assert done is not None
    assert await done.result(timeout=10) == [app, 1]
    assert [line.text for line in await done.log()] == [f"in {app}"] or await done.progress() is None
    assert await Job("one", pool).status() == "complete"
    many = await pool.enqueue_many([limited.options(job_id=f"limited-{number}").bind(number) for number in range(3)])
    assert [await each.result(timeout=10) for each in many if each is not None] == [app] * 3
    bulk = await pool.enqueue_job("add", 2, _job_id="bulk", _queue_name="bulk", _priority=3, _defer_by=0.05)
    assert bulk is not None
    assert await bulk.result(timeout=10) == [app, 2]
    failed = await pool.enqueue_job("fail", _job_id="failed")
    assert failed is not None
    with pytest.raises(Exception, match=app):
        await failed.result(timeout=10)
    assert len(await failed.errors()) == 1
    assert [each.job_id for each in await pool.queue().dead()] == ["failed"]
    napping = await pool.enqueue_job("nap", _job_id="napping")
    assert napping is not None
    assert await napping.abort(timeout=10)
    flow = await pool.enqueue_flow(chord([add.s(1), add.s(2)], add.s()) | add.s(3), flow_id="flow")
    assert await flow.result(timeout=10) == [app, 3]
    waiting = await pool.enqueue(order.options(job_id="order"))
    assert waiting is not None
    assert await pool.signal("order", "more", 5)
    assert await waiting.result(timeout=10) == [app, 1, 5]
    await pool.schedules.upsert(schedule(every(1), add, args=[1], name="made"))

    async def have_run() -> bool:
        return bool(await pool.schedules.history("coded")) and bool(await pool.schedules.history("made"))

    await wait_until(have_run, "both schedules have run")
    assert await pool.queue("bulk").pause()
    assert await pool.queue("bulk").resume()


async def test_two_applications_side_by_side_share_nothing(shared: Shared) -> None:
    settings = {"schedules": [schedule(every(1), add, args=[1], name="coded")]}
    async with (
        application(shared.url("app1"), "app1", **settings) as (one, _),
        application(shared.url("app2"), "app2", **settings) as (two, _),
    ):
        await asyncio.gather(use_everything(one, "app1"), use_everything(two, "app2"))
        names = shared.names()
        assert {name.partition(":")[0] for name in names} == set(APPS), names
        for app in APPS:
            assert {f"{app}:arq:result:one", f"{app}:arqestra:flow:flow", f"{app}:arq:queue:health-check"} <= names
        for pool in (one, two):
            assert await pool.used_queues() == ["arq:queue", "bulk"]
            await wait_until(lambda pool=pool: pool.workers(), "the worker has told of itself")  # type: ignore[misc]
            assert len(await pool.workers()) == 1
            assert {result.queue_name for result in await pool.all_job_results()} == {"arq:queue", "bulk"}
            assert {result.job_id for result in await pool.all_job_results()} >= {"one", "failed", "order"}
    assert shared.denied() == set()


async def test_an_application_without_a_prefix_is_beside_them_with_arqs_keys(shared: Shared, redis_url: str) -> None:
    async with (
        application(redis_url, None) as (stock, _),
        application(shared.url("app1"), "app1") as (one, _),
    ):
        assert await one.queue().pause()  # its queue holds what the other's has ended
        held = await one.enqueue_job("add", 7, _job_id="same")
        kept = await stock.enqueue_job("add", 8, _job_id="same", _defer_by=60)
        assert held is not None
        assert kept is not None
        beside = await create_pool(redis_url, key_prefix="app2")
        assert await beside.queued_jobs() == []
        await beside.aclose()
        listed = [[each.job_id for each in await pool.queued_jobs()] for pool in (stock, one)]
        assert listed == [["same"], ["same"]]
        arqestra = CommandLine(redis_url)
        found = (await arqestra("queues", "list", "--json")).document
        assert "app1:" not in str(found)
        assert await stock.job("same").delete()
        assert await one.queue().resume()
        assert await held.result(timeout=10) == ["app1", 7]
    assert shared.denied() == set()


async def test_messages_of_the_one_reach_nobody_of_the_other(shared: Shared) -> None:
    """The events, and what workers are told."""
    async with (
        application(shared.url("app1"), "app1") as (one, _),
        application(shared.url("app2"), "app2") as (two, _),
    ):
        heard: dict[str, list[str]] = {app: [] for app in APPS}

        async def hear(pool: Pool, app: str) -> None:
            async for event in pool.events():
                heard[app].append(event.job_id)

        hearing = [asyncio.ensure_future(hear(pool, app)) for pool, app in ((one, "app1"), (two, "app2"))]

        async def tells() -> bool:
            done = await one.enqueue_job("add", 1)
            assert done is not None
            await done.result(timeout=10)
            return bool(heard["app1"])

        await wait_until(tells, "an event was heard")
        assert set(heard["app2"]) <= {""}  # its worker tells of itself
        for task in hearing:
            task.cancel()
        await asyncio.gather(*hearing, return_exceptions=True)
    assert shared.denied() == set()


async def test_each_command_and_page_is_of_one_application(shared: Shared) -> None:
    async with application(shared.url("app1"), "app1") as (one, _):
        for id_ in ("one", "failed"):
            handle = await one.enqueue_job("add" if id_ == "one" else "fail", _job_id=id_)
            assert handle is not None
            with contextlib.suppress(Exception):
                await handle.result(timeout=10)
        here, there = CommandLine(shared.url("app1")), CommandLine(shared.url("app2"))
        here.environment["ARQESTRA_KEY_PREFIX"] = "app1"
        for words in (
            *("jobs list", "jobs list --state failed", "jobs show one", "jobs show failed", "jobs retry failed"),
            *("queues list", "workers list", "cron list", "workflows list", "stats", "enqueue add", "metrics --once"),
            *("queues pause bulk", "queues resume bulk", "queues purge bulk -y"),
        ):
            ran = await here(*words.split())
            assert ran.code == 0, (words, ran)
        assert (await here("doctor")).code < 2
        shown = await there("jobs", "show", "one", "--key-prefix", "app2")
        assert shown.code == 1, shown
        workers = await there("workers", "list", "--key-prefix", "app2", "--json")
        assert "1" not in str(workers.document.get("workers", [])), workers
        refused = await there("jobs", "list", "--key-prefix", "a:b")
        assert refused.code == 2
        assert "key_prefix: expected" in refused.err

        app = create_app(shared.url("app1"), key_prefix="app1")
        async with app.router.lifespan_context(app):
            transport = httpx.ASGITransport(app=app, client=("127.0.0.1", 1234))
            async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
                for path in ("healthz", "metrics", "", "jobs", "queues", "workers", "schedules", "workflows", "audit"):
                    assert (await client.get(f"/{path}")).status_code == 200, path
                assert "ValueError" in (await client.get("/job?id=failed")).text
        mounted = create_app(one)
        async with mounted.router.lifespan_context(mounted):
            transport = httpx.ASGITransport(app=mounted, client=("127.0.0.1", 1234))
            async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
                assert (await client.get("/job?id=one")).status_code == 200
    assert shared.denied() == set()


SETTINGS = """
import os
import arqestra

@arqestra.job
async def where(ctx):
    return arqestra.current_job().queue

@arqestra.worker_settings
class WorkerSettings:
    functions = [where]
    redis_settings = arqestra.RedisSettings.from_dsn(os.environ["TEST_REDIS_URL"])
    serializer = "msgpack"
    key_prefix = "app1"
    poll_delay = 0.1

TIMETABLE = arqestra.Timetable(
    [arqestra.schedule(arqestra.every(1), where, name="fired")],
    redis_settings=os.environ["TEST_REDIS_URL"], serializer="msgpack", key_prefix="app1",
)
"""


@pytest.mark.parametrize("how", ["arq", "arqestra"])
async def test_settings_classes_have_a_prefix(shared: Shared, tmp_path: Path, how: str) -> None:
    """The process of arq's command line, of a supervisor, of a scheduler; and `arq --check`."""
    (tmp_path / "prefixed.py").write_text(SETTINGS)
    environment = {**os.environ, "TEST_REDIS_URL": shared.url("app1")}
    bin_ = Path(sys.executable).parent
    program = [bin_ / "arq"] if how == "arq" else [bin_ / "arqestra", "worker"]
    scheduler = [bin_ / "arqestra", "scheduler", "prefixed.TIMETABLE"]
    processes = [
        await asyncio.create_subprocess_exec(*words, cwd=tmp_path, env=environment)
        for words in ([*program, "prefixed.WorkerSettings"], scheduler)
    ]
    try:
        async with await create_pool(shared.url("app1"), serializer="msgpack", key_prefix="app1") as pool:
            done = await pool.enqueue_job("where", _job_id="one")
            assert done is not None
            assert await done.result(timeout=30) == "arq:queue"

            async def has_fired() -> bool:
                with contextlib.suppress(ScheduleNotFound):  # the scheduler has not begun yet
                    return any(run.job_id for run in await pool.schedules.history("fired"))
                return False

            await wait_until(has_fired, "the scheduler has fired")
            words = [str(bin_ / "arq"), "--check", "prefixed.WorkerSettings"]
            checked = await asyncio.create_subprocess_exec(*words, cwd=tmp_path, env=environment)
            assert await checked.wait() == 0
            assert await async_check_health(shared.url("app2"), key_prefix="app2") == 1
            assert {name.partition(":")[0] for name in shared.names()} == {"app1"}
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            await process.wait()
    assert shared.denied() == set()


@pytest.mark.parametrize(
    "prefix", ["arq", "arqestra", "a:b", ":", "app*", "app?", "a[b]", "{app}", "a b", "-a", "x" * 65, 7, "ü"]
)
async def test_a_prefix_that_is_none_is_refused(redis_url: str, prefix: Any) -> None:
    with pytest.raises(SettingsError, match="key_prefix: expected"):
        await create_pool(redis_url, key_prefix=prefix)
    with pytest.raises(SettingsError, match="key_prefix: expected"):
        Worker(JOBS, redis_settings=redis_url, key_prefix=prefix, handle_signals=False)
    with pytest.raises(SettingsError, match="key_prefix: expected"):
        create_app(redis_url, key_prefix=prefix)


async def test_a_prefix_together_with_stock_arq_is_refused(redis_url: str) -> None:
    """Pools that know other keys than the worker; and names that were read off a key."""
    stock = await arq.create_pool(RedisSettings.from_dsn(redis_url))
    other = await create_pool(redis_url, key_prefix="app2")
    same = await create_pool(redis_url, key_prefix="app1")
    plain = await create_pool(redis_url)
    for pool in (ArqRedis(connection_pool=stock.connection_pool), other, plain):
        with pytest.raises(SettingsError, match="key_prefix: expected a redis_pool of the same prefix"):
            Worker(JOBS, redis_pool=pool, key_prefix="app1", handle_signals=False)
    Worker(JOBS, redis_pool=same, key_prefix="app1", handle_signals=False)
    Worker(JOBS, redis_pool=same, handle_signals=False)
    with pytest.raises(SettingsError, match="without the key prefix, 'arq:queue'"):
        Worker(JOBS, redis_settings=redis_url, key_prefix="app1", queue_name="app1:arq:queue", handle_signals=False)
    with pytest.raises(SettingsError, match="without the key prefix"):
        await create_pool(redis_url, key_prefix="app1", default_queue_name="app1:q")
    with pytest.raises(SettingsError, match="without the key prefix"):
        await same.enqueue_job("add", _queue_name="app1:q")
    with pytest.raises(SettingsError, match="without the key prefix"):
        await same.enqueue_flow(add.s(1).set(queue="app1:q") | add.s())
    with pytest.raises(SettingsError, match="without the key prefix"):
        await same.schedules.upsert(schedule(every(1), add, name="s", queue="app1:q"))
    with pytest.raises(SettingsError, match="without the key prefix"):
        same.queue("app1:q")
    with pytest.raises(SettingsError, match="without the key prefix"):
        same.job("one", queue="app1:q")
    with pytest.raises(SettingsError, match="key_prefix: expected that of the pool, 'app1'"):
        create_app(same, key_prefix="app2")
    table = Timetable([schedule(every(1), add, name="s")], key_prefix="app2")
    with pytest.raises(SettingsError, match="expected a Timetable of this worker's key_prefix"):
        Worker(JOBS, redis_pool=same, schedules=table, key_prefix="app1", handle_signals=False)
    for pool in (stock, other, same, plain):
        await pool.aclose()


def test_without_a_prefix_keys_are_arqs() -> None:
    keys = Keys.of(None)
    assert keys == Keys() == Keys.of("")
    assert (keys.queue("arq:queue"), keys.job("1"), keys.events) == ("arq:queue", "arq:job:1", "arqestra:events")
    assert keys.key_prefix is None


def test_scripts_name_no_key_without_its_namespace() -> None:
    """A queue is a name wherever it stands by itself: as a key it is `k.QUEUE .. queue`. Names of keys are in c.k."""
    names = "|".join(lua_names(Keys()))
    for path in LUA.glob("*.lua"):
        code = re.sub(r"--.*", "", path.read_text())
        bare = re.findall(r"call\('[A-Z]+', (?:queue|owner|home|q\.name|node\.queue)\b.*", code)
        assert not bare, (path.name, bare)
        assert not re.search(r"'(?:arq|arqestra):", code), path.name
        assert not re.findall(rf"(?<![\w.'])(?:{names})\b(?!')", code), path.name
