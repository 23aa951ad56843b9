"""Flows while workers are killed: every flow ends as a plain evaluation of it does; no completed step runs again."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import arqestra
from arqestra import FlowHandle
from arqestra.embedded import EmbeddedRedis
from tests.chaos.fleet import Fleet
from tests.support.canvases import Failed, canvas_of, evaluated, fits, shown, some_shapes

from .chaos_jobs import STEPS_QUEUE, flow_node, twenty_steps
from .conftest import Tell
from .ledger import Ledger

LEASE_S = 2
SLOTS = 3
SETTINGS = {"lease": LEASE_S, "max_crashes": 1_000, "max_tries": 1_000}
WORKFLOW_VALUE = {first: sum(n * n for n in range(first, first + 14)) + 55 + 7 for first in range(100)}


async def killing_until_ended(
    fleet: Fleet, ends: Sequence[asyncio.Task[Any]], rng: random.Random, every_s: float, limit_s: float
) -> int:
    """SIGKILL a worker of the fleet again and again until all has ended; returns how many."""
    started, kills = time.monotonic(), 0
    while not all(end.done() for end in ends):
        assert time.monotonic() - started < limit_s, f"{sum(not end.done() for end in ends)} have not ended"
        await asyncio.sleep(every_s)
        victim = rng.choice(fleet.running)
        victim.kill()
        await victim.wait()
        kills += 1
        fleet.replace_ended()
    return kills


@pytest.mark.parametrize("count", [60, pytest.param(500, marks=[pytest.mark.slow])], ids=["short", "long"])
async def test_random_graphs_end_as_a_plain_evaluation_of_them_does(
    tmp_path: Path,
    server: EmbeddedRedis,
    pool: arqestra.Pool,
    ledger: Ledger,
    rng: random.Random,
    tell: Tell,
    count: int,
) -> None:
    shapes = some_shapes(count, rng.randrange(1_000_000))
    with Fleet(tmp_path, server.url, max_jobs=SLOTS, **SETTINGS) as fleet:
        fleet.start(4)
        flows: list[FlowHandle[object]] = []
        ids: list[str] = []
        for shape in shapes:
            labels: list[str] = []
            flow = await pool.enqueue_flow(canvas_of(shape, flow_node, labels))
            flows.append(flow)
            ids += [node.job_id for node in (await flow.graph()).nodes if node.kind == "job"]
        ends = [asyncio.ensure_future(flow.wait()) for flow in flows]
        kills = await killing_until_ended(fleet, ends, rng, 0.5, 600)
        starts = Counter(event.job_id for event in fleet.log.of("start"))
        again = sum(times - 1 for times in starts.values())

        for shape, flow in zip(shapes, flows, strict=True):
            expected, ran = evaluated(shape)
            if isinstance(expected, Failed):
                with pytest.raises(ValueError, match=r"^j\d+$") as raised:
                    await flow.result(timeout=10)
                assert str(raised.value) in expected.labels
            else:
                value = shown(await flow.result(timeout=10))
                assert fits(expected, value), f"{shape}: expected {expected}, got {value}"
            progress = await flow.progress()
            assert progress.done == progress.total
            ended = progress.states.get("complete", 0) + progress.states.get("failed", 0)
            assert ended == len(ran), f"{shape}: expected {sorted(ran)} to run, got {progress}"
            await flow.forget()
        lost = [job_id for job_id in ids if job_id in starts and not starts[job_id]]
    tell(f"{count} graphs of {len(ids)} jobs, {kills} kills, {again} runs too many (at most {kills * SLOTS})")
    assert lost == []
    assert again <= kills * SLOTS
    left = {key.decode() for key in await ledger.client.keys("arqestra:*")}
    left = {
        key for key in left if not key.startswith(("arqestra:recent", "arqestra:workers:"))
    }  # named after functions
    assert {key for key in left if "flow" in key or "chores" in key or "specs" in key} == set()


@pytest.mark.parametrize(
    ("side_by_side", "least_kills"),
    [(8, 10), pytest.param(10, 200, marks=[pytest.mark.slow])],
    ids=["short", "long"],
)
async def test_a_completed_step_of_a_workflow_never_runs_again(
    tmp_path: Path,
    server: EmbeddedRedis,
    pool: arqestra.Pool,
    rng: random.Random,
    tell: Tell,
    side_by_side: int,
    least_kills: int,
) -> None:
    """The workers of the workflows are killed; those of the steps live, so that a step that runs twice is a fault."""
    workflows = kills = 0
    with (
        Fleet(tmp_path, server.url, max_jobs=4, **SETTINGS) as fleet,
        Fleet(tmp_path, server.url, max_jobs=20, queue_name=STEPS_QUEUE, **SETTINGS) as steps,
    ):
        fleet.start(2)
        steps.start(1)
        while kills < least_kills:
            jobs = [await pool.enqueue(twenty_steps, first) for first in range(workflows, workflows + side_by_side)]
            ends = [asyncio.ensure_future(job.result(timeout=300)) for job in jobs if job is not None]
            kills += await killing_until_ended(fleet, ends, rng, 0.25, 300)
            assert [end.result() for end in ends] == [
                WORKFLOW_VALUE[first] for first in range(workflows, workflows + side_by_side)
            ]
            workflows = (workflows + side_by_side) % 90
        starts = Counter(event.job_id for event in fleet.log.of("start"))
    twice = sum(starts.values()) - len(starts)
    tell(f"{len(starts) // 20} workflows of 20 steps, {kills} kills, steps that ran twice: {twice}")
    assert set(starts.values()) == {1}
    assert len(starts) % 20 == 0
