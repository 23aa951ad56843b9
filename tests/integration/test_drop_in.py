"""`import arqestra as arq`: arq's names in arq's places, patches that hold, and a word on what is not here."""

from __future__ import annotations

import asyncio
import importlib
import types
from typing import Any
from unittest.mock import AsyncMock, MagicMock, patch

import arq
import arq.worker
import pytest

import arqestra
from arqestra import Pool, SettingsError, Worker
from arqestra.drop_in import modules
from arqestra.worker import worker as worker_code
from arqestra.worker.drop_in import health_check

MODULES = ("connections", "constants", "cron", "jobs", "logs", "typing", "utils", "version", "worker")
LEFT_OUT = {"TYPE_CHECKING"}


async def work(ctx: dict[Any, Any]) -> str:
    return "done"


def _of_arq(name: str, value: Any) -> bool:
    """Whether a module of arq's offers the name, and has not just imported it from the standard library or redis."""
    if name.startswith("_") or name in LEFT_OUT or isinstance(value, types.ModuleType):
        return False
    owner = getattr(value, "__module__", None)
    if not isinstance(owner, str) or name == "logger":
        return True
    return owner.split(".")[0] == "arq" or name in ("Serializer", "Deserializer")


@pytest.mark.parametrize("module", MODULES)
def test_each_module_has_all_names_of_arqs(module: str) -> None:
    theirs = importlib.import_module(f"arq.{module}")
    ours = importlib.import_module(f"arqestra.{module}")
    names = {name for name, value in vars(theirs).items() if _of_arq(name, value)}

    assert names
    assert {name for name in names if not hasattr(ours, name)} == set()


@pytest.mark.parametrize("module", MODULES)
def test_each_module_lists_its_names(module: str) -> None:
    ours = importlib.import_module(f"arqestra.{module}")

    assert [name for name in ours.__all__ if not hasattr(ours, name)] == []
    assert len(set(ours.__all__)) == len(ours.__all__)


@pytest.mark.parametrize("module", [module for module in MODULES if module != "cron"])
def test_dotted_names_need_one_import(module: str) -> None:
    assert getattr(arqestra, module) is importlib.import_module(f"arqestra.{module}")


def test_cron_is_the_function_as_in_arq() -> None:
    assert callable(arq.cron)
    assert arqestra.cron is importlib.import_module("arqestra.cron").cron


def test_what_stands_for_arqs_classes_is_ours_everywhere() -> None:
    assert arqestra.ArqRedis is arqestra.connections.ArqRedis is arqestra.worker.ArqRedis is Pool
    assert arqestra.jobs.Job is arqestra.connections.Job is arqestra.Job
    assert arqestra.worker.Worker is Worker
    assert issubclass(Pool, arq.ArqRedis)
    assert arqestra.VERSION == arqestra.__version__ == arqestra.version.VERSION


async def test_the_client_of_arqs_name_wakes_workers(redis_url: str) -> None:
    """Made by hand, as arq's users do: an enqueue by it is pushed, and not found by a poll."""
    client = arqestra.ArqRedis.from_url(redis_url)
    pool = await arqestra.create_pool(redis_url)
    worker = Worker([work], redis_pool=pool, handle_signals=False, poll_delay=30)
    ready = asyncio.Event()
    worker.on_ready = ready.set
    running = asyncio.create_task(worker.async_run())
    try:
        await asyncio.wait_for(ready.wait(), 10)
        job = await client.enqueue_job("work")
        assert job is not None
        assert await job.result(timeout=10) == "done"
    finally:
        running.cancel()
        await worker.close()
        await client.aclose()


# -- patches ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("module", ["worker", "connections"])
async def test_a_patched_log_redis_info_is_what_a_worker_calls(redis_url: str, module: str) -> None:
    with patch(f"arqestra.{module}.log_redis_info", new_callable=AsyncMock) as patched:
        worker = Worker([work], redis_settings=redis_url, burst=True, handle_signals=False)
        await worker.async_run()
        await worker.close()

    assert patched.await_count == 1
    assert arqestra.worker.log_redis_info is vars(arq.worker)["log_redis_info"]


@pytest.mark.parametrize("module", ["worker", "connections"])
async def test_a_patched_create_pool_is_what_a_worker_calls(redis_url: str, module: str) -> None:
    pool = await arqestra.create_pool(redis_url)
    with patch(f"arqestra.{module}.create_pool", AsyncMock(return_value=pool)) as patched:
        worker = Worker([work], burst=True, handle_signals=False)
        await worker.async_run()
        assert worker.pool is pool
        await worker.close()

    assert patched.await_count == 1


async def test_a_patch_may_call_what_it_replaces(redis_url: str) -> None:
    calls = []

    async def counted(*args: Any, **kwargs: Any) -> Any:
        calls.append(args)
        return await arqestra.connections.create_pool(*args, **kwargs)

    with patch("arqestra.worker.create_pool", counted):
        assert await arqestra.worker.async_check_health(arqestra.RedisSettings.from_dsn(redis_url)) == 1
    assert await arqestra.worker.async_check_health(arqestra.RedisSettings.from_dsn(redis_url)) == 1
    assert len(calls) == 1


async def test_patches_in_patches_end_in_the_original(redis_url: str) -> None:
    pool = await arqestra.create_pool(redis_url)
    original = arqestra.worker.create_pool
    with (
        patch("arqestra.worker.create_pool", AsyncMock(return_value=pool)) as outer,
        patch("arqestra.connections.create_pool", AsyncMock(return_value=pool)) as inner,
    ):
        await arqestra.worker.async_check_health(None)
        assert (outer.await_count, inner.await_count) == (1, 0)  # as in arq: the worker's own name counts
    assert arqestra.worker.create_pool is arqestra.connections.create_pool is original
    assert vars(worker_code)["create_pool"] is vars(health_check)["create_pool"] is original


async def test_a_monkeypatched_name_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    original = arqestra.worker.create_worker
    made = MagicMock()
    with monkeypatch.context() as patches:
        patches.setattr("arqestra.worker.create_worker", made)
        arqestra.run_worker({"functions": [work], "uvloop": False}, burst=True)
        made.return_value.run.assert_called_once_with()
    assert arqestra.worker.create_worker is arqestra.worker.command_line.create_worker is original


async def test_a_patched_worker_class_is_what_create_worker_makes() -> None:
    with patch("arqestra.worker.Worker") as patched:
        assert arqestra.create_worker({"functions": [work]}) is patched.return_value
    patched.assert_called_once_with(functions=[work])


async def test_a_patched_client_class_is_what_create_pool_makes(redis_url: str) -> None:
    class Client(arqestra.ArqRedis):
        """Of a test's own."""

    with patch("arqestra.connections.ArqRedis", Client):
        pool = await arqestra.create_pool(redis_url)
    assert type(pool) is Client
    await pool.aclose()


async def test_a_patched_job_class_is_what_an_enqueue_returns(redis_url: str) -> None:
    class OwnJob(arqestra.Job[Any]):
        """Of a test's own."""

    pool = await arqestra.create_pool(redis_url)
    with patch("arqestra.connections.Job", OwnJob):
        assert type(await pool.enqueue_job("work")) is OwnJob
    assert type(await pool.enqueue_job("work")) is arqestra.Job
    await pool.aclose()


async def test_a_patched_logger_gets_the_workers_lines(redis_url: str) -> None:
    pool = await arqestra.create_pool(redis_url)
    await pool.enqueue_job("work")
    with patch("arqestra.worker.logger") as logger:
        worker = Worker([work], redis_pool=pool, burst=True, handle_signals=False)
        await worker.async_run()
        await worker.close()
    lines = [call.args[0] for call in logger.info.call_args_list]

    assert "Starting worker for %d functions: %s" in lines
    assert any("← %s ●" in line for line in lines)


async def test_a_patched_clock_is_that_of_enqueues(redis_url: str) -> None:
    pool = await arqestra.create_pool(redis_url)
    with patch("arqestra.connections.timestamp_ms", return_value=1_000_000_000_000):
        job = await pool.enqueue_job("work")
    assert job is not None
    info = await job.info()
    assert info is not None
    assert info.enqueue_time.year == 2001
    await pool.aclose()


async def test_patched_methods_are_ours(redis_url: str) -> None:
    pool = await arqestra.create_pool(redis_url)
    with patch("arqestra.connections.ArqRedis.enqueue_job", AsyncMock(return_value="patched")):
        patched: Any = await pool.enqueue_job("work")
        assert patched == "patched"
    await pool.aclose()


def test_a_patch_of_what_no_code_of_ours_uses_is_told(caplog: pytest.LogCaptureFixture) -> None:
    modules.mention_unused.cache_clear()
    for _ in range(2):
        with patch("arqestra.jobs.serialize_result"):
            pass
    with patch("arqestra.worker.create_worker"):
        pass

    assert caplog.messages == ["arqestra.jobs.serialize_result is replaced: arqestra's own code does not use it"]


# -- what a worker of arq's has ---------------------------------------------------------------------------------------


async def test_each_attribute_of_arqs_worker_is_there_or_says_what_stands_for_it() -> None:
    theirs = arq.worker.Worker([work], handle_signals=False)
    ours = Worker([work], handle_signals=False)
    missing = {}
    for name in dir(theirs):
        if name.startswith("__"):
            continue
        try:
            getattr(ours, name)
        except AttributeError as error:
            missing[name] = str(error)

    assert set(missing) == {
        "run_job",
        "finish_job",
        "finish_failed_job",
        "sem",
        "in_progress_timeout_s",
        "_queue_read_offset",
        "_cancel_aborted_jobs",
        "_release_sem_dec_counter_on_complete",
        "_sleep_until_tasks_complete",
    }
    for name, text in missing.items():
        assert text.startswith(f"arq's Worker.{name} is not in arqestra: "), text
        assert not hasattr(ours, name)
        assert not hasattr(Worker, name)


async def test_attributes_that_public_code_reads_have_arqs_values() -> None:
    keywords: dict[str, Any] = {
        "handle_signals": False,
        "max_jobs": 7,
        "expires_extra_ms": 5,
        "job_serializer": repr,
        "job_deserializer": eval,
        "job_completion_wait": 3,
        "keep_result": 9,
    }
    theirs, ours = arq.worker.Worker([work], **keywords), Worker([work], **keywords)
    assert ours.pool is None
    for name, value in vars(theirs).items():
        if name in ("sem", "in_progress_timeout_s", "_queue_read_offset", "functions", "redis_settings", "loop"):
            continue
        assert getattr(ours, name) == value, name


@pytest.mark.parametrize(
    "name",
    ["run_job", "finish_job", "finish_failed_job", "start_jobs", "_poll_iteration", "_cancel_aborted_jobs", "sem"],
)
def test_a_subclass_that_overrides_what_is_never_called_is_told(name: str) -> None:
    async def override(self: Any, *args: Any) -> None: ...

    with pytest.raises(SettingsError, match=f"Mine overrides {name}, which would never be called: "):
        type("Mine", (Worker,), {name: override})
    with pytest.raises(SettingsError, match=f"Child overrides {name}"):
        type("Child", (type("Between", (Worker,), {}),), {name: override})


@pytest.mark.parametrize("name", ["on_startup", "on_job_start", "on_job_end", "after_job_end", "on_shutdown"])
async def test_a_subclass_that_defines_a_hook_is_told(name: str) -> None:
    async def hook(self: Any, ctx: dict[Any, Any]) -> None: ...

    mine = type("Mine", (Worker,), {name: hook})
    with pytest.raises(SettingsError, match=f"Mine defines {name}, which would never be used"):
        mine([work], handle_signals=False)
    assert getattr(mine([work], handle_signals=False, **{name: work}), name) is work


@pytest.mark.parametrize("name", ["start_jobs", "_poll_iteration", "run_job", "finish_job"])
@pytest.mark.parametrize("where", ["class", "instance"])
async def test_a_step_that_a_patch_replaced_is_told_at_the_start(
    redis_url: str, caplog: pytest.LogCaptureFixture, name: str, where: str
) -> None:
    worker = Worker([work], redis_settings=redis_url, burst=True, handle_signals=False)
    with patch.object(Worker if where == "class" else worker, name, AsyncMock(), create=True):
        await worker.async_run()
    assert f"{name} of this worker was set, and is never called: " in caplog.text
    caplog.clear()
    await worker.close()
    await worker.async_run()
    assert "is never called" not in caplog.text
    await worker.close()


class Gathering(arqestra.Worker):
    """As a public project has it: it looks through itself before it is made, and has methods of arq's names."""

    on_startup = None
    _functions = ()

    def __init__(self, **settings: Any) -> None:
        self._own = 0
        names = [name for name in dir(self) if name != "moody"]
        self.gathered = [name for name in names if hasattr(getattr(self, name), "exported")]
        settings["functions"] = [arqestra.func(getattr(self, name), name=name) for name in self.gathered]
        super().__init__(on_startup=self._begin, **settings)

    async def _begin(self, ctx: dict[Any, Any]) -> None:
        ctx["app"] = self

    async def ping(self, ctx: dict[Any, Any]) -> int:
        held: Any = self.tasks  # of the worker, in the place of the method below
        return len(held) + len(self.job_tasks)

    ping.exported = True  # type: ignore[attr-defined]

    @property
    def moody(self) -> None:
        """Is none of ours, so that listing names does not read it."""
        raise RuntimeError("expected not to be read")

    @classmethod
    def tasks(cls, *functions: Any) -> tuple[Any, ...]:  # type: ignore[override]
        return functions


async def test_a_subclass_may_look_through_itself_and_have_methods_of_arqs_names(redis_url: str) -> None:
    pool = await arqestra.create_pool(redis_url)
    job = await pool.enqueue_job("ping")
    worker = Gathering(redis_settings=redis_url, burst=True, handle_signals=False)
    assert worker.gathered == ["ping"]
    await worker.async_run()
    assert job is not None
    assert await job.result(timeout=5) == 2
    await worker.close()
    await pool.aclose()


@pytest.mark.parametrize(
    ("where", "name"),
    [
        *(("class", name) for name in ("metrics", "slots", "_connect", "steer", "draining", "sync", "options")),
        *(("instance", name) for name in ("metrics", "slots", "options")),
    ],
)
async def test_a_name_that_our_worker_uses_for_itself_is_refused(where: str, name: str) -> None:
    def init(self: Any, *args: Any, **settings: Any) -> None:
        setattr(self, name, 1)
        Worker.__init__(self, *args, **settings)

    with pytest.raises(SettingsError, match=f"Mine has an attribute {name}, which arqestra's worker uses for itself"):
        type("Mine", (Worker,), {name: 1} if where == "class" else {"__init__": init})([work], handle_signals=False)


async def test_a_subclass_may_override_what_is_called(redis_url: str) -> None:
    calls: list[str] = []

    class Mine(Worker):
        async def heart_beat(self) -> None:
            calls.append("heart_beat")
            await super().heart_beat()

        async def record_health(self) -> None:
            calls.append("record_health")
            await super().record_health()

        async def main(self) -> None:
            calls.append("main")
            await super().main()

    worker = Mine([work], redis_settings=redis_url, burst=True, handle_signals=False)
    await worker.async_run()
    await worker.close()
    assert calls[:3] == ["main", "heart_beat", "record_health"]
