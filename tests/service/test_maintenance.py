"""cleanup_sessions and health_check against the real servers, with and without them."""

from __future__ import annotations

import time
from typing import Any

import pytest

from jobs.clients import Clients
from jobs.maintenance import cleanup_sessions, health_check

Ctx = dict[str, Any]


def with_settings(ctx: Ctx, **changes: Any) -> Ctx:
    clients: Clients = ctx["clients"]
    settings = clients.settings.model_copy(update=changes)
    return {**ctx, "clients": Clients(settings, clients.mail, clients.store, clients.threads)}


async def put_sessions(ctx: Ctx, expired: int, alive: int) -> None:
    now_s, redis = time.time(), ctx["redis"]
    index = {f"expired-{number}": now_s - 10 - number for number in range(expired)}
    index |= {f"alive-{number}": now_s + 1_000 for number in range(alive)}
    await redis.zadd("service:sessions", index)
    await redis.mset({f"service:session:{session}": b"{}" for session in index})


async def keys_of(ctx: Ctx) -> set[str]:
    return {key.decode() async for key in ctx["redis"].scan_iter("service:session:*")}


@pytest.mark.parametrize(
    ("expired", "batches"), [(1, 1), (9, 1), (10, 2), (25, 3)], ids=["one", "below", "full batch", "several"]
)
async def test_expired_sessions_go_in_batches_and_the_others_stay(ctx: Ctx, expired: int, batches: int) -> None:
    await put_sessions(ctx, expired, alive=3)
    result = await cleanup_sessions(with_settings(ctx, session_batch=10))
    assert result == {"removed": expired, "batches": batches, "finished": True}
    assert await keys_of(ctx) == {f"service:session:alive-{number}" for number in range(3)}
    assert await ctx["redis"].zcard("service:sessions") == 3


async def test_nothing_to_clean(ctx: Ctx) -> None:
    assert await cleanup_sessions(ctx) == {"removed": 0, "batches": 1, "finished": True}


async def test_one_run_is_bounded_and_the_next_goes_on(ctx: Ctx) -> None:
    await put_sessions(ctx, expired=25, alive=1)
    bounded = with_settings(ctx, session_batch=5, session_max_batches=3)
    assert await cleanup_sessions(bounded) == {"removed": 15, "batches": 3, "finished": False}
    assert await cleanup_sessions(bounded) == {"removed": 10, "batches": 3, "finished": True}


async def test_a_renewed_session_stays(ctx: Ctx) -> None:
    await put_sessions(ctx, expired=2, alive=0)
    await ctx["redis"].zadd("service:sessions", {"expired-0": time.time() + 100})
    assert (await cleanup_sessions(ctx))["removed"] == 1
    assert await keys_of(ctx) == {"service:session:expired-0"}


async def test_all_is_well(ctx: Ctx) -> None:
    health = await health_check(ctx)
    assert health["status"] == "ok"
    assert set(health["checks"]) == {"redis", "smtp", "s3", "libvips"}
    assert all(check["ok"] and check["error"] is None for check in health["checks"].values())
    assert all(check["latency_ms"] > 0 for check in health["checks"].values())
    assert health["queues"] == {"default": 0, "email-queue": 0}


async def test_what_is_broken_is_named_and_the_job_goes_on(ctx: Ctx, free_port: int) -> None:
    from jobs.smtp_pool import open_smtp_pool

    clients: Clients = ctx["clients"]
    mail = open_smtp_pool(clients.settings.model_copy(update={"smtp_port": free_port}))
    ctx["clients"] = Clients(clients.settings, mail, type(clients.store)(clients.store.client, "gone"), clients.threads)
    health = await health_check(ctx)
    assert health["status"] == "degraded"
    assert {name for name, check in health["checks"].items() if not check["ok"]} == {"smtp", "s3"}
    assert "SMTPConnectError" in health["checks"]["smtp"]["error"]


async def test_a_check_that_hangs_is_cut_off(ctx: Ctx) -> None:
    health = await health_check(with_settings(ctx, health_timeout_s=1e-9))
    assert health["checks"]["s3"]["error"] == "no answer within 1e-09 s"
