"""A worker process whose jobs fork: `python -m tests.integration.forking_worker <redis url> <asyncio or uvloop>`."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import subprocess
import sys
import time
from typing import Any

import uvloop

from arqestra import Worker


def _status(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


async def terminates_a_process(ctx: dict[Any, Any]) -> list[int | None]:
    """At once, and when it runs: its handlers are not set at first."""
    codes = []
    for pause_s in (0.0, 0.2):
        process = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,))
        process.start()
        await asyncio.sleep(pause_s)
        process.terminate()
        await asyncio.to_thread(process.join)
        codes.append(process.exitcode)
    return codes


async def works_in_a_process(ctx: dict[Any, Any]) -> list[str]:
    """A child may have a loop of its own."""
    parent, child = multiprocessing.get_context("fork").Pipe()
    process = multiprocessing.get_context("fork").Process(target=_sends, args=(child,))
    process.start()
    await asyncio.to_thread(process.join)
    return [parent.recv(), str(process.exitcode)]


def _sends(pipe: Any) -> None:
    asyncio.run(asyncio.sleep(0))
    pipe.send("sent")


async def forks(ctx: dict[Any, Any], how: str) -> int:
    pid = os.fork()
    if pid:
        return await asyncio.to_thread(_status, pid)
    try:
        if how == "await":
            await asyncio.sleep(0)
        elif how == "raise":
            raise ValueError("in the child")
        elif how == "exit":
            sys.exit(7)
        elif how == "caught":
            try:
                raise SystemExit(7)
            except SystemExit:
                pass
        elif how == "_exit":
            os._exit(5)
        elif how == "subprocess":
            os.execvp("true", ["true"])
        return 0
    finally:
        ctx["children"] = os.getpid()  # never to be seen: in the child alone


async def forks_in_a_task(ctx: dict[Any, Any]) -> int:
    async with asyncio.TaskGroup() as group:
        task = group.create_task(forks(ctx, "return"))
    return task.result()


def forks_in_a_thread(ctx: dict[Any, Any]) -> int:
    pid = os.fork()
    return _status(pid) if pid else 0


def runs_a_program(ctx: dict[Any, Any]) -> int:
    with subprocess.Popen(["sleep", "60"], preexec_fn=os.getpid) as process:
        process.terminate()
        return process.wait()


async def is_alone(ctx: dict[Any, Any]) -> bool:
    return "children" not in ctx


FUNCTIONS = [
    *(terminates_a_process, works_in_a_process, forks, forks_in_a_task, forks_in_a_thread, runs_a_program, is_alone)
]


if __name__ == "__main__":
    if sys.argv[2] == "uvloop":
        asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    started_in = os.getpid()
    Worker(FUNCTIONS, redis_settings=sys.argv[1], burst=True, max_jobs=3).run()
    print("ended", os.getpid() == started_in)
