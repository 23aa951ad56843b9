"""`arqestra jobs` about jobs that have ended, and changes by filter."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import subprocess
import sys
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from arqestra import Pool, Worker
from arqestra.cli import bulk, search
from arqestra.cli.bulk import AT_ONCE
from arqestra.cli.job_show import _added
from arqestra.protocol.progress import LogLine
from tests.support.command_line import IN_A_TERMINAL, CommandLine, plain
from tests.support.repository import REPOSITORY
from tests.support.wait import wait_until

Make = Callable[..., Awaitable[None]]


@pytest.fixture
async def failed(pool: Pool, working: Worker) -> Make:
    """Makes jobs that fail for good, and waits until they are listed."""

    async def make(*ids: str) -> None:
        before = len(await pool.recent(state="failed"))
        for job_id in ids:
            await pool.enqueue_job("fail", {"password": "s3cret"}, _job_id=job_id)
        await wait_until(lambda: _listed(pool, before + len(ids)))

    return make


async def _listed(pool: Pool, count: int) -> bool:
    return len(await pool.recent(state="failed", limit=1_000)) == count


async def test_lists_by_state(arqestra: CommandLine, pool: Pool, failed: Make) -> None:
    await failed("a", "b")
    done = await pool.enqueue_job("double", 4, _job_id="done")
    assert done is not None
    await wait_until(lambda: pool.recent(state="complete"))

    listed = (await arqestra("jobs", "list", "--state", "failed", "--json")).document
    table = plain((await arqestra("jobs", "list", "--state", "failed")).out)
    retried = plain((await arqestra("jobs", "list", "--state", "retried")).out)
    complete = plain((await arqestra("jobs", "list", "--state", "complete")).out)
    limited = await arqestra("jobs", "list", "--state", "failed", "--limit", "1")

    assert {job["id"] for job in listed["jobs"]} == {"a", "b"}
    assert {job["attempt"] for job in listed["jobs"]} == {2}
    assert listed["jobs"][0]["error"]["message"] == "no good"
    assert listed["jobs"][0]["result_kept"] is True
    assert "id function ended ran attempt error" in table
    assert "a fail " in table
    assert " 2 ValueError: no good" in table
    assert " 1 ValueError: no good" in retried
    assert "done double " in complete
    assert "error" not in complete
    assert len(limited.out.splitlines()) == 3
    assert "these are the first 1" in limited.err


async def test_filters(arqestra: CommandLine, pool: Pool, failed: Make) -> None:
    await failed("a")

    for words, count in (
        (("--function", "fail"), 1),
        (("--function", "double"), 0),
        (("--queue", "mail"), 0),
        (("--since", "1h"), 1),
        (("--since", "2099-01-01"), 0),
        (("--since", "999999999h"), 1),
        (("--since", "0001-01-02T00:00+00:00"), 1),
    ):
        listed = (await arqestra("jobs", "list", "--state", "failed", *words, "--json")).document
        assert len(listed["jobs"]) == count, words
    nothing = await arqestra("jobs", "list", "--state", "failed", "--function", "double", "--queue", "mail")
    assert (nothing.code, nothing.out) == (0, "no job of function double is listed as failed in queue mail\n")


async def test_a_result_that_is_not_kept(arqestra: CommandLine, pool: Pool, failed: Make) -> None:
    await failed("a", "b")
    await pool.job("a").delete()

    listed = (await arqestra("jobs", "list", "--state", "failed", "--json")).document
    table = plain((await arqestra("jobs", "list", "--state", "failed")).out)
    retried = await arqestra("jobs", "retry", "--state", "failed", "-y", "--json")

    assert {job["id"]: job["result_kept"] for job in listed["jobs"]} == {"a": False, "b": True}
    assert "ValueError: no good not kept" in table
    assert (retried.code, retried.document["count"], retried.document["results_not_kept"]) == (0, 1, 1)


async def test_retry_by_filter_asks_and_counts(arqestra: CommandLine, pool: Pool, failed: Make) -> None:
    await failed("a", "b", "c")

    dry = await arqestra("jobs", "retry", "--state", "failed", "--dry-run")
    refused = await arqestra("jobs", "retry", "--state", "failed")
    other = await arqestra("jobs", "retry", "--state", "failed", "--function", "double", "-y")
    limited = await arqestra("jobs", "retry", "--state", "failed", "--limit", "1", "--dry-run")
    assert dry.out == "would retry 3 failed jobs of all queues\n"
    assert (refused.code, refused.out) == (2, "")
    assert (other.code, other.out) == (0, "no such job is failed of all queues\n")
    assert limited.out == "would retry 1 failed job of all queues\n"

    done = await arqestra("jobs", "retry", "--state", "failed", "--function", "fail", "--since", "1h", "-y")
    assert (done.code, done.out) == (0, "3 queued\n")
    await wait_until(lambda: _listed(pool, 6))


async def test_a_limit_takes_those_that_are_listed_first(arqestra: CommandLine, pool: Pool, failed: Make) -> None:
    for job_id in ("a", "b", "c"):
        await failed(job_id)

    listed = (await arqestra("jobs", "list", "--state", "failed", "--limit", "2", "--json")).document
    deleted = await arqestra("jobs", "delete", "--state", "failed", "--limit", "2", "-y")

    assert [job["id"] for job in listed["jobs"]] == ["c", "b"]
    assert deleted.out == "2 deleted\n"
    assert await pool.job("a").info() is not None
    assert await pool.job("b").info() is None


async def test_so_many_that_there_may_be_more(
    arqestra: CommandLine, pool: Pool, failed: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No more than so many are read, so a full reading cannot tell that there are no more."""
    for module in (bulk, search):
        monkeypatch.setattr(module, "MAX_ENDED", 2)
    await failed("a", "b", "c")

    listed = (await arqestra("jobs", "list", "--state", "failed", "--limit", "2", "--json")).document
    retried = await arqestra("jobs", "retry", "--state", "failed", "--dry-run")

    assert listed["more"] is True
    assert retried.out == "would retry 2 failed jobs of all queues\n"
    assert "these are the newest 2; there may be more" in retried.err


async def test_ctrl_c_ends_a_question(arqestra: CommandLine, failed: Make) -> None:
    await failed("a")
    here, there = pty.openpty()
    process = subprocess.Popen(  # noqa: ASYNC220 - it only starts
        [
            sys.executable,
            "-c",
            IN_A_TERMINAL,
            sys.executable,
            "-m",
            "arqestra.cli",
            "jobs",
            "retry",
            "--state",
            "failed",
        ],
        cwd=REPOSITORY,
        env={**os.environ, **arqestra.environment},
        stdin=there,
        stdout=there,
        stderr=there,
        start_new_session=True,
    )
    try:
        seen = b""
        async with asyncio.timeout(20):
            while b"[y/N]" not in seen:
                seen += await asyncio.to_thread(os.read, here, 65_536)
        async with asyncio.timeout(20):
            while process.poll() is None:  # one that comes just before it waits for a key is noticed with the next
                os.write(here, b"\x03")
                await asyncio.sleep(0.5)
        assert process.returncode != 0
    finally:
        process.kill()
        process.wait()
        os.close(here)
        os.close(there)


async def test_a_job_that_was_run_again_meanwhile_is_left_alone(
    arqestra: CommandLine, pool: Pool, failed: Make
) -> None:
    await failed("a", "b")
    await pool.queue().pause()
    await pool.job("b").delete()
    await pool.enqueue_job("double", 1, _job_id="b")  # another job of that id
    await pool.enqueue_job("double", 1, _job_id="c")

    for words in (("retry",), ("delete",)):
        ran = await arqestra("jobs", *words, "--state", "failed", "-y", "--json")
        assert (ran.code, ran.document["count"]) == (0, 1 if words == ("retry",) else 0)
    assert await pool.queue().depth() == 3  # a waits again, b and c were not touched


async def test_a_job_that_failed_anew_since_it_was_listed(arqestra: CommandLine, pool: Pool, failed: Make) -> None:
    await failed("a")
    (listed,) = await pool.recent(state="failed")
    await failed_again(pool)
    key = pool.store.keys.recent(listed.queue, "failed|fail")
    await pool.zremrangebyrank(key, -1, -1)  # the list does not know of it yet

    for verb in ("retry", "delete"):
        ran = await arqestra("jobs", verb, "--state", "failed", "-y")
        assert (ran.code, ran.out) == (1, "1 not: it was run again since (a)\n")
    assert await pool.job("a").result_info() is not None


async def failed_again(pool: Pool) -> None:
    await pool.job("a").retry()
    await wait_until(lambda: _listed(pool, 2))


async def test_many_are_changed_in_pieces(arqestra: CommandLine, pool: Pool) -> None:
    count = 2 * AT_ONCE + 1
    await pool.enqueue_many([("double", (number,)) for number in range(count)])
    await pool.enqueue_job("nap")

    asked = await arqestra("jobs", "abort", "--state", "queued", "--function", "double", "--timeout", "0", "-y")
    late = await arqestra("jobs", "abort", "--state", "queued", "--function", "double", "--timeout", "0.1", "-y")
    deleted = await arqestra("jobs", "delete", "--state", "queued", "--function", "double", "-y", "--json")

    assert (asked.code, asked.out) == (0, f"{count} asked for; it is queued\n")
    assert late.code == 3
    assert f"{count} not: asked for, not carried out within 0.1 s" in late.out
    assert deleted.document["count"] == count
    assert await pool.queue().depth() == 1


async def test_a_filter_looks_at_the_whole_queue(arqestra: CommandLine, pool: Pool) -> None:
    await pool.enqueue_many([("double", (number,)) for number in range(10_100)])
    await pool.enqueue_job("nap", _job_id="last")

    ran = await arqestra("jobs", "delete", "--state", "queued", "--function", "nap", "-y")

    assert (ran.code, ran.out) == (0, "1 deleted\n")
    assert await pool.job("last").info() is None


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("retry",), "expected ids of jobs or --state, got neither"),
        (("abort", "x", "--state", "queued"), "expected ids of jobs or --state, got both"),
        (("delete", "x", "--since", "1h"), "expected --state with them"),
        (("retry", "--all-dead", "--state", "failed"), "expected --all-dead or --state failed"),
    ],
)
async def test_ids_or_a_filter(arqestra: CommandLine, words: tuple[str, ...], message: str) -> None:
    ran = await arqestra("jobs", *words)

    assert (ran.code, ran.out) == (2, "")
    assert message in ran.err


# -- what a job says of itself ------------------------------------------------------------------------------------


async def test_progress_and_log_are_shown(arqestra: CommandLine, pool: Pool, working: Worker) -> None:
    job = await pool.enqueue_job("count_to", 4, _job_id="counts")
    assert job is not None
    await wait_until(job.progress)

    document = (await arqestra("jobs", "show", "counts", "--json")).document
    text = plain((await arqestra("jobs", "show", "counts")).out)
    log = await arqestra("jobs", "log", "counts")

    assert (document["progress"]["done"], document["progress"]["total"]) == (1, 4)
    assert [line["text"] for line in document["log"]] == ["begins"]
    assert "25% one, " in text
    assert text.rstrip().endswith("begins")
    assert (log.code, log.out.rstrip()[-8:]) == (0, "  begins")


async def test_following_a_log_to_its_end(arqestra: CommandLine, pool: Pool, working: Worker) -> None:
    job = await pool.enqueue_job("log_lines", "go", _job_id="logs")
    assert job is not None
    await wait_until(job.log)

    following = asyncio.ensure_future(arqestra("jobs", "log", "logs", "--follow", "--json"))
    await pool.set("go", b"1")
    ran = await following

    assert ran.code == 0
    assert [line.split('"text":')[1] for line in ran.out.splitlines()] == ['"first"}', '"last"}']


async def test_following_the_last_lines_of_a_log_tells_none_twice(
    arqestra: CommandLine, pool: Pool, working: Worker
) -> None:
    await pool.set("go", b"1")
    job = await pool.enqueue_job("log_lines", "go", _job_id="logs")
    assert job is not None
    await job.result(10)

    async def all_written() -> bool:
        return len(await job.log()) == 2

    await wait_until(all_written)

    ran = await arqestra("jobs", "log", "logs", "--follow", "--limit", "1", "--json")

    assert [line.split('"text":')[1] for line in ran.out.splitlines()] == ['"last"}']


async def test_the_log_of_nobody(arqestra: CommandLine, pool: Pool) -> None:
    await pool.enqueue_job("double", _job_id="silent")

    nobody = await arqestra("jobs", "log", "nobody")
    silent = await arqestra("jobs", "log", "silent")

    assert (nobody.code, nobody.err) == (1, "arqestra: there is no job 'nobody', and no log of it\n")
    assert (silent.code, silent.out, silent.err) == (0, "", "job silent has logged nothing\n")


def test_what_came_to_a_log_of_which_the_first_lines_have_gone() -> None:
    one, two, three = (LogLine(datetime(2026, 1, 1, tzinfo=UTC), 1, text) for text in ("1", "2", "3"))

    assert _added([], [one]) == [one]
    assert _added([one, two], [one, two]) == []
    assert _added([one, two], [two, three]) == [three]
    assert _added([one, one], [one, one, one]) == [one]
    assert _added([one], [two, three]) == [two, three]


# -- secrets ------------------------------------------------------------------------------------------------------


async def test_secrets_are_not_shown(arqestra: CommandLine, pool: Pool, failed: Make) -> None:
    await failed("bad")
    await pool.enqueue_job("double", password="s3cret", _job_id="waits", _queue_name="other")
    login = await pool.enqueue_job("login", "ann", "s3cret", _job_id="login")
    assert login is not None
    await login.result(10)

    with_settings = ("--settings", "tests.cli.cli_jobs.WorkerSettings")
    for words in (
        ("jobs", "show", "bad"),
        ("jobs", "list", "--state", "dead"),
        ("jobs", "list", "--queue", "other"),
        ("jobs", "show", "waits", "--queue", "other"),
        ("jobs", "show", "login", *with_settings),
        ("enqueue", "login", "--args", '["ann", "x"]', "--wait", "--timeout", "10"),
    ):
        for form in ((), ("--json",)):
            ran = await arqestra(*words, *form)
            assert ran.code == 0, ran.err
            assert "s3cret" not in ran.out, words
            assert "[redacted]" in ran.out, words
    for settings in ("WorkerSettings", "SETTINGS_DICT", "SETTINGS_OBJECT"):
        given = ("--settings", f"tests.cli.cli_jobs.{settings}")
        document = (await arqestra("jobs", "show", "login", *given, "--json")).document
        assert document["args"] == ["ann", "[redacted]"]
    assert document["result"]["value"] == {"user": "ann", "session_token": "[redacted]"}


async def test_settings_that_are_not_there(arqestra: CommandLine) -> None:
    ran = await arqestra("jobs", "list", "--settings", "tests.cli.nowhere.WorkerSettings")

    assert (ran.code, ran.out) == (2, "")
    assert "--settings: expected a settings class" in ran.err


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("1 / 0", "ZeroDivisionError('division by zero')"),
        ("raise SystemExit(7)", "SystemExit(7)"),
        ("raise ValueError('two\\nlines')", "ValueError('two\\nlines')"),
        (
            "class S: functions = [1]",
            "functions: expected a sequence of job functions, func(...) or import strings, got 1 among them",
        ),
        (
            "class S: functions = 1",
            "functions: expected a sequence of job functions, func(...) or import strings, got 1",
        ),
    ],
)
def test_a_settings_module_that_fails_is_one_line(
    arqestra: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str, reason: str
) -> None:
    (tmp_path / "failing_settings.py").write_text(line)
    monkeypatch.setitem(arqestra.environment, "PYTHONPATH", f"{tmp_path}{os.pathsep}{REPOSITORY}")

    ran = arqestra.process("jobs", "list", "--settings", "failing_settings.S")

    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr == f"arqestra: --settings: expected a settings class, as worker.WorkerSettings: {reason}\n"


def test_what_a_settings_module_prints_is_no_part_of_a_document(
    arqestra: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "printing_settings.py").write_text("print('hello')\nclass S: functions = []")
    monkeypatch.setitem(arqestra.environment, "PYTHONPATH", f"{tmp_path}{os.pathsep}{REPOSITORY}")

    ran = arqestra.process("jobs", "list", "--settings", "printing_settings.S", "--json")

    assert json.loads(ran.stdout)["jobs"] == []
    assert ran.stderr == "hello\n"
