"""streaQ on asyncio with uvloop."""

from benchmark_peer import Peer, answer_start, count_job, redis_url, run
from streaq import Worker


def declare(concurrency: int):
    """A worker and its two tasks; streaQ's producer is the same object."""
    worker = Worker(redis_url=redis_url(), concurrency=concurrency, anyio_kwargs={"use_uvloop": True})

    @worker.task
    async def noop(number: int) -> int:
        count_job()
        return number

    @worker.task
    async def stamp(port: int) -> None:
        answer_start(port)

    return worker, noop, stamp


class Streaq(Peer):
    async def open(self):
        self.worker, self.noop, self.stamp = declare(16)
        await self.worker.__aenter__()

    async def close(self):
        await self.worker.__aexit__(None, None, None)

    async def enqueue_one(self):
        await self.noop.enqueue(1)

    async def enqueue_bulk(self, count):
        await self.worker.enqueue_many([self.noop.enqueue(1) for _ in range(count)])

    async def enqueue_stamp(self, port):
        await self.stamp.enqueue(port)

    async def enqueue_and_wait(self):
        task = await self.noop.enqueue(1)
        await task.result(timeout=10)

    def work(self, concurrency):
        worker, _, _ = declare(concurrency)
        worker.run_sync()


run(Streaq())
