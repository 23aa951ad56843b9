"""What the workers of the Sentry tests are to do. Without sentry-sdk, so that the test's own process can enqueue it."""

from __future__ import annotations

from typing import Any

HUSHED = "hunter2"  # a password among the arguments

ORDERS = (
    ("add", (1, 2), {"_job_id": "one"}),
    ("fail", ("asked",), {"_queue_name": "arq:queue"}),
    ("add", (3,), {"_job_id": "one"}),  # refused
    *((name, (), {}) for name in ("again", "refuse", "parent", "says", "slow", "nobody")),
)


async def order(pool: Any) -> None:
    """Enqueue it, by arq's pool or ours."""
    for name, args, keywords in ORDERS:
        await pool.enqueue_job(name, *args, **keywords)
