"""huey on RedisHuey (blocking pop): one process, `concurrency` threads."""

from benchmark_peer import Peer, redis_url, results_are_waited_for, run
from benchmark_peer import noop as noop_body
from benchmark_peer import stamp as stamp_body
from huey import RedisHuey
from redis import ConnectionPool

# Each thread blocks on a connection of its own, and redis-py's pool stops at 100 of them.
connections = ConnectionPool.from_url(redis_url(), max_connections=10_000)
# notify_result makes a waiter wake by push; it costs a command a job, so only the measurement that waits has it.
huey = RedisHuey("bench", connection_pool=connections, immediate=False, notify_result=results_are_waited_for())
noop = huey.task()(noop_body)
stamp = huey.task()(stamp_body)


class Huey(Peer):
    is_asynchronous = False

    async def enqueue_one(self):
        noop(1)

    async def enqueue_stamp(self, port):
        stamp(port)

    async def enqueue_and_wait(self):
        noop(1).get(blocking=True)

    def work(self, concurrency):
        huey.create_consumer(workers=concurrency, worker_type="thread", periodic=False).run()


run(Huey())
