"""`arqestra doctor`."""

from __future__ import annotations

import time

import pytest
import redis

from arqestra import Pool, Worker
from arqestra.cli.checks import check_queue, check_server
from arqestra.embedded import EmbeddedRedis
from arqestra.store.queues import QueueSurvey
from arqestra.store.server import ServerFacts
from tests.support.command_line import CommandLine, plain

GOOD = ServerFacts(
    name="Redis",
    version="7.2.4",
    cluster=False,
    replica=False,
    eviction="noeviction",
    used_memory_bytes=1_000_000,
    maxmemory_bytes=0,
    append_only=True,
    snapshots=False,
    write_failed=False,
    clock_offset_ms=3,
    ping_ms=(0.1, 0.2, 0.3),
    scripts="",
)
NOW_MS = 1_800_000_000_000
QUIET = QueueSurvey("q", NOW_MS, 0, 0, 0, 0, 0, 0, 0, 0, None, False, 1, 0, False)


@pytest.mark.parametrize(
    ("change", "subject", "level"),
    [
        ({"version": "6.0.16"}, "version", "problem"),
        ({"version": "6.2.0"}, "version", "ok"),
        ({"version": ""}, "version", "warning"),
        ({"replica": True}, "role", "problem"),
        ({"cluster": True}, "role", "problem"),
        ({"scripts": "NOPERM"}, "scripts", "problem"),
        ({"eviction": "allkeys-lru"}, "eviction", "warning"),
        ({"eviction": "allkeys-lru", "maxmemory_bytes": 10**9}, "eviction", "problem"),
        ({"eviction": ""}, "eviction", "warning"),
        ({"maxmemory_bytes": 1_050_000}, "memory", "warning"),
        ({"append_only": False}, "persistence", "warning"),
        ({"append_only": False, "snapshots": True}, "persistence", "warning"),
        ({"append_only": None}, "persistence", "warning"),
        ({"write_failed": True}, "persistence", "problem"),
        ({"clock_offset_ms": -5_000}, "clock", "warning"),
        ({"ping_ms": (6.0, 7.0, 8.0)}, "latency", "warning"),
        ({"ping_ms": (60.0, 70.0, 80.0)}, "latency", "problem"),
    ],
)
def test_what_is_said_of_a_server(change: dict[str, object], subject: str, level: str) -> None:
    assert {each.level for each in check_server(GOOD)} == {"ok"}

    found = {each.subject: each for each in check_server(GOOD._replace(**change))}  # type: ignore[arg-type]

    assert found.pop(subject).level == level
    assert {each.level for each in found.values()} == {"ok"}


@pytest.mark.parametrize(
    ("change", "level", "words"),
    [
        ({"due": 3, "idle_workers": 0}, "problem", "no worker serves it"),
        ({"due": 3, "idle_workers": 0, "has_health_check": True}, "ok", "3 jobs due"),
        ({"due": 3, "idle_workers": 0, "registered": True}, "ok", "3 jobs due"),
        (
            {"due": 3, "idle_workers": 0, "has_health_check": True, "oldest_due_ms": NOW_MS - 90_000},
            "problem",
            "no worker serves it",
        ),
        ({"due": 3, "idle_workers": 0, "running": 2}, "ok", "2 running"),
        ({"due": 3, "oldest_due_ms": NOW_MS - 600_000}, "warning", "the oldest for 10 min"),
        ({"due": 3, "idle_workers": 0, "paused": True}, "warning", "paused, 3 jobs due"),
        ({"stuck": 1}, "problem", "1 job whose worker died"),
        ({"running": 1, "stock_running": 1}, "warning", "held by stock arq workers"),
        ({"dead": 1}, "warning", "1 job in the dead set"),
    ],
)
def test_what_is_said_of_a_queue(change: dict[str, object], level: str, words: str) -> None:
    (found,) = check_queue(QUIET._replace(**change))  # type: ignore[arg-type]

    assert found.level == level
    assert words in found.text
    assert level == "ok" or found.advice


async def test_exit_codes(arqestra: CommandLine, pool: Pool, working: Worker) -> None:
    warned = await arqestra("doctor", "--json")
    strict = await arqestra("doctor", "--strict")
    findings = {each["subject"]: each for each in warned.document["findings"]}

    assert (warned.code, warned.document["verdict"], strict.code) == (1, "warning", 2)
    assert findings["persistence"]["level"] == "warning"  # the tests' server keeps nothing
    assert findings["persistence"]["advice"].startswith("CONFIG SET appendonly yes")
    assert {each["level"] for name, each in findings.items() if name != "persistence"} == {"ok"}

    await pool.enqueue_job("double", _queue_name="nobodys")
    await pool.enqueue_job("double", _job_id="left", _queue_name="left", _defer_by=60)
    await pool.set(pool.store.keys.lease("left"), f"{'w' * 16}.1|{(time.time() - 90) * 1000:.0f}|5|1")
    await pool.zadd("left", {"left": (time.time() - 90) * 1000})
    bad = await arqestra("doctor")
    assert bad.code == 2
    text = plain(bad.out)
    assert "queue nobodys problem 1 job, and no worker serves it" in text
    assert "queue left problem 1 job whose worker died over a minute ago" in text


async def test_all_is_well(tmp_path: object) -> None:
    with EmbeddedRedis(str(tmp_path), use_environment=False) as server:
        ran = await CommandLine(server.url)("doctor")

    assert ran.code == 0, ran.out


async def test_a_user_who_may_not_run_scripts(arqestra: CommandLine, redis_server: EmbeddedRedis) -> None:
    with redis.Redis.from_url(redis_server.url) as client:
        client.execute_command("ACL", "SETUSER", "reader", "on", ">secret", "~*", "&*", "+@all", "-@scripting")
    try:
        arqestra.environment["REDIS_URL"] = f"redis://reader:secret@127.0.0.1:{redis_server.port}"
        ran = await arqestra("doctor", "--json")
    finally:
        with redis.Redis.from_url(redis_server.url) as client:
            client.execute_command("ACL", "DELUSER", "reader")

    assert ran.code == 2
    findings = {each["subject"]: each for each in ran.document["findings"]}
    assert findings["scripts"]["level"] == "problem"
    assert "secret" not in ran.out
