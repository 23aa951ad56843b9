"""Celery on Redis with its thread pool: one process, `concurrency` threads."""

from benchmark_peer import Peer, redis_url, run
from benchmark_peer import noop as noop_body
from benchmark_peer import stamp as stamp_body
from celery import Celery, chord, group

app = Celery("bench", broker=redis_url(), backend=redis_url())
app.conf.update(
    worker_prefetch_multiplier=10,
    worker_disable_rate_limits=True,
    worker_hijack_root_logger=False,
    task_send_sent_event=False,
    worker_send_task_events=False,
    broker_connection_retry_on_startup=True,
)
noop = app.task(name="noop")(noop_body)
stamp = app.task(name="stamp")(stamp_body)


@app.task(name="body")
def body(numbers):
    return len(numbers)


class CeleryPeer(Peer):
    is_asynchronous = False

    async def enqueue_one(self):
        noop.delay(1)

    async def enqueue_bulk(self, count):
        group(noop.s(1) for _ in range(count)).apply_async()

    async def enqueue_stamp(self, port):
        stamp.delay(port)

    async def run_chord(self, count):
        assert chord([noop.s(1)] * count)(body.s()).get(timeout=120) == count

    async def enqueue_and_wait(self):
        noop.delay(1).get(timeout=10)

    def work(self, concurrency):
        options = ["--pool=threads", f"--concurrency={concurrency}", "--loglevel=WARNING"]
        quiet = ["--without-gossip", "--without-mingle", "--without-heartbeat"]
        app.worker_main(["--quiet", "worker", *options, *quiet])


run(CeleryPeer())
