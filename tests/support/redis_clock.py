"""Redis' clock, which a producer knows to half a round trip only."""

from __future__ import annotations

from typing import Any

from arqestra import Job, Pool
from arqestra.protocol.wire import decode_payload
from arqestra.store.server import redis_time_ms

from .wait import wait_until

__all__ = ("until_too_late",)


async def until_too_late(pool: Pool, job: Job[Any]) -> None:
    """Wait until a job that expires must not start."""
    deadline_ms = decode_payload(pool.serializer, await pool.get(pool.store.keys.job(job.job_id))).options["x"]

    async def is_too_late() -> bool:
        return await redis_time_ms(pool) > deadline_ms

    await wait_until(is_too_late, "Redis' clock is past the deadline")
