"""`arqestra jobs`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import pytest

from arqestra import Pool, Worker
from arqestra.cli.output import first_line
from arqestra.cli.shell import redacted
from arqestra.store.queues import browse, survey
from arqestra.store.records import ClaimRequest, NewJob
from tests.support.command_line import CommandLine, plain
from tests.support.wait import wait_until

QUEUE = "arq:queue"


@pytest.fixture
async def dead(pool: Pool, working: Worker) -> Callable[..., Awaitable[None]]:
    """Makes dead jobs."""

    async def make(*ids: str) -> None:
        for job_id in ids:
            await pool.enqueue_job("fail", _job_id=job_id)
        await wait_until(lambda: _counts(pool, len(ids)))

    return make


async def _counts(pool: Pool, count: int) -> bool:
    return await pool.queue().dead_count() == count


async def _claim(pool: Pool, worker_id: str = "w" * 16, slots: int = 1) -> None:
    await pool.store.turn([], ClaimRequest(QUEUE, worker_id, 1, slots, 60_000, 600_000))


async def test_the_states_of_a_queue(arqestra: CommandLine, pool: Pool) -> None:
    await pool.enqueue_job("double", 1, _job_id="runs", _priority=9)
    await _claim(pool)
    await pool.enqueue_job("double", 2, _job_id="due", _priority=3)
    await pool.enqueue_job("nap", _job_id="later", _defer_by=60, _priority=3)

    listed = (await arqestra("jobs", "list", "--json")).document
    assert {job["id"]: job["state"] for job in listed["jobs"]} == {
        "runs": "running",
        "due": "queued",
        "later": "deferred",
    }
    for state, job_id in (("running", "runs"), ("queued", "due"), ("deferred", "later")):
        found = (await arqestra("jobs", "list", "--state", state, "--json")).document
        assert [job["id"] for job in found["jobs"]] == [job_id]
        assert (await arqestra("jobs", "show", job_id, "--json")).document["status"] == state
    by_function = (await arqestra("jobs", "list", "--function", "nap", "--json")).document
    assert [job["id"] for job in by_function["jobs"]] == ["later"]
    assert (await arqestra("jobs", "list", "--since", "2099-01-01", "--json")).document["jobs"] == []
    assert len((await arqestra("jobs", "list", "--since", "1h", "--json")).document["jobs"]) == 3

    table = plain((await arqestra("jobs", "list")).out)
    assert "due queued double 2" in table
    assert "later deferred nap in " in table


async def test_a_look_at_a_large_queue_is_bounded_and_says_so(arqestra: CommandLine, pool: Pool) -> None:
    await pool.enqueue_job("nap", _job_id="later", _defer_by=60)
    await pool.enqueue_many(("double", (number,)) for number in range(11_000))

    started_s = time.perf_counter()
    by_function = await arqestra("jobs", "list", "--function", "nap", "--json")
    took_s = time.perf_counter() - started_s
    limited = await arqestra("jobs", "list", "--limit", "3")
    deferred = (await arqestra("jobs", "list", "--state", "deferred", "--json")).document

    assert by_function.document["jobs"] == []
    assert by_function.document["cut"] is True
    assert (by_function.document["looked_at"], by_function.document["entries"]) == (10_000, 11_001)
    assert took_s < 5
    assert "there are more; these are the first 3" in limited.err
    assert [job["id"] for job in deferred["jobs"]] == ["later"]


async def test_jobs_of_stock_workers_and_left_leases(pool: Pool) -> None:
    await pool.enqueue_job("double", _job_id="stock")
    await pool.set(pool.store.keys.lease("stock"), b"1")
    await pool.enqueue_job("double", _job_id="left")
    await pool.set(pool.store.keys.lease("left"), f"{'w' * 16}.1|{(time.time() - 90) * 1000:.0f}|5|1")
    await pool.zadd(QUEUE, {"left": (time.time() - 90) * 1000})

    page = await browse(pool.store, QUEUE)
    stands = await survey(pool.store, QUEUE)

    assert {entry.id: entry.state for entry in page.entries} == {"stock": "running", "left": "queued"}
    assert (stands.due, stands.running, stands.stock_running, stands.stuck) == (1, 1, 1, 1)
    assert stands.oldest_due_ms is not None
    assert 89_000 < stands.now_ms - stands.oldest_due_ms < 95_000


async def test_a_workflow_that_waits_and_a_job_held_by_a_limit(pool: Pool, arqestra: CommandLine) -> None:
    for number in range(3):
        await pool.enqueue_job("double", _job_id=f"due{number}")
    await pool.enqueue_job("double", _job_id="held")
    await pool.enqueue_job("double", _job_id="waits")
    await pool.zadd(QUEUE, {"held": 8639999999999000, "waits": 8640000000000000 + 3})

    for state, job_id in (("held", "held"), ("waiting", "waits")):
        found = (await arqestra("jobs", "list", "--state", state, "--json")).document
        assert [job["id"] for job in found["jobs"]] == [job_id]
        assert found["jobs"][0]["due"] is None
        assert (await arqestra("jobs", "show", job_id, "--json")).document["status"] == state
    stands = await survey(pool.store, QUEUE)
    assert (stands.due, stands.held, stands.waiting) == (3, 1, 1)


async def test_show_a_job_that_failed(arqestra: CommandLine, dead: Callable[..., Awaitable[None]]) -> None:
    await dead("bad")

    document = (await arqestra("jobs", "show", "bad", "--json")).document
    text = (await arqestra("jobs", "show", "bad")).out

    assert (document["status"], document["attempts"]) == ("dead", 2)
    assert [error["message"] for error in document["errors"]] == ["no good", "no good"]
    assert document["result"]["error"] == "ValueError: no good"
    assert 'raise ValueError("no good")' in document["result"]["traceback"]
    assert text.count('raise ValueError("no good")') == 2


async def test_show_what_is_not_there(arqestra: CommandLine) -> None:
    ran = await arqestra("jobs", "show", "nobody")

    assert (ran.code, ran.out) == (1, "")
    assert "there is no job 'nobody'" in ran.err


async def test_another_serializer_is_said_and_not_guessed(arqestra: CommandLine, pool: Pool) -> None:
    await pool.enqueue_job("double", _job_id="packed")

    listed = await arqestra("jobs", "list", "--serializer", "json")
    shown = await arqestra("jobs", "show", "packed", "--serializer", "json")

    assert "not json: see --serializer" in listed.out
    assert shown.code == 1
    assert "Give the workers' --serializer" in shown.err


async def test_what_jobs_carry_does_not_command_the_terminal(arqestra: CommandLine, pool: Pool) -> None:
    await pool.enqueue_job("double", "[red]\x1b[31m", _job_id="evil\x1b]0;")

    for words in (("list",), ("show", "evil\x1b]0;")):
        ran = await arqestra("jobs", *words)
        assert "\x1b" not in ran.out
        assert "[red]" in ran.out


async def test_retry_and_delete_dead_jobs_by_filter(
    arqestra: CommandLine, pool: Pool, dead: Callable[..., Awaitable[None]]
) -> None:
    await dead("a", "b", "c")
    listed = (await arqestra("jobs", "list", "--state", "dead", "--json")).document
    assert {job["id"] for job in listed["jobs"]} == {"a", "b", "c"}

    dry = (await arqestra("jobs", "delete", "--all-dead", "--dry-run", "--json")).document
    refused = arqestra.process("jobs", "delete", "--all-dead")
    other = await arqestra("jobs", "retry", "--all-dead", "--function", "double", "-y")
    assert (dry["dry_run"], dry["count"]) == (True, 3)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "expected -y to delete 3 dead jobs" in refused.stderr
    assert "no such job in the dead set" in other.out
    assert await pool.queue().dead_count() == 3

    retried = await arqestra("jobs", "retry", "--all-dead", "--function", "fail", "--since", "1h", "-y", "--json")
    assert retried.document["count"] == 3
    await wait_until(lambda: _counts(pool, 3))
    deleted = await arqestra("jobs", "delete", "--all-dead", "-y")
    assert (deleted.code, deleted.out) == (0, "3 deleted\n")
    assert await pool.queue().dead_count() == 0


async def test_retry_one_by_one(arqestra: CommandLine, dead: Callable[..., Awaitable[None]]) -> None:
    await dead("bad")

    ran = await arqestra("jobs", "retry", "bad", "nobody", "--json")

    assert ran.code == 1
    bad, nobody = ran.document["jobs"]
    assert bad == {"id": "bad", "outcome": "queued"}
    assert "found none" in nobody["outcome"]


async def test_abort(arqestra: CommandLine, pool: Pool, working: Worker) -> None:
    await pool.enqueue_job("nap", _job_id="runs")
    await pool.enqueue_job("nap", _job_id="later", _defer_by=60)
    await pool.enqueue_job("nap", _job_id="nobodys", _queue_name="other")
    await wait_until(lambda: pool.exists(pool.store.keys.lease("runs")))

    done = await arqestra("jobs", "abort", "runs", "later", "-y")
    late = await arqestra("jobs", "abort", "nobodys", "-y", "--timeout", "0.1")
    ended = await arqestra("jobs", "abort", "runs", "-y", "--timeout", "0")

    assert (done.code, done.out) == (0, "runs  aborted\nlater  aborted\n")
    assert (late.code, late.out) == (3, "nobodys  asked for, not carried out within 0.1 s\n")
    assert (ended.code, ended.out) == (1, "runs  had ended\n")
    assert (await arqestra("jobs", "show", "runs", "--json")).document["status"] == "aborted"


async def test_delete_finds_the_queue_and_spares_what_runs(arqestra: CommandLine, pool: Pool) -> None:
    await pool.enqueue_job("double", _job_id="runs")
    await _claim(pool)
    await pool.enqueue_job("double", _job_id="there", _queue_name="other")

    ran = await arqestra("jobs", "delete", "runs", "there", "-y")

    assert (ran.code, ran.out) == (1, "runs  running: abort it first\nthere  deleted\n")
    assert await pool.exists("other") == 0


async def test_ids_or_a_filter(arqestra: CommandLine) -> None:
    for words in ((), ("x", "--all-dead"), ("x", "--function", "f")):
        ran = await arqestra("jobs", "delete", *words)
        assert ran.code == 2
        assert "expected" in ran.err


async def test_a_page_is_a_bounded_reply(pool: Pool) -> None:
    await pool.store.enqueue([NewJob(QUEUE, f"job{number:04}", b"x" * 100) for number in range(1_200)])

    page = await browse(pool.store, QUEUE, payloads=10)

    assert (len(page.entries), page.next_place, page.total) == (500, 500, 1_200)
    assert sum(entry.payload is not None for entry in page.entries) == 10


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://host:6379/1", "redis://host:6379/1"),
        ("redis://user@host:6379", "redis://user@host:6379"),
        ("redis://:secret@host", "redis://:***@host"),
        ("redis://user:se@cr@et@host:1/0", "redis://user:***@host:1/0"),
        ("unix://user:secret@/run/redis.sock?db=1", "unix://user:***@/run/redis.sock?db=1"),
        ("redis://host/0?username=me&password=secret&db=1", "redis://host/0?username=me&password=***&db=1"),
    ],
)
def test_no_password_is_shown(url: str, shown: str) -> None:
    assert redacted(url) == shown


@pytest.mark.parametrize("day", ["0001-01-01", "9999-12-31T23:59"])
async def test_a_time_that_no_clock_shows(arqestra: CommandLine, monkeypatch: pytest.MonkeyPatch, day: str) -> None:
    for zone in ("UTC-23", "UTC+23"):  # east of Greenwich the first day has no beginning, west of it the last no end
        monkeypatch.setitem(arqestra.environment, "TZ", zone)
        ran = await asyncio.to_thread(arqestra.process, "jobs", "list", "--since", day)
        assert ran.returncode in (0, 2), ran.stderr
        assert "Traceback" not in ran.stderr


def test_the_first_line_of_an_error() -> None:
    assert first_line("short") == "short"
    assert first_line("first\nsecond") == "first…"
    assert first_line("x" * 300) == "x" * 199 + "…"


async def test_bytes_that_are_no_text(arqestra: CommandLine) -> None:
    for words in (("jobs", "list", "--queue", "a\udcff"), ("enqueue", "double", "--queue", "a\udcff")):
        ran = await asyncio.to_thread(arqestra.process, *words)
        assert (ran.returncode, ran.stdout) == (2, "")
        assert ran.stderr == "arqestra: expected text in UTF-8, got 'a\\udcff'\n"
