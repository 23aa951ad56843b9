"""`arqestra enqueue`."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from arqestra import Pool, Worker
from tests.support.command_line import CommandLine


async def test_it_prints_the_id_and_the_job_is_what_was_asked_for(arqestra: CommandLine, pool: Pool) -> None:
    options = ("--args", "[3]", "--kwargs", '{"times": 5}', "--id", "mine", "--in", "1m", "--priority", "4")
    ran = await arqestra("enqueue", "double", *options, "--queue", "mail", "--expires", "2h")

    assert (ran.code, ran.out) == (0, "mine\n")
    info = await pool.job("mine", queue="mail").info()
    assert info is not None
    assert (info.function, info.args, info.kwargs) == ("double", (3,), {"times": 5})
    shown = (await arqestra("jobs", "show", "mine", "--json")).document
    assert shown["queue"] == "mail"
    assert shown["options"]["priority"] == 4
    enqueued, due, deadline = (
        datetime.fromisoformat(text) for text in (shown["enqueued"], shown["due"], shown["options"]["deadline"])
    )
    assert timedelta(seconds=59) < due - enqueued < timedelta(seconds=61)
    assert timedelta(seconds=7199) < deadline - enqueued < timedelta(seconds=7201)


async def test_at_a_time(arqestra: CommandLine, pool: Pool) -> None:
    ran = await arqestra("enqueue", "double", "--at", "2099-01-01T12:00:00+01:00", "--json")

    document = (await arqestra("jobs", "show", ran.document["id"], "--json")).document
    assert datetime.fromisoformat(document["due"]) == datetime(2099, 1, 1, 11, tzinfo=UTC)
    assert document["status"] == "deferred"


async def test_an_id_that_exists(arqestra: CommandLine) -> None:
    await arqestra("enqueue", "double", "--id", "mine")

    ran = await arqestra("enqueue", "double", "--id", "mine")

    assert (ran.code, ran.out) == (1, "")
    assert "exists already" in ran.err


async def test_waiting_for_a_result(arqestra: CommandLine, working: Worker) -> None:
    ran = await arqestra("enqueue", "double", "--args", "[21]", "--wait")
    document = (await arqestra("enqueue", "double", "--args", "[21]", "--wait", "--json")).document

    assert (ran.code, ran.out) == (0, "42\n")
    assert (document["status"], document["result"]) == ("complete", 42)


async def test_waiting_for_a_job_that_fails(arqestra: CommandLine, working: Worker) -> None:
    ran = await arqestra("enqueue", "fail", "--wait")
    as_json = await arqestra("enqueue", "fail", "--wait", "--json")

    assert (ran.code, ran.out) == (1, "")
    assert "failed: ValueError: no good" in ran.err
    assert 'raise ValueError("no good")' in ran.err
    assert as_json.code == 1
    assert as_json.document["error"] == "ValueError: no good"
    assert "Traceback" in as_json.document["traceback"]


async def test_waiting_too_long(arqestra: CommandLine) -> None:
    ran = await arqestra("enqueue", "nap", "--wait", "--timeout", "0.05")

    assert ran.code == 3
    assert "has not ended within 0.05 s" in ran.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--args", '{"a": 1}'), "--args: expected a JSON list"),
        (("--args", "[1"), "--args: expected JSON such as"),
        (("--kwargs", "[1]"), "--kwargs: expected a JSON object"),
        (("--kwargs", '{"_job_id": "x"}'), "expected names of the function's parameters"),
        (("--in", "soon"), "--in: expected"),
        (("--at", "soon"), "--at: expected a time"),
        (("--in", "5", "--at", "2099-01-01"), "--in or --at"),
        (("--priority", "11"), "priority: expected an int from 0"),
        (("--timeout", "5"), "expected --wait"),
        (("--serializer", "yaml"), "serializer: expected one of"),
        (("--redis-url", "http://localhost"), "expected a URL redis://"),
    ],
)
async def test_wrong_usage(arqestra: CommandLine, words: tuple[str, ...], message: str) -> None:
    ran = await arqestra("enqueue", "double", *words)

    assert (ran.code, ran.out) == (2, "")
    assert message in ran.err
    assert ran.err.count("\n") == 1


async def test_no_redis_is_one_line(arqestra: CommandLine) -> None:
    ran = arqestra.process("enqueue", "double", env={"REDIS_URL": "redis://user:secret@127.0.0.1:1"})

    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr.startswith("arqestra: no Redis answers at redis://user:***@127.0.0.1:1")
    assert ran.stderr.count("\n") == 1
    assert "secret" not in ran.stderr
