"""taskiq with taskiq-redis; BENCH_TASKIQ_BROKER=list takes ListQueueBroker instead of RedisStreamBroker."""

import asyncio
import os
import signal

import uvloop
from benchmark_peer import Peer, answer_start, count_job, redis_url, run
from taskiq.api import run_receiver_task
from taskiq_redis import ListQueueBroker, RedisAsyncResultBackend, RedisStreamBroker

if os.environ.get("BENCH_TASKIQ_BROKER") == "list":
    broker = ListQueueBroker(redis_url())
else:
    # The group starts at 0, so that a worker started after the producer sees the backlog.
    broker = RedisStreamBroker(redis_url(), consumer_id="0")
broker = broker.with_result_backend(RedisAsyncResultBackend(redis_url(), result_ex_time=3600))


@broker.task(task_name="noop")
async def noop(number: int) -> int:
    count_job()
    return number


@broker.task(task_name="stamp")
async def stamp(port: int) -> None:
    answer_start(port)


class Taskiq(Peer):
    async def open(self):
        await broker.startup()

    async def close(self):
        await broker.shutdown()

    async def enqueue_one(self):
        await noop.kiq(1)

    async def enqueue_stamp(self, port):
        await stamp.kiq(port)

    async def enqueue_and_wait(self):
        task = await noop.kiq(1)
        await task.wait_result()

    def work(self, concurrency):
        async def main():
            broker.is_worker_process = True
            await broker.startup()
            receiver = asyncio.create_task(
                run_receiver_task(broker, max_async_tasks=concurrency, max_prefetch=concurrency)
            )
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, receiver.cancel)
            await asyncio.wait([receiver])
            await broker.shutdown()

        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(main())


run(Taskiq())
