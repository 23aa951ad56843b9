"""dramatiq on its Redis broker: one process, `concurrency` threads."""

import signal

import dramatiq
from benchmark_peer import Peer, redis_url, run
from benchmark_peer import noop as noop_body
from benchmark_peer import stamp as stamp_body
from dramatiq.brokers.redis import RedisBroker
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend

broker = RedisBroker(url=redis_url())
broker.add_middleware(Results(backend=RedisBackend(url=redis_url()), store_results=True))
dramatiq.set_broker(broker)
noop = dramatiq.actor(noop_body)
stamp = dramatiq.actor(stamp_body)


class Dramatiq(Peer):
    is_asynchronous = False

    async def enqueue_one(self):
        noop.send(1)

    async def enqueue_stamp(self, port):
        stamp.send(port)

    async def enqueue_and_wait(self):
        noop.send(1).get_result(block=True)

    def work(self, concurrency):
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        worker = dramatiq.Worker(broker, worker_threads=concurrency)
        worker.start()
        signal.sigwait({signal.SIGTERM})
        worker.stop(timeout=1_000)
        broker.close()


run(Dramatiq())
