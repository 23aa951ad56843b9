"""A worker beside other code, in an event loop that is not its own."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from .worker import Worker

__all__ = ("running",)


@asynccontextmanager
async def running(worker: Worker) -> AsyncIterator["asyncio.Task[None]"]:
    """Within this the worker runs; at the end it stops and is closed.

    :param worker: not started yet, with `handle_signals=False`; it serves its queues, `burst` or not
    :returns: its task: done if it has ended by itself
    :raises BaseException: what keeps it from starting
    """
    worker.burst = False
    ready = asyncio.Event()
    worker.on_ready = ready.set
    task = worker.main_task = asyncio.get_running_loop().create_task(worker.main())
    waiting = asyncio.get_running_loop().create_task(ready.wait())
    try:
        await asyncio.wait([task, waiting], return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            await task
        yield task
    finally:
        waiting.cancel()
        worker.on_ready = None
        await worker.close()
        await asyncio.gather(task, waiting, return_exceptions=True)
