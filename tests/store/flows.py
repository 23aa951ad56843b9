"""Graphs, and what drives them, for the tests of flows in the store."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

from arqestra.flow.handle import FlowHandle
from tests.support.store_harness import Kind, Plan, StoreHarness, StoreWorker

HOUR_MS = 3_600_000
FAILURES: tuple[tuple[Kind, str], ...] = (("fail", "f"), ("dead", "f"), ("abort", "a"), ("expire", "x"))


def chain_of(length: int, **options: Any) -> Plan:
    """One job after the other."""
    plan = Plan()
    for _ in range(length):
        plan.job(*([plan.last] if plan.last else []), **options)
    return plan


def chord_of(parents: int, **options: Any) -> Plan:
    """Jobs beside each other, a join, and a job after it."""
    plan = Plan()
    plan.job(plan.join(*plan.jobs(parents), **options))
    return plan


async def run_flow(
    harness: StoreHarness, *, failing: tuple[str, ...] = (), ttl_ms: int = 60_000, claims: int = 100
) -> list[str]:
    """One worker claims and finishes until nothing is left; returns what it ran, in order."""
    worker, ran = harness.worker("runner"), []
    for _ in range(claims):
        jobs = (await worker.claim(1000)).jobs
        ran += [job.id for job in jobs]
        await worker.finish_all([job for job in jobs if job.id not in failing], ttl_ms=ttl_ms)
        await worker.finish_all([job for job in jobs if job.id in failing], "fail", ttl_ms=ttl_ms)
        if not jobs and not await harness.continuations():
            return ran
    raise AssertionError(f"expected the flow to end within {claims} claims")


async def run_continuations(worker: StoreWorker, harness: StoreHarness) -> int:
    """Claim without a free slot until no continuation is left; returns how many claims that took."""
    for claims in range(100):
        if not await harness.continuations():
            return claims
        await worker.claim(0)
    raise AssertionError("expected the continuations to come to an end")


def retry_of(harness: StoreHarness) -> FlowHandle[Any]:
    """A handle that can retry; it needs nothing of a pool but its store."""
    client = SimpleNamespace(store=harness.store, serializer=None, listener=None)
    return FlowHandle("f", cast(Any, client))


def fan_out(children: int, **options: Any) -> Plan:
    """A job, and so many after it."""
    plan = Plan()
    first = plan.job()
    plan.jobs(children, first, **options)
    return plan
