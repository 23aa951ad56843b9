"""RQ's SimpleWorker: it runs jobs in its own process, one at a time, where RQ's default worker forks for each job."""

from benchmark_peer import Peer, redis_url, run
from redis import Redis
from rq import Queue, SimpleWorker


class Rq(Peer):
    is_asynchronous = False

    async def open(self):
        self.queue = Queue(connection=Redis.from_url(redis_url()))

    async def enqueue_one(self):
        self.queue.enqueue("benchmark_peer.noop", 1)

    async def enqueue_bulk(self, count):
        self.queue.enqueue_many([Queue.prepare_data("benchmark_peer.noop", (1,)) for _ in range(count)])

    async def enqueue_stamp(self, port):
        self.queue.enqueue("benchmark_peer.stamp", port)

    async def enqueue_and_wait(self):
        self.queue.enqueue("benchmark_peer.noop", 1).latest_result(timeout=10)

    def work(self, concurrency):
        connection = Redis.from_url(redis_url())
        SimpleWorker([Queue(connection=connection)], connection=connection).work(logging_level="WARNING")


run(Rq())
