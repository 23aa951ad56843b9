"""A server, proxy or load balancer that accepts connections and then says nothing, at every stage of a connection.

Nobody hangs longer than the documented limits, and all go on within 15 s once the server answers again.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import httpx
import pytest
from redis.exceptions import RedisError

import arqestra
from arqestra import RedisSettings, every, schedule
from arqestra.embedded import EmbeddedRedis
from arqestra.web import create_app
from tests.support.proxies.swallowing import STAGES, Stage, SwallowingProxy, deaf_port
from tests.support.repository import REPOSITORY
from tests.support.wait import wait_until
from tests.support.workers import worker_running

from .conftest import Tell

pytestmark = pytest.mark.timeout(300)

# Documented: a connect with its handshake takes `conn_timeout` (1 s), a reply 10 s, a call with all its tries 20 s.
CONNECT_LIMIT_S = 2.0
CALL_LIMIT_S = 20.0
RECOVERY_LIMIT_S = 15.0
STOP_LIMIT_S = 30.0
SLACK_S = 3.0  # of a machine that is busy with other things
IMPATIENT: dict[str, Any] = {"conn_retries": 0, "conn_timeout": 1}

LONG = [pytest.mark.slow]
OUTAGES = [
    pytest.param("handshake", 2.0, id="short"),
    *(pytest.param(stage, 25.0, id=f"long-{stage.replace(' ', '-')}", marks=LONG) for stage in STAGES),
    *(pytest.param(stage, 3.0, id=f"brief-{stage.replace(' ', '-')}", marks=LONG) for stage in STAGES),
]


@pytest.fixture
async def proxy(server: EmbeddedRedis) -> AsyncIterator[SwallowingProxy]:
    async with SwallowingProxy(server.port) as proxy:
        yield proxy


async def within(limit_s: float, what: Awaitable[Any]) -> Any:
    """Await; it must end, well or not, within the limit."""
    started = time.monotonic()
    async with asyncio.timeout(limit_s + 30):
        try:
            return await what
        finally:
            took = time.monotonic() - started
            assert took < limit_s + SLACK_S, f"expected an answer within {limit_s} s, it took {took:.1f} s"


def working(url: str, functions: list[Any], **settings: Any) -> AbstractAsyncContextManager[arqestra.Worker]:
    return worker_running(url, functions=functions, lease=3, **settings)


async def command_line(*arguments: str) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "arqestra.cli", *arguments),
        cwd=REPOSITORY,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode is not None
    return process.returncode, output.decode()


class Participants:
    """All that talk to Redis, through the proxy: producer, worker, lease renewer, listener, scheduler, dashboard.

    :ivar ran: what the jobs noted, in order
    """

    def __init__(self, proxy: SwallowingProxy) -> None:
        self.ran: list[str] = []
        self.may_end = asyncio.Event()
        self._proxy = proxy
        self._stack = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Participants:
        url, enter = self._proxy.url, self._stack.enter_async_context
        functions = [arqestra.func(self._note, name="note"), arqestra.func(self._long, name="long", max_tries=5)]
        await enter(working(url, functions))
        self.producer = await arqestra.create_pool(url)
        self._stack.push_async_callback(self.producer.aclose)
        app = create_app(url)
        await enter(app.router.lifespan_context(app))
        self.browser = httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://127.0.0.1")
        ticking = [schedule(every(1), "note", name="ticking")]
        scheduler = asyncio.create_task(arqestra.Scheduler(self.producer, ticking).run())
        self._stack.callback(scheduler.cancel)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def _note(self, ctx: dict[str, Any], name: str = "tick") -> str:
        self.ran.append(name)
        return name

    async def _long(self, ctx: dict[str, Any]) -> int:
        await self.may_end.wait()
        return int(ctx["job_try"])

    async def work(self) -> None:
        """Everybody has a connection and has used it."""
        assert await (await self.note("first")).result(timeout=10) == "first"
        assert await self.sees_a_page()
        await wait_until(lambda: self.ticks > 0, "a tick")

    async def note(self, name: str, **options: Any) -> arqestra.Job[Any]:
        job = await self.producer.enqueue_job("note", name, **options)
        assert job is not None
        return job

    @property
    def ticks(self) -> int:
        return self.ran.count("tick")

    async def sees_a_page(self) -> bool:
        return (await self.browser.get("/queues")).status_code == 200

    async def enqueues(self) -> bool:
        """Whether it could; if not, in time and with an error that says what was the matter."""
        try:
            await within(CALL_LIMIT_S, self.note("meanwhile"))
        except (RedisError, OSError) as error:
            return not str(error)
        return True

    async def newcomers(self) -> None:
        """Those who connect while nobody answers."""
        with pytest.raises((RedisError, OSError)):
            await within(CONNECT_LIMIT_S, arqestra.create_pool(RedisSettings(port=self._proxy.port, **IMPATIENT)))
        for arguments in (("queues", "list"), ("doctor",)):
            code, output = await within(10, command_line(*arguments, "--redis-url", self._proxy.url))
            assert code == 2, output
            assert "Traceback" not in output, output

    async def a_page_meanwhile(self) -> None:
        page = await within(15, self.browser.get("/queues"))
        assert page.status_code in (200, 503)


@pytest.mark.parametrize(("stage", "outage_s"), OUTAGES)
async def test_nobody_hangs_and_all_go_on(
    proxy: SwallowingProxy, pool: arqestra.Pool, tell: Tell, stage: Stage, outage_s: float
) -> None:
    async with Participants(proxy) as all_of_them:
        await all_of_them.work()
        holding = await all_of_them.producer.enqueue_job("long")
        assert holding is not None
        later = await all_of_them.note("later", _defer_by=outage_s + 1)
        waiting = asyncio.create_task(later.result(outage_s + 60))
        await wait_until(lambda: _somebody_listens(pool, later), "somebody to wait for the result")

        proxy.fall_silent(stage)
        silent_at = time.monotonic()
        meanwhile = [
            asyncio.create_task(each)
            for each in (all_of_them.newcomers(), all_of_them.enqueues(), all_of_them.a_page_meanwhile())
        ]
        if outage_s > 20:
            await asyncio.gather(*meanwhile)
        await asyncio.sleep(max(0.0, silent_at + outage_s - time.monotonic()))
        proxy.heal()
        healed_at, ticks = time.monotonic(), all_of_them.ticks
        figures: dict[str, float] = {}

        async def goes_on(who: str, condition: Callable[[], bool | Awaitable[bool]]) -> None:
            await wait_until(condition, lambda: f"the {who} to go on", timeout_s=RECOVERY_LIMIT_S + 30)
            figures[who] = time.monotonic() - healed_at

        directly = await pool.enqueue_job("note", "directly")  # past the proxy: only the worker has to recover
        assert directly is not None
        await asyncio.gather(
            goes_on("worker", lambda: "directly" in all_of_them.ran),
            goes_on("producer", all_of_them.enqueues),
            goes_on("dashboard", all_of_them.sees_a_page),
            goes_on("scheduler", lambda: all_of_them.ticks > ticks),
            goes_on("listener", waiting.done),
        )
        assert waiting.result() == "later"
        if outage_s < 20:
            await asyncio.gather(*meanwhile, return_exceptions=True)  # of a brief outage they may see nothing
        all_of_them.may_end.set()
        assert await holding.result(timeout=30) >= 1
        tell(f"after {stage}, {outage_s} s: " + ", ".join(f"{who} {s:.1f} s" for who, s in figures.items()))
        late = {who: round(s, 1) for who, s in figures.items() if s > RECOVERY_LIMIT_S}
        assert not late, f"expected all to go on within {RECOVERY_LIMIT_S} s, these took longer: {late}"


async def test_a_connect_that_nobody_answers_ends() -> None:
    port, held = deaf_port()
    try:
        with pytest.raises((RedisError, OSError), match=str(port)):
            await within(CONNECT_LIMIT_S, arqestra.create_pool(RedisSettings(host="127.0.0.1", port=port, **IMPATIENT)))
    finally:
        for each in held:
            each.close()


@pytest.mark.parametrize("retries", [0, 2])
async def test_conn_retries_and_conn_timeout_mean_what_they_say(proxy: SwallowingProxy, retries: int) -> None:
    proxy.fall_silent("connect")
    settings = RedisSettings(port=proxy.port, conn_retries=retries, conn_timeout=1, conn_retry_delay=1)
    started = time.monotonic()

    with pytest.raises(RedisError, match="within 1 s"):
        await arqestra.create_pool(settings)

    took = time.monotonic() - started
    assert retries * 2 + 1 <= took < retries * 2 + 1 + SLACK_S


@pytest.mark.parametrize(
    "stage",
    ["handshake", *(pytest.param(stage, marks=LONG) for stage in STAGES if stage != "handshake")],
)
@pytest.mark.parametrize("program", ["arq", pytest.param("arqestra.cli worker", marks=LONG)])
@pytest.mark.parametrize("busy", [False, pytest.param(True, marks=LONG)])
async def test_sigterm_ends_a_worker_in_its_documented_time(
    proxy: SwallowingProxy, pool: arqestra.Pool, tell: Tell, stage: Stage, program: str, busy: bool
) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", *program.split(), "tests.chaos.silent_worker.WorkerSettings"),
        cwd=REPOSITORY,
        env={**os.environ, "REDIS_URL": proxy.url},
    )
    try:
        if busy:
            job = await pool.enqueue_job("wait")
            assert job is not None
            await wait_until(lambda: _is_running(job), "the job to run")
        else:
            await wait_until(lambda: _there_is_a_worker(pool), "a worker")
        proxy.fall_silent(stage)
        await asyncio.sleep(1)  # it may notice, or not yet
        started = time.monotonic()
        process.send_signal(signal.SIGTERM)
        await asyncio.wait_for(process.wait(), STOP_LIMIT_S + 30)
        took = time.monotonic() - started
        tell(f"{program} at {stage}{', with a job' if busy else ''}: ended after {took:.1f} s")
        assert took < STOP_LIMIT_S
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def _somebody_listens(pool: arqestra.Pool, job: arqestra.Job[Any]) -> bool:
    [(_, count)] = await pool.pubsub_numsub(pool.store.keys.done_channel(job.job_id))
    return int(count) > 0


async def _is_running(job: arqestra.Job[Any]) -> bool:
    return await job.status() == arqestra.JobStatus.in_progress


async def _there_is_a_worker(pool: arqestra.Pool) -> bool:
    return bool(await pool.workers())
