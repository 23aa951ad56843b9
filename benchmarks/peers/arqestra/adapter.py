"""Ours, by its public names, with its defaults (pickle, like arq)."""

import asyncio
import os
import signal
import sys
from pathlib import Path

import uvloop
from benchmark_peer import Peer, answer_start, count_job, redis_url, run

from arqestra import RedisSettings, SyncPool, Unique, Worker, chord, create_pool, func, job, signature


async def noop(ctx, number):
    count_job()
    return number


async def stamp(ctx, port):
    answer_start(port)


async def sleeper(ctx, sleep_s):
    await asyncio.sleep(sleep_s)


async def failing(ctx, number, depth=5):
    """Fails below a few frames, as the code of a service does."""
    if depth:
        return await failing(ctx, number, depth - 1)
    count_job()
    raise ValueError(f"no good: {number}")


async def body(ctx, numbers):
    return len(numbers)


@job(concurrency=1_000)
async def limited(ctx, number: int):
    count_job()


@job(priority=5)
async def prior(ctx, number: int):
    count_job()


@job(unique=Unique(key=lambda number: str(number)))
async def unique(ctx, number: int):
    count_job()


FEATURES = {"limited": limited, "prior": prior, "unique": unique}
FUNCTIONS = [func(noop), func(stamp), func(sleeper), func(failing, max_tries=1), func(body), limited, prior, unique]


class Arqestra(Peer):
    async def open(self):
        self.pool = await create_pool(redis_url())
        self.sync_pool = SyncPool(redis_url())

    async def close(self):
        self.sync_pool.close()
        await self.pool.aclose()

    async def enqueue_one(self):
        await self.pool.enqueue_job("noop", 1)

    def enqueue_one_without_asyncio(self):
        self.sync_pool.enqueue_job("noop", 1)

    async def enqueue_bulk(self, count):
        await self.pool.enqueue_many([("noop", (1,), {})] * count)

    async def enqueue_stamp(self, port):
        await self.pool.enqueue_job("stamp", port)

    async def enqueue_sleepers(self, count, sleep_s):
        await self.pool.enqueue_many([("sleeper", (sleep_s,), {})] * count)

    async def enqueue_failing(self, count):
        for start in range(0, count, 1_000):
            await self.pool.enqueue_many([("failing", (1,), {})] * min(1_000, count - start))

    async def enqueue_featured(self, feature, count):
        if feature == "chained":
            step = signature("noop", 1, _immutable=True)
            for _ in range(count // 2):
                await self.pool.enqueue_flow(step | step)
            return
        for start in range(0, count, 1_000):
            numbers = range(start, min(count, start + 1_000))
            await self.pool.enqueue_many([FEATURES[feature].bind(number) for number in numbers])

    async def outstanding(self):
        return await self.pool.zcard("arq:queue")

    async def enqueue_and_wait(self):
        job = await self.pool.enqueue_job("noop", 1)
        await job.result(timeout=10)

    async def run_chord(self, count):
        members = [signature("noop", 1)] * count
        flow = await self.pool.enqueue_flow(chord(members, signature("body")))
        assert await flow.result(timeout=120) == count

    async def run_batch(self, count):
        await self.enqueue_bulk(count)
        while await self.pool.zcard("arq:queue"):  # noqa: ASYNC110 - the same for plain jobs as for the chord's
            await asyncio.sleep(0.002)

    async def ping(self):
        await self.pool.ping()

    def work(self, concurrency):
        uvloop.install()
        Worker(functions=FUNCTIONS, redis_settings=RedisSettings.from_dsn(redis_url()), max_jobs=concurrency).run()

    def idle_fleet(self, workers):
        async def main():
            stopped = asyncio.Event()
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
            address = RedisSettings.from_dsn(redis_url())
            fleet = [
                Worker(functions=FUNCTIONS, redis_settings=address, max_jobs=10, handle_signals=False)
                for _ in range(workers)
            ]
            running = [asyncio.create_task(worker.async_run()) for worker in fleet]
            await asyncio.wait([*running, asyncio.create_task(stopped.wait())], return_when=asyncio.FIRST_COMPLETED)
            await asyncio.gather(*(worker.close() for worker in fleet))
            await asyncio.gather(*running, return_exceptions=True)

        uvloop.run(main())

    def supervise(self, concurrency, processes, jobs_a_child):
        from arqestra.cli import main

        options = ["--processes", str(processes), "--concurrency", str(concurrency)]
        if jobs_a_child:
            options += ["--max-jobs-per-child", str(jobs_a_child)]
        # The supervised processes import the settings.
        os.environ["PYTHONPATH"] += os.pathsep + str(Path(__file__).parent)
        sys.argv[1:] = ["worker", "supervised.WorkerSettings", *options]
        main()


run(Arqestra())
