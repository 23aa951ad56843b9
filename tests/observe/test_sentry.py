"""Sentry's own integration for arq, unchanged: what it tells of us is what it tells of stock arq in the same run.

Processes of their own, for setting Sentry up replaces functions of arq for good. Their transport is a file.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import redis

from arqestra import create_pool
from tests.observe.sentry_orders import HUSHED, ORDERS, order
from tests.support.repository import REPOSITORY

SETTINGS = "tests.observe.sentry_jobs.Settings"
PATIENCE_S = 60.0

ARQ = ["-m", "arq", SETTINGS, "--burst"]
WORKER = ["-m", "arqestra.cli", "worker", SETTINGS, "--burst"]
START = ["-m", "tests.observe.sentry_start"]

# Job functions of `sentry_ours` that are enqueued once.
ALONE = (
    *("in_thread", "in_process", "too_slow_softly", "flaky", "later", "unstorable", "guarded"),
    *("breaks", "broken_by_step"),
)

# How ours are started, and where Sentry is set up.
WAYS: dict[str, tuple[list[str], str]] = {
    "arq, before the import": (ARQ, "first"),
    "arq, at the end of the job module": (ARQ, "last"),
    "arq, in on_startup": (ARQ, "startup"),
    "arqestra worker": (WORKER, "first"),
    "arqestra worker with two processes": ([*WORKER, "--processes", "2"], "last"),
    "arqestra worker, in on_startup": (WORKER, "startup"),
    "Worker.async_run": ([*START, "async_run"], "last"),
    "Worker.async_run, in on_startup": ([*START, "async_run"], "startup"),
    "run_worker": ([*START, "run_worker"], "first"),
    "arq's run_worker": ([*START, "arq_run_worker"], "last"),
    "arq's create_worker": ([*START, "arq_create_worker"], "first"),
    "arq's create_worker, twice": ([*START, "arq_create_worker_twice"], "last"),
}

QUICK = [way for way in WAYS if way not in ("arq's create_worker", "arqestra worker", "run_worker", "Worker.async_run")]


class Sentry:
    """Runs processes and reads what they told Sentry."""

    def __init__(self, redis_url: str, folder: Path) -> None:
        self._url = redis_url
        self._folder = folder
        self._runs = 0

    def empty(self) -> None:
        with redis.Redis.from_url(self._url) as client:
            client.flushall()

    async def ordered(self) -> None:
        """Enqueue, without Sentry, what is to be done."""
        self.empty()
        pool = await create_pool(self._url)
        await order(pool)
        await pool.aclose()

    def run(self, engine: str, init: str, *programs: Sequence[str], **environment: str) -> list[dict[str, Any]]:
        """What a few processes told, one after the other."""
        self._runs += 1
        told = self._folder / f"told-{self._runs}.jsonl"
        told.touch()
        variables = {"REDIS_URL": self._url, "ENGINE": engine, "INIT": init, "TOLD": str(told), **environment}
        for arguments in programs:
            ended = subprocess.run(
                [sys.executable, *arguments],
                cwd=REPOSITORY,
                env={**os.environ, **variables},
                capture_output=True,
                text=True,
                timeout=PATIENCE_S,
            )
            assert ended.returncode == 0, f"{arguments}:\n{ended.stdout}\n{ended.stderr}"
        return [json.loads(line) for line in told.read_text().splitlines()]


@pytest.fixture
def sentry(redis_url: str, tmp_path: Path) -> Sentry:
    return Sentry(redis_url, tmp_path)


@pytest.fixture(scope="module")
def stock(redis_server: Any, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Counter[str]]:
    """What Sentry is told of stock arq's worker and pool, by what was asked for."""
    kept: dict[str, Counter[str]] = {}
    sentry = Sentry(redis_server.url, tmp_path_factory.mktemp("stock"))

    def told_of_stock(**environment: str) -> Counter[str]:
        name = json.dumps(environment)
        if name not in kept:
            sentry.empty()
            told = sentry.run("arq", "first", ["-m", "tests.observe.sentry_jobs"], ARQ, **environment)
            kept[name] = comparable([each for each in told if each.get("transaction") != "request"])
        return kept[name]

    return told_of_stock


def comparable(told: list[dict[str, Any]]) -> Counter[str]:
    """Events and transactions without what differs from run to run: ids and times.

    Of spans those of queues: stock's transactions have more, of Redis commands, for which we do not use redis-py.
    """
    return Counter(
        json.dumps({"item": each["item"], **_of(each)}, sort_keys=True)
        for each in told
        if each["item"] in ("event", "transaction")
    )


def _of(item: dict[str, Any]) -> dict[str, Any]:
    trace = item.get("contexts", {}).get("trace", {})
    tags = dict(item.get("tags") or {})
    if not tags.get("arq_task_id", "").startswith(("one", "cron:")):
        tags.pop("arq_task_id", None)
    tags = {name: re.sub(r"(cron:\w+):\d+", r"\1", str(value)) for name, value in tags.items()}
    return {
        "transaction": item.get("transaction"),
        "source": item.get("transaction_info"),
        "trace": {name: trace.get(name) for name in ("op", "status", "origin")},
        "destination": trace.get("data", {}).get("messaging.destination.name"),
        "tags": tags,
        "job": item.get("extra", {}).get("arq-job"),
        "level": item.get("level"),
        "logger": item.get("logger"),
        "message": item.get("message") or (item.get("logentry") or {}).get("message"),
        "errors": [
            (error["type"], error["value"], error["mechanism"]["type"], error["mechanism"]["handled"])
            for error in item.get("exception", {}).get("values", ())
        ],
        "frames": [
            [(frame["function"], sorted(frame["vars"])) for frame in error["stacktrace"]["frames"]]
            for error in item.get("exception", {}).get("values", ())
            if "stacktrace" in error  # a process' error is told as text
        ],
        "breadcrumbs": [
            crumb["message"]
            for crumb in (item.get("breadcrumbs") or {}).get("values", ())
            if crumb.get("category") != "redis"
        ],
        "spans": [
            (span["op"], span["description"], span["origin"])
            for span in item.get("spans") or ()
            if span["op"].startswith("queue")
        ],
    }


@pytest.mark.parametrize(
    "way", [*QUICK, *(pytest.param(way, marks=pytest.mark.slow) for way in WAYS if way not in QUICK)]
)
async def test_sentry_is_told_what_it_is_told_of_stock_arq(
    way: str, sentry: Sentry, stock: Callable[..., Counter[str]]
) -> None:
    program, init = WAYS[way]
    expected = stock(CRON="1")
    assert sum(expected.values()) == 17
    cron = "1"
    if "--processes" in program:  # each process would have its cron job that runs at startup
        cron = "0"
        expected = Counter({told: times for told, times in expected.items() if "cron:tick" not in told})
    await sentry.ordered()

    told = await asyncio.to_thread(sentry.run, "arqestra", init, program, CRON=cron)

    assert comparable(told) == expected


def test_enqueues_are_told_as_of_stock_arq(sentry: Sentry) -> None:
    producer = ["-m", "tests.observe.sentry_jobs"]
    stock = comparable(sentry.run("arq", "first", producer))
    sentry.empty()
    ours = [comparable(sentry.run("arqestra", "first", producer))]
    sentry.empty()
    ours.append(comparable(sentry.run("arqestra", "last", producer)))

    (request,) = stock
    assert [name for _, name, _ in json.loads(request)["spans"]] == [name for name, _, _ in ORDERS]
    assert ours == [stock, stock]


@pytest.mark.slow
async def test_arguments_are_told_where_stock_arq_tells_them(
    sentry: Sentry, stock: Callable[..., Counter[str]]
) -> None:
    expected = stock(CRON="0", PII="1")
    assert any('"args": ["asked"]' in each for each in expected)
    await sentry.ordered()

    told = await asyncio.to_thread(sentry.run, "arqestra", "first", ARQ, CRON="0", PII="1")

    assert comparable(told) == expected


def test_what_stock_arq_does_not_have_is_told_in_the_same_way(sentry: Sentry) -> None:
    """Threads, processes, workflows, flows, retry policies, middleware; and what no wrapper of a function sees."""
    told = sentry.run("arqestra", "never", ["-m", "tests.observe.sentry_ours"])

    events = [each for each in told if each["item"] == "event"]
    by_arq = [e for e in events if e.get("logger") is None]
    assert {_of(e)["errors"][-1][2] for e in by_arq} == {"arq"}
    assert sorted((e["transaction"], re.sub(r" of [0-9a-f]{32}:.*", "", _of(e)["errors"][-1][1])) for e in by_arq) == [
        ("breaks", "in a workflow"),
        ("cron:hourly", "hourly"),
        ("fail", "no good: a step"),
        ("fail", "no good: in a flow"),
        ("fail", "no good: many"),
        ("flaky", "attempt 3"),  # the policy ran it again after the first two
        ("guarded", "the guard says no"),
        ("in_process", "in a process"),
        ("in_thread", "in a thread"),
        ("too_slow_softly", "soft time limit of 0.05 s exceeded"),
        ("unstorable", "unable to serialize result"),
    ]
    assert all(e["extra"]["arq-job"]["task"] == e["transaction"] for e in by_arq)
    assert [_of(e)["breadcrumbs"] for e in by_arq if e["transaction"] == "in_thread"] == [["in a thread"]]
    # A frame's variables are told, and masked by their names: in a frame of ours the password is one of `args`.
    assert HUSHED not in json.dumps(events)
    assert {e["transaction"]: [name for name, _ in _of(e)["frames"][-1]] for e in by_arq if _of(e)["frames"]} == {
        **{name: [name] for name in ("breaks", "fail", "flaky", "in_thread")},
        **{"cron:hourly": ["hourly"], "guarded": ["around_run"]},
        "too_slow_softly": ["too_slow_softly", "sleep"],
    }

    logged = [e for e in events if e not in by_arq]
    assert {e["logger"] for e in logged} == {"arq.worker.faults"}
    faults = "\n".join(e["logentry"]["formatted"] for e in logged)
    assert len(logged) == 3, faults
    assert re.search(r":typed: arguments do not fit the type hints", faults)
    assert re.search(r"not started:add failed, RuntimeError: the start hook is no good", faults)
    assert re.search(r"on_job_end failed for hooked:add", faults)

    spans = Counter(
        (each["transaction"], span["description"])
        for each in told
        if each["item"] == "transaction"
        for span in each["spans"]
        if span["op"] == "queue.submit.arq"
    )
    assert spans == Counter(
        {
            **{("request", name): 1 for name in (*ALONE, "steps", "typed")},
            ("request", "add"): 2 + 2 + 2 + 2,  # by name, of enqueue_many, of the chain, of map
            ("request", "fail"): 2,
            ("steps", "add"): 3,
            ("breaks", "add"): 1,
            ("broken_by_step", "fail"): 1,
        }
    )
    runs = Counter(each["transaction"] for each in told if each["item"] == "transaction")
    assert runs == Counter(
        {
            **{name: 1 for name in (*ALONE, "request", "steps", "cron:hourly")},
            **{"flaky": 3, "later": 2},
            **{"add": 1 + 2 + 2 + 2 + 4, "fail": 3, "unknown arq task": 2},
        }
    )
    checks = [(each["monitor_slug"], each["status"]) for each in told if each["item"] == "check_in"]
    assert checks == [("hourly", "in_progress"), ("hourly", "error")]
