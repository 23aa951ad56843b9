"""SAQ on its Redis queue."""

import asyncio
import contextlib

import uvloop
from benchmark_peer import Peer, answer_start, count_job, redis_url, run
from saq import Queue, Worker


async def noop(ctx, *, number):
    count_job()
    return number


async def stamp(ctx, *, port):
    answer_start(port)


class Saq(Peer):
    async def open(self):
        # The default of 20 operations at a time holds concurrent producers back.
        self.queue = Queue.from_url(redis_url(), max_concurrent_ops=100)
        await self.queue.connect()

    async def close(self):
        await self.queue.disconnect()

    async def enqueue_one(self):
        await self.queue.enqueue("noop", number=1)

    async def enqueue_stamp(self, port):
        await self.queue.enqueue("stamp", port=port)

    async def enqueue_and_wait(self):
        # refresh() is told by publish; queue.apply() would poll every 0.5 s. A job that ends while refresh() subscribes
        # is missed by it, so the wait is short and repeated.
        job = await self.queue.enqueue("noop", number=1)
        while not job.completed:
            with contextlib.suppress(asyncio.TimeoutError):
                await job.refresh(until_complete=0.5)

    def work(self, concurrency):
        async def main():
            queue = Queue.from_url(redis_url(), max_concurrent_ops=concurrency)
            await Worker(queue, functions=[noop, stamp], concurrency=concurrency).start()
            await queue.disconnect()

        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(main())


run(Saq())
