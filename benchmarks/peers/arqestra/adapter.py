"""Ours, by its public names, with its defaults (pickle, like arq)."""

import asyncio

import uvloop
from benchmark_peer import Peer, answer_start, count_job, redis_url, run

from arqestra import RedisSettings, Worker, chord, create_pool, func, signature


async def noop(ctx, number):
    count_job()
    return number


async def stamp(ctx, port):
    answer_start(port)


async def sleeper(ctx, sleep_s):
    await asyncio.sleep(sleep_s)


async def body(ctx, numbers):
    return len(numbers)


class Arqestra(Peer):
    async def open(self):
        self.pool = await create_pool(redis_url())

    async def close(self):
        await self.pool.aclose()

    async def enqueue_one(self):
        await self.pool.enqueue_job("noop", 1)

    async def enqueue_bulk(self, count):
        await self.pool.enqueue_many([("noop", (1,), {})] * count)

    async def enqueue_stamp(self, port):
        await self.pool.enqueue_job("stamp", port)

    async def enqueue_sleepers(self, count, sleep_s):
        await self.pool.enqueue_many([("sleeper", (sleep_s,), {})] * count)

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
        Worker(
            functions=[func(noop), func(stamp), func(sleeper), func(body)],
            redis_settings=RedisSettings.from_dsn(redis_url()),
            max_jobs=concurrency,
        ).run()


run(Arqestra())
