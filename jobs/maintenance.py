"""The jobs `cleanup_sessions` and `health_check`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import pyvips

from arqestra import job

from .clients import Clients, clients_of
from .queues import DEFAULT_QUEUE, EMAIL_QUEUE

# One bounded batch, whole or not at all. A session that its user renews meanwhile has another score when the script
# runs, so it stays; and the clock is the server's, whichever worker runs this.
# KEYS[1]: the index, a sorted set of session ids by the epoch second when each expires.
# ARGV[1]: the prefix of session keys. ARGV[2]: sessions at most. Returns how many were removed.
_REMOVE_EXPIRED = """
local now = tonumber(redis.call('TIME')[1])
local expired = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, tonumber(ARGV[2]))
for _, id in ipairs(expired) do
    redis.call('UNLINK', ARGV[1] .. id)
    redis.call('ZREM', KEYS[1], id)
end
return #expired
"""


@job(name="cleanup_sessions", queue=DEFAULT_QUEUE, timeout=300)
async def cleanup_sessions(ctx: dict[str, Any]) -> dict[str, Any]:
    """Remove expired web sessions from Redis, in bounded batches.

    A web application keeps each session under `SERVICE_SESSION_KEY_PREFIX` + id and notes in the sorted set
    `SERVICE_SESSION_INDEX` when it expires (epoch seconds).

    Returns:
        `{"removed", "batches", "finished"}`; `finished` is False when `SERVICE_SESSION_MAX_BATCHES` was not enough.

    Running it twice, even at the same time, is harmless: each batch is one script, and a removed session is gone.
    """
    settings = clients_of(ctx).settings
    remove = ctx["redis"].register_script(_REMOVE_EXPIRED)
    removed, batches, finished = 0, 0, False
    while not finished and batches < settings.session_max_batches:
        count = await remove(keys=[settings.session_index], args=[settings.session_key_prefix, settings.session_batch])
        removed += count
        batches += 1
        finished = count < settings.session_batch
    return {"removed": removed, "batches": batches, "finished": finished}


@job(name="health_check", queue=DEFAULT_QUEUE, timeout=60, concurrency=1)
async def health_check(ctx: dict[str, Any]) -> dict[str, Any]:
    """Ask everything that the service depends on whether it works, all at once.

    Returns:
        `{"status": "ok" | "degraded", "checked_at", "checks": {name: {"ok", "latency_ms", "error"}},
        "queues": {queue: waiting jobs}}` with the checks `redis`, `smtp`, `s3` and `libvips`. A check that takes
        longer than `SERVICE_HEALTH_TIMEOUT_S` has failed. The job itself does not fail.

    It runs once at a time in the whole fleet. Running it twice is harmless: it changes nothing.
    """
    clients = clients_of(ctx)
    checks: dict[str, Callable[[], Awaitable[Any]]] = {
        "redis": ctx["redis"].ping,
        "smtp": clients.mail.ping,
        "s3": clients.store.ping,
        "libvips": lambda: clients.in_thread(_exercise_libvips),
    }
    timeout_s = clients.settings.health_timeout_s
    outcomes = await asyncio.gather(*(_timed(check, timeout_s) for check in checks.values()))
    results = dict(zip(checks, outcomes, strict=True))
    return {
        "status": "ok" if all(result["ok"] for result in results.values()) else "degraded",
        "checked_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "checks": results,
        "queues": await _queue_depths(ctx, clients) if results["redis"]["ok"] else {},
    }


async def _timed(check: Callable[[], Awaitable[Any]], timeout_s: float) -> dict[str, Any]:
    started = time.perf_counter()
    error = None
    try:
        async with asyncio.timeout(timeout_s):
            await check()
    except TimeoutError:
        error = f"no answer within {timeout_s:g} s"
    except Exception as failure:  # whatever is wrong belongs into the report, not into the job's own end
        error = f"{type(failure).__name__}: {failure}"
    return {"ok": error is None, "latency_ms": round((time.perf_counter() - started) * 1000, 2), "error": error}


async def _queue_depths(ctx: dict[str, Any], clients: Clients) -> dict[str, int]:
    return {queue: await ctx["redis"].zcard(queue) for queue in (DEFAULT_QUEUE, EMAIL_QUEUE)}


def _exercise_libvips() -> None:
    """Make and measure a small image, which fails if libvips cannot compute."""
    if pyvips.Image.black(16, 16).invert().avg() != 255:
        raise RuntimeError("libvips computed a wrong image")
