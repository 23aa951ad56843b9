"""What each hook does when it raises, in stock arq and here: the table of docs/migrating-from-arq.md."""

from __future__ import annotations

import asyncio
import contextlib
import re
from dataclasses import dataclass, field
from typing import Any

import arq
import arq.worker
import pytest

import arqestra
from arqestra import Pool
from tests.support.redis_clock import until_too_late
from tests.support.repository import REPOSITORY
from tests.support.wait import wait_until

MIGRATING = REPOSITORY / "docs" / "migrating-from-arq.md"
HOOKS = ("on_startup", "on_job_start", "on_job_end", "after_job_end", "on_shutdown")
OURS_ALONE = ("on_expired", "on_retries_exhausted")


class HookError(Exception):
    """What the hooks of these tests raise."""


class NoException(BaseException):
    """Nor `SystemExit`, nor anything else that ends programs."""


@dataclass
class Seen:
    """What became of one job under a worker with one hook that raises."""

    called: list[str] = field(default_factory=list)
    main: str | None = None  # the error of the worker's main loop
    close: str | None = None
    job: str = ""  # its status
    success: bool | None = None
    result: Any = None


async def _observe(pool: Pool, worker_class: Any, hook: str, error: type[BaseException] = HookError) -> Seen:
    """One job in a burst of a worker, all of whose hooks are noted and one of which raises."""
    seen = Seen()

    def noting(name: str) -> Any:
        async def noted(ctx: dict[Any, Any], *_: Any) -> None:
            seen.called.append(name)
            if name == hook:
                raise error(name)

        return noted

    async def work(ctx: dict[Any, Any]) -> str:
        seen.called.append("work")
        return "done"

    kwargs = pool.connection_pool.connection_kwargs
    worker = worker_class(
        [arq.func(work, name="work")],
        redis_settings=arq.connections.RedisSettings(kwargs["host"], kwargs["port"]),
        burst=True,
        poll_delay=0.01,
        handle_signals=False,
        **{name: noting(name) for name in HOOKS},
    )
    job = await pool.enqueue_job("work", _job_id="the job")
    assert job is not None
    try:
        async with asyncio.timeout(20):
            await worker.async_run()
    except HookError as error:
        seen.main = str(error)
    with contextlib.suppress(HookError):  # stock arq gathers its failed tasks again when it closes
        seen.close = "clean"
        try:
            await worker.close()
        except HookError as error:
            seen.close = str(error)
    info = await job.result_info()
    seen.job = (await job.status()).value
    if info is not None:
        seen.success, seen.result = info.success, info.result
    if worker._pool is not None:  # of stock arq's worker as well, whose `pool` refuses to be None
        await worker._pool.aclose(close_connection_pool=True)
    return seen


@pytest.mark.filterwarnings("ignore:Call to deprecated close:DeprecationWarning")  # arq's own call
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # stock arq forgets its failed tasks
class TestStockArq:
    async def test_on_startup_ends_the_worker(self, pool: Pool) -> None:
        seen = await _observe(pool, arq.worker.Worker, "on_startup")

        assert (seen.main, seen.job) == ("on_startup", "queued")
        assert seen.called == ["on_startup", "on_shutdown"]

    @pytest.mark.parametrize(("hook", "ran"), [("on_job_start", False), ("on_job_end", True)])
    async def test_hooks_before_the_result_end_the_worker_and_the_job_is_stuck(
        self, pool: Pool, hook: str, ran: bool
    ) -> None:
        seen = await _observe(pool, arq.worker.Worker, hook)

        assert seen.main == hook
        assert ("work" in seen.called) is ran
        assert seen.job == "in_progress"  # until the key ends, after 310 s by default

    async def test_after_job_end_ends_the_worker(self, pool: Pool) -> None:
        seen = await _observe(pool, arq.worker.Worker, "after_job_end")

        assert (seen.main, seen.job, seen.result) == ("after_job_end", "complete", "done")

    async def test_on_shutdown_raises_and_the_connections_stay(self, pool: Pool) -> None:
        seen = await _observe(pool, arq.worker.Worker, "on_shutdown")

        assert (seen.main, seen.close, seen.job) == (None, "on_shutdown", "complete")


class TestHere:
    async def test_on_startup_ends_the_worker(self, pool: Pool) -> None:
        seen = await _observe(pool, arqestra.Worker, "on_startup")

        assert (seen.main, seen.close, seen.job) == ("on_startup", "clean", "queued")
        assert seen.called == ["on_startup", "on_shutdown"]

    async def test_on_job_start_fails_the_job(self, pool: Pool) -> None:
        seen = await _observe(pool, arqestra.Worker, "on_job_start")

        assert (seen.main, seen.close, seen.job, seen.success) == (None, "clean", "complete", False)
        assert isinstance(seen.result, HookError)
        assert seen.called == ["on_startup", "on_job_start", "on_job_end", "after_job_end", "on_shutdown"]

    @pytest.mark.parametrize("error", [HookError, asyncio.CancelledError, NoException])
    @pytest.mark.parametrize("hook", ["on_job_end", "after_job_end"])
    async def test_hooks_after_the_job_are_logged(
        self, pool: Pool, hook: str, error: type[BaseException], caplog: pytest.LogCaptureFixture
    ) -> None:
        seen = await _observe(pool, arqestra.Worker, hook, error)

        assert (seen.main, seen.close, seen.job, seen.success) == (None, "clean", "complete", True)
        assert f"{hook} failed for the job:work" in caplog.text

    async def test_on_shutdown_raises_and_the_connections_are_closed(self, pool: Pool) -> None:
        before = len(await pool.client_list())
        seen = await _observe(pool, arqestra.Worker, "on_shutdown")

        assert (seen.main, seen.close, seen.job, seen.success) == (None, "on_shutdown", "complete", True)

        async def closed() -> bool:
            return len(await pool.client_list()) <= before + 2  # the pool's own for scripts and messages

        await wait_until(closed, "the worker's connections are closed")

    @pytest.mark.parametrize("hook", OURS_ALONE)
    async def test_hooks_of_ours_are_logged(self, pool: Pool, hook: str, caplog: pytest.LogCaptureFixture) -> None:
        async def fail(ctx: dict[Any, Any]) -> None:
            raise arqestra.Retry

        async def raising(ctx: dict[Any, Any], *_: Any) -> None:
            raise HookError(hook)

        own: dict[str, Any] = {hook: raising}
        worker = arqestra.Worker(
            [arq.func(fail, name="fail", max_tries=1)],
            redis_pool=pool,
            burst=True,
            handle_signals=False,
            **own,
        )
        job = await pool.enqueue_job("fail", _expires=0.001 if hook == "on_expired" else None)
        assert job is not None
        if hook == "on_expired":
            await until_too_late(pool, job)
        await worker.async_run()
        with pytest.raises(
            arqestra.JobExecutionFailed, match="job expired" if hook == "on_expired" else "max 1 retries"
        ):
            await job.result(timeout=5)
        assert f"{hook} failed for " in caplog.text
        await worker.close()


def test_the_table_of_the_documentation_has_each_hook() -> None:
    table = MIGRATING.read_text(encoding="utf-8").partition("### When a hook raises")[2].partition("\n#")[0]
    rows = re.findall(r"^\| `(\w+)`", table, flags=re.MULTILINE)

    assert set(rows) >= {*HOOKS, *OURS_ALONE}
