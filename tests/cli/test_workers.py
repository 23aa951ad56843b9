"""`arqestra workers`."""

from __future__ import annotations

import asyncio
import os
import re
import socket
from datetime import datetime

import pytest
from arq.jobs import JobStatus

from arqestra import Pool, Worker
from arqestra.protocol.presence import Presence, WorkerInfo
from arqestra.store.presence import write_presence
from tests.support.command_line import CommandLine, plain
from tests.support.wait import wait_until

PROCESS = f"{socket.gethostname()}:{os.getpid()}"
MADE_UP = Presence(
    *("elsewhere", 7, "0.1.0", 1_800_000_000_000, ["mail"], 10, 0, 0, []),
    *(0, 0, 0, 50_000_000, 1.5, 3, False),
)


@pytest.fixture
async def seen(pool: Pool, working: Worker) -> WorkerInfo:
    """The worker, when it has told of itself."""
    await wait_until(pool.workers)
    (worker,) = await pool.workers()
    return worker


async def test_a_worker_and_what_it_runs(arqestra: CommandLine, pool: Pool, seen: WorkerInfo) -> None:
    await pool.enqueue_job("count_to", 3, _job_id="counts")
    await wait_until(lambda: _progress_is_told(pool))

    (listed,) = (await arqestra("workers", "list", "--json")).document["workers"]
    table = plain((await arqestra("workers", "list")).out)
    shown = plain((await arqestra("workers", "show", seen.worker_id[:5])).out)

    assert (listed["id"], listed["pid"], listed["state"]) == (seen.worker_id, os.getpid(), "working")
    assert (listed["running"], listed["slots"], listed["queues"]) == (1, 10, ["arq:queue"])
    assert (listed["jobs"][0]["id"], listed["jobs"][0]["done"], listed["jobs"][0]["total"]) == ("counts", 1, 3)
    assert f"{seen.worker_id} {PROCESS} arq:queue 1/10 " in table
    for text in (table, shown):
        assert "counts count_to 1 " in text
        assert "33% one" in text
    assert "running 1 of 10" in shown


async def _progress_is_told(pool: Pool) -> bool:
    return any(job.done for worker in await pool.workers() for job in worker.presence.jobs)


async def test_no_worker(arqestra: CommandLine) -> None:
    listed = await arqestra("workers", "list")
    drained = await arqestra("workers", "drain", "--all", "-y")

    assert (listed.code, listed.out) == (0, "there is no worker\n")
    assert (drained.code, drained.err) == (1, "arqestra: there is no worker\n")


async def test_drain_and_resume(arqestra: CommandLine, pool: Pool, seen: WorkerInfo) -> None:
    drained = await arqestra("workers", "drain", PROCESS, "-y")
    again = await arqestra("workers", "drain", seen.worker_id, "-y", "--json")
    assert (drained.code, drained.out) == (0, f"{seen.worker_id}  {PROCESS}  draining\n")
    assert again.document["workers"] == [{"id": seen.worker_id, "process": PROCESS, "outcome": "was draining already"}]
    assert (await arqestra("workers", "list", "--json")).document["workers"][0]["state"] == "draining"
    left = await pool.enqueue_job("double", 4)
    assert left is not None
    told = (await pool.workers())[0].seen
    await wait_until(lambda: _told_since(pool, told))
    assert await left.status() == JobStatus.queued

    resumed = await arqestra("workers", "resume", seen.worker_id[:4])
    assert (resumed.code, resumed.out) == (0, f"{seen.worker_id}  {PROCESS}  takes jobs again\n")
    assert await left.result(10) == 8


async def _told_since(pool: Pool, moment: datetime) -> bool:
    return (await pool.workers())[0].seen > moment


async def test_wait_until_nothing_runs(arqestra: CommandLine, pool: Pool, seen: WorkerInfo) -> None:
    await pool.enqueue_job("wait_for_key", "go", _job_id="waits")
    await wait_until(lambda: pool.exists(pool.store.keys.lease("waits")))

    late = await arqestra("workers", "drain", "--all", "-y", "--wait", "0.1")
    assert (late.code, late.out) == (3, f"{seen.worker_id}  {PROCESS}  draining, 1 job still runs\n")
    waiting = asyncio.ensure_future(arqestra("workers", "drain", "--all", "-y", "--wait", "20"))
    await pool.set("go", b"1")
    done = await waiting
    assert (done.code, done.out) == (0, f"{seen.worker_id}  {PROCESS}  drained, nothing runs there\n")


async def test_asking_first(arqestra: CommandLine, pool: Pool, seen: WorkerInfo) -> None:
    refused = await arqestra("workers", "drain", "--all")
    dry = await arqestra("workers", "drain", "--all", "--dry-run")

    assert refused.code == 2
    assert f"expected -y to drain worker {seen.worker_id}" in refused.err
    assert dry.out == f"would drain worker {seen.worker_id}\n"
    assert (await pool.workers())[0].presence.draining is False


async def test_names_of_workers(arqestra: CommandLine, pool: Pool) -> None:
    for worker_id in ("aa11", "aa22"):
        await write_presence(pool.store, worker_id, MADE_UP)

    both = await arqestra("workers", "drain", "aa", "-y")
    nobody = await arqestra("workers", "drain", "b", "-y")
    neither = await arqestra("workers", "drain", "-y")
    deaf = await arqestra("workers", "drain", "aa1", "-y", "--json")

    assert (both.code, both.err) == (1, "arqestra: expected one worker, 'aa' may be aa11, aa22\n")
    assert (nobody.code, neither.code) == (1, 2)
    assert deaf.code == 1
    assert deaf.document["workers"][0]["outcome"] == "it did not hear that"


async def test_queue_and_those_that_are_gone(arqestra: CommandLine, pool: Pool) -> None:
    await write_presence(pool.store, "aa11", MADE_UP)

    assert (await arqestra("workers", "list", "--queue", "other")).out == "there is no worker of queue other\n"
    (listed,) = (await arqestra("workers", "list", "--queue", "mail", "--json")).document["workers"]
    assert listed["state"] == "idle"
    await pool.zincrby(pool.store.keys.workers, -60_000, "aa11")
    (listed,) = (await arqestra("workers", "list", "--json")).document["workers"]
    assert (listed["state"], listed["alive"]) == ("gone", False)
    assert re.search(r" 6\d s ago gone", plain((await arqestra("workers", "list")).out))


async def test_a_worker_that_is_not_heard_of(arqestra: CommandLine, pool: Pool) -> None:
    """When it was heard of last, and what may be the matter."""
    keys = pool.store.keys
    for worker_id in ("aa11", "aa22"):
        await write_presence(pool.store, worker_id, MADE_UP)
        await pool.zincrby(keys.workers, -40_000, worker_id)
    async with pool.pubsub() as subscribed:
        await subscribed.subscribe(keys.worker_channel("aa22"))
        await subscribed.get_message(timeout=5)
        listed = await arqestra("workers", "list")
        states = (await arqestra("workers", "list", "--json")).document["workers"]
        shown = plain((await arqestra("workers", "show", "aa22")).out)

    text = plain(listed.out + listed.err)
    assert {each["id"]: each["state"] for each in states} == {"aa11": "gone", "aa22": "silent"}
    assert re.search(r"elsewhere:7 was last heard of 4\d s ago: it was killed, or is cut off from Redis", text)
    assert re.search(r"elsewhere:7 was last heard of 4\d s ago, and Redis holds its connection", text)
    assert "state silent" in shown
    assert "Redis holds its connection" in shown
