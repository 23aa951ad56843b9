"""A worker whose job waits until it is cancelled."""

from __future__ import annotations

import asyncio
import os
from typing import Any

import arqestra


async def wait(ctx: dict[str, Any]) -> None:
    await asyncio.Event().wait()


@arqestra.worker_settings
class WorkerSettings:
    functions = (wait,)
    redis_settings = os.environ["REDIS_URL"]
