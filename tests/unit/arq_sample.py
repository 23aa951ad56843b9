"""What typed projects write with arq: `test_arq_types.py` checks it as it is, and with its imports changed.

It is read by type checkers and not run.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar, TypedDict, cast

import arq
import arq.worker
from arq import ArqRedis, Retry, Worker, create_pool, cron, func, run_worker
from arq.connections import RedisSettings, log_redis_info
from arq.constants import default_queue_name, health_check_key_suffix, job_key_prefix
from arq.cron import CronJob, next_cron
from arq.jobs import (
    DeserializationError,
    Deserializer,
    Job,
    JobDef,
    JobResult,
    JobStatus,
    ResultNotFound,
    SerializationError,
    Serializer,
    deserialize_result,
    serialize_job,
)
from arq.logs import default_log_config
from arq.typing import OptionType, SecondsTimedelta, StartupShutdown, WeekdayOptionType, WorkerCoroutine
from arq.utils import import_string, ms_to_datetime, timestamp_ms, to_ms, to_seconds, to_unix_ms
from arq.version import VERSION
from arq.worker import (
    FailedJobs,
    Function,
    JobExecutionFailed,
    RetryJob,
    async_check_health,
    check_health,
    create_worker,
    get_kwargs,
)

REDIS = RedisSettings(host="localhost", port=6379, database=1, conn_retries=3)
SENTINELS = RedisSettings(host=[("localhost", 26379)], sentinel=True, sentinel_master="main")
pool: ArqRedis | None = None
jobs: dict[str, Job] = {}
last: Job | None = None


class Context(TypedDict):
    redis: ArqRedis
    job_id: str
    job_try: int


# -- jobs and hooks ---------------------------------------------------------------------------------------------------


async def download(ctx: dict[str, Any], url: str, *, tries: int = 3) -> int:
    redis: ArqRedis = ctx["redis"]
    job = await redis.enqueue_job("download", url, _defer_by=5, _job_id=ctx["job_id"])
    if job is not None:
        print(job.job_id, await job.status())
    if ctx["job_try"] < tries:
        raise Retry(defer=ctx["job_try"] * 5)
    if not url:
        raise RetryJob
    return len(url)


async def without_type(ctx, url):  # type: ignore[no-untyped-def]
    return len(url)


async def startup(ctx: dict[Any, Any]) -> None:
    ctx["session"] = object()


async def shutdown(ctx: dict[str, Any]) -> None:
    ctx.clear()


async def on_job_start(ctx: dict[Any, Any]) -> bool:
    return bool(ctx["score"])


def dumps(data: dict[str, Any]) -> bytes:
    return json.dumps(data).encode()


def loads(data: bytes) -> dict[str, Any]:
    return cast(dict[str, Any], json.loads(data))


# -- settings and workers ---------------------------------------------------------------------------------------------


class WorkerSettings:
    functions: ClassVar[Sequence[WorkerCoroutine | Function]] = [
        download,
        func(download, name="again", timeout=timedelta(seconds=3), keep_result=60, max_tries=1),
        func("tests.unit.arq_sample.download"),
    ]
    cron_jobs: ClassVar[list[CronJob]] = [
        cron(download, hour={9, 12}, minute=30, run_at_startup=True),
        cron("tests.unit.arq_sample.download", weekday="mon", unique=False, timeout=10, job_id="one", max_tries=3),
    ]
    on_startup: StartupShutdown = startup
    on_shutdown = shutdown
    redis_settings = REDIS
    max_jobs = 10
    job_timeout: SecondsTimedelta = timedelta(minutes=5)
    timezone = UTC


class OwnWorker(Worker):
    def __init__(self, functions: Sequence[Function | WorkerCoroutine], **keywords: Any) -> None:
        super().__init__(functions, **keywords)
        self.beats = 0

    async def heart_beat(self) -> None:
        self.beats += 1
        await super().heart_beat()


class OwnRedis(ArqRedis):
    async def enqueue_job(self, function: str, *args: Any, **kwargs: Any) -> Job | None:
        return await super().enqueue_job(function, *args, **kwargs)


class OwnJob(Job):
    async def result_or_none(self) -> Any:
        try:
            return await self.result(timeout=5, poll_delay=0.1)
        except (ResultNotFound, DeserializationError, SerializationError, JobExecutionFailed):
            return None


def make_worker(redis: ArqRedis, functions: list[Function]) -> Worker:
    worker = Worker(
        functions=functions,
        queue_name="mail",
        cron_jobs=[cron(download, second=0)],
        redis_settings=REDIS,
        redis_pool=redis,
        burst=True,
        on_startup=startup,
        on_shutdown=shutdown,
        on_job_start=on_job_start,
        on_job_end=None,
        after_job_end=on_job_start,
        handle_signals=False,
        job_completion_wait=5,
        max_jobs=3,
        job_timeout=timedelta(seconds=10),
        keep_result=0,
        keep_result_forever=False,
        poll_delay=0.1,
        queue_read_limit=10,
        max_tries=2,
        health_check_interval=30,
        health_check_key="health",
        ctx={"a": 1},
        retry_jobs=True,
        allow_abort_jobs=True,
        max_burst_jobs=-1,
        job_serializer=dumps,
        job_deserializer=loads,
        expires_extra_ms=1000,
        timezone=None,
        log_results=False,
    )
    for name, function in worker.functions.items():
        print(name, function.coroutine, function.timeout_s, function.max_tries, function.keep_result_s)
    for cron_job in worker.cron_jobs:
        cron_job.calculate_next(datetime.now(tz=UTC))
        print(cron_job.next_run, cron_job.name, cron_job.unique)
    count: int = worker.jobs_complete + worker.jobs_failed + worker.jobs_retried + worker.max_jobs
    print(count, worker.queue_name, worker.job_timeout_s, worker.health_check_key, worker.timezone)
    print(worker.ctx["a"], worker.on_startup, worker.burst, worker.poll_delay_s, worker.tasks, worker.main_task)
    return worker


async def run_burst(redis: ArqRedis) -> int:
    worker = make_worker(redis, [func(download, name="download")])
    try:
        return await worker.run_check(retry_jobs=False, max_burst_jobs=3)
    except FailedJobs as error:
        return error.count + len(error.job_results)
    finally:
        await worker.close()


def main() -> None:
    worker: Worker = create_worker(WorkerSettings, burst=True)
    worker.run()
    run_worker(WorkerSettings, max_jobs=3)
    run_worker({"functions": [download], "redis_settings": REDIS})
    arq.run_worker(cast(type[Any], WorkerSettings))
    raise SystemExit(check_health(WorkerSettings) or asyncio.run(async_check_health(REDIS, queue_name="mail")))


# -- producers --------------------------------------------------------------------------------------------------------


async def get_pool() -> ArqRedis:
    global pool
    if pool is None:
        pool = await create_pool(REDIS, job_serializer=dumps, job_deserializer=loads, default_queue_name="mail")
    return pool


async def dependency() -> AsyncGenerator[ArqRedis, None]:
    redis = await arq.create_pool(arq.connections.RedisSettings.from_dsn("redis://localhost"))
    try:
        yield redis
    finally:
        await redis.aclose()


@asynccontextmanager
async def lifespan() -> AsyncIterator[ArqRedis]:
    redis: ArqRedis = await arq.connections.create_pool()
    yield redis
    await redis.close(close_connection_pool=True)


class Producer:
    def __init__(self, redis: ArqRedis, enqueue: Callable[..., Awaitable[Job | None]] | None = None) -> None:
        self.redis = redis
        self.enqueue = enqueue or redis.enqueue_job
        self.jobs: list[Job] = []

    async def send(self, url: str) -> Job | None:
        job = await self.redis.enqueue_job(
            "download",
            url,
            tries=1,
            _job_id="one",
            _queue_name="mail",
            _defer_until=datetime.now(tz=UTC),
            _defer_by=None,
            _expires=timedelta(hours=1),
            _job_try=2,
        )
        if job:
            self.jobs.append(job)
            jobs[job.job_id] = job
        return job

    async def send_all(self, urls: list[str]) -> list[Any]:
        found: list[Job | None] = await asyncio.gather(*(self.redis.enqueue_job("download", url) for url in urls))
        return await asyncio.gather(*(job.result(timeout=10) for job in found if job is not None))

    async def look(self, job_id: str) -> dict[str, Any]:
        job = Job(job_id, self.redis, _queue_name="mail", _deserializer=loads)
        info: JobDef | None = await job.info()
        result: JobResult | None = await job.result_info()
        status: JobStatus = await job.status()
        if status is JobStatus.not_found or info is None:
            return {}
        if isinstance(info, JobResult):
            print(info.success, info.result, info.start_time, info.finish_time, info.queue_name)
        queued: list[JobDef] = await self.redis.queued_jobs(queue_name="mail")
        results: list[JobResult] = await self.redis.all_job_results()
        aborted: bool = await job.abort(timeout=3, poll_delay=0.1)
        return {"try": info.job_try, "args": info.args, "n": len(queued) + len(results), "a": aborted, "r": result}

    async def commands(self) -> int:
        await self.redis.set("a", "b", ex=3)
        await log_redis_info(self.redis, print)
        return cast(int, await self.redis.zcard(default_queue_name + health_check_key_suffix))


async def own_handles(redis: ArqRedis) -> Any:
    global last
    last = await OwnRedis(redis.connection_pool, job_serializer=dumps).enqueue_job("download")
    return await OwnJob("one", redis=redis).result_or_none()


# -- the small things -------------------------------------------------------------------------------------------------


def small_things(option: OptionType, weekday: WeekdayOptionType, own: Serializer, other: Deserializer) -> list[Any]:
    data: bytes = serialize_job("download", (1,), {}, None, timestamp_ms(), serializer=own)
    result: JobResult = deserialize_result(data, deserializer=other)
    when: datetime = next_cron(ms_to_datetime(to_unix_ms(datetime.now(tz=UTC))), hour=option, weekday=weekday)
    seconds: float = to_seconds(timedelta(1)) + to_ms(3)
    settings: dict[str, Any] = default_log_config(verbose=True)
    keywords = get_kwargs(cast(Any, WorkerSettings))
    text: str = VERSION + job_key_prefix + arq.VERSION
    return [result, when, seconds, settings, keywords, text, import_string("json.dumps"), arq.worker.Worker]
