"""`python -m tests.observe.sentry_start <way>`: starts the worker of `sentry_jobs` from Python."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import arq.worker

import arqestra
from tests.observe.sentry_jobs import Settings


async def async_run() -> None:
    given: dict[str, Any] = {name: value for name, value in vars(Settings).items() if not name.startswith("_")}
    given["on_startup"] = Settings.on_startup
    worker = arqestra.Worker(burst=True, **given)
    await worker.async_run()
    await worker.close()


def start(way: str) -> None:
    if way == "async_run":
        asyncio.run(async_run())
    elif way == "run_worker":
        arqestra.run_worker(Settings, burst=True)
    elif way == "arq_run_worker":
        arq.worker.run_worker(Settings, burst=True)  # type: ignore[arg-type]
    elif way == "arq_create_worker":
        arq.worker.create_worker(Settings, burst=True).run()  # type: ignore[arg-type]
    elif way == "arq_create_worker_twice":  # Sentry wraps the functions of the class each time
        arq.worker.create_worker(Settings, burst=True)  # type: ignore[arg-type]
        arq.worker.create_worker(Settings, burst=True).run()  # type: ignore[arg-type]
    else:
        raise SystemExit(f"unknown way: {way}")


if __name__ == "__main__":
    start(sys.argv[1])
