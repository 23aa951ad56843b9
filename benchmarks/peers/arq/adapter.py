"""arq. The worker has arq's defaults; BENCH_ARQ_TUNED=1 takes the polling limits off (see docs/benchmarks.md)."""

import os

import uvloop
from arq import create_pool
from arq.connections import RedisSettings
from arq.worker import Worker, func
from benchmark_peer import Peer, answer_start, count_job, redis_url, run

IS_TUNED = os.environ.get("BENCH_ARQ_TUNED") == "1"


async def noop(ctx, number):
    count_job()
    return number


async def stamp(ctx, port):
    answer_start(port)


class Arq(Peer):
    # Polls every 0.5 s by default; a job comes at any moment of that.
    idle_gap_s = (0.005, 0.015 if IS_TUNED else 0.505)

    async def open(self):
        self.pool = await create_pool(RedisSettings.from_dsn(redis_url()))

    async def close(self):
        await self.pool.aclose()

    async def enqueue_one(self):
        await self.pool.enqueue_job("noop", 1)

    async def enqueue_stamp(self, port):
        await self.pool.enqueue_job("stamp", port)

    async def enqueue_and_wait(self):
        job = await self.pool.enqueue_job("noop", 1)
        await job.result(poll_delay=0.01 if IS_TUNED else 0.5)

    async def ping(self):
        await self.pool.ping()

    def work(self, concurrency):
        uvloop.install()
        tuned = {"poll_delay": 0.01, "queue_read_limit": 10_000} if IS_TUNED else {}
        Worker(
            functions=[func(noop), func(stamp)],
            redis_settings=RedisSettings.from_dsn(redis_url()),
            max_jobs=concurrency,
            **tuned,
        ).run()


run(Arq())
