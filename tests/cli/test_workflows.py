"""`arqestra workflows`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from arqestra import Pool, Worker, group
from arqestra.cli.workflow_export import file_name
from tests.cli.cli_jobs import double, fail, nap, order, unlucky
from tests.support.command_line import CommandLine, plain
from tests.support.replies import reply_of
from tests.support.wait import wait_until


async def test_flows_that_run_and_flows_that_ended(arqestra: CommandLine, pool: Pool, working: Worker) -> None:
    failed = await pool.enqueue_flow(double.s(1) | fail.s(), flow_id="failed")
    await pool.enqueue_flow(group(nap.s(), nap.s()), flow_id="slow")
    await failed.wait(10)

    (running,) = (await arqestra("workflows", "list", "--json")).document["workflows"]
    (ended,) = (await arqestra("workflows", "list", "--ended", "--json")).document["workflows"]
    assert (running["id"], running["status"], running["done"], running["total"]) == ("slow", "running", 0, 2)
    assert (ended["id"], ended["status"], ended["states"]) == ("failed", "failed", {"complete": 1, "failed": 1})
    assert "failed graph fail failed 2 of 2" in plain((await arqestra("workflows", "list", "--ended")).out)

    shown = (await arqestra("workflows", "show", "failed", "--json")).document
    assert [(node["function"], node["state"]) for node in shown["nodes"]] == [
        ("double", "complete"),
        ("fail", "failed"),
    ]
    assert "2 fail failed 1 arq:queue failed~2" in plain((await arqestra("workflows", "show", "failed")).out)
    mermaid = await arqestra("workflows", "show", "failed", "--mermaid")
    assert mermaid.out.startswith('flowchart TD\n    n1["double"]:::complete\n    n2["fail"]:::failed\n    n1 --> n2\n')

    retried = await arqestra("workflows", "retry", "failed")
    assert (retried.code, retried.out) == (0, "flow failed: 1 job run again\n")
    refused = await arqestra("workflows", "cancel", "slow")
    cancelled = await arqestra("workflows", "cancel", "slow", "-y", "--reason", "enough")
    assert refused.code == 2
    assert (cancelled.code, cancelled.out) == (0, "flow slow: cancelled\n")
    assert await pool.flow("slow").wait(10) == "cancelled"
    assert "cancelled enough" in plain((await arqestra("workflows", "show", "slow")).out)
    assert (await arqestra("workflows", "cancel", "slow", "-y")).code == 1


async def test_a_durable_workflow(arqestra: CommandLine, pool: Pool, working: Worker) -> None:
    job = await pool.enqueue(order.options(job_id="order-7"), 7)
    assert job is not None
    assert await job.result(10) == 14

    async def has_ended() -> bool:
        return await pool.flow("order-7").status() == "complete"

    await wait_until(has_ended)
    shown = (await arqestra("workflows", "show", "order-7", "--json")).document
    assert (shown["kind"], shown["name"], shown["status"], shown["done"]) == ("workflow", "order", "complete", 1)
    assert (await arqestra("workflows", "retry", "order-7")).code == 1


async def test_a_failed_workflow_is_resumed(arqestra: CommandLine, pool: Pool, working: Worker) -> None:
    job = await pool.enqueue(unlucky.options(job_id="unlucky"), "key")
    assert job is not None
    with pytest.raises(ValueError, match="no key"):
        await job.result(10)
    await pool.set("key", "1")

    ran = await arqestra("workflows", "resume", "unlucky")

    assert (ran.code, ran.out) == (0, "workflow unlucky: resumed, 1 step tried anew\n")
    assert await job.result(10) == 2
    assert (await arqestra("workflows", "resume", "unlucky")).code == 1


async def test_an_event_is_sent_to_a_workflow_and_to_nothing_else(arqestra: CommandLine, pool: Pool) -> None:
    made = await pool.enqueue(order.options(job_id="order-8", queue="nobodys"), 8)
    other = await pool.enqueue(double.options(job_id="job-1"), 8)
    assert made is not None
    assert other is not None

    for _ in range(2):
        sent = await arqestra("workflows", "signal", "order-8", "paid", "--value", '{"amount": 12}', "--key", "31")
        assert (sent.code, sent.out) == (0, "workflow order-8: paid sent\n")
    assert await reply_of(pool.llen(pool.store.keys.flow_log("order-8"))) == 1
    for flow_id in ("job-1", "x"):
        refused = await arqestra("workflows", "signal", flow_id, "paid")
        assert refused.code == 1
        assert f"there is no workflow '{flow_id}' that could get it" in refused.err
    assert (await arqestra("workflows", "signal", "order-8", "paid", "--value", "{")).code == 2


async def test_a_flow_that_is_not_there(arqestra: CommandLine) -> None:
    for words in (("show", "x"), ("cancel", "x", "-y"), ("retry", "x"), ("resume", "x")):
        ran = await arqestra("workflows", *words)
        assert (ran.code, ran.out) == (1, "")
        assert "there is no flow 'x'" in ran.err
    assert (await arqestra("workflows", "list")).out == "no flow runs\n"


async def test_queue_chooses_flows(arqestra: CommandLine, pool: Pool) -> None:
    await pool.enqueue_flow(double.s(1).set(queue="mail") | double.s(), flow_id="mails")

    for queue, ids in (("mail", ["mails"]), ("nobodys", [])):
        listed = (await arqestra("workflows", "list", "--queue", queue, "--json")).document["workflows"]
        assert [each["id"] for each in listed] == ids


async def test_histories_are_exported(arqestra: CommandLine, pool: Pool, working: Worker, tmp_path: Path) -> None:
    for job_id in ("order-7", "../order 8"):
        job = await pool.enqueue(order.options(job_id=job_id), 7)
        assert job is not None
        await job.result(10)

    printed = await arqestra("workflows", "export", "order-7")
    assert printed.document == await pool.export_workflow("order-7") | {"exported": printed.document["exported"]}
    to_a_file = await arqestra("workflows", "export", "order-7", "--output", str(tmp_path / "new" / "one.json"))
    assert to_a_file.out == f"workflow order-7: 1 event in {tmp_path}/new/one.json\n"
    assert json.loads((tmp_path / "new" / "one.json").read_text())["id"] == "order-7"

    folder = tmp_path / "histories"
    latest = await arqestra("workflows", "export", "--function", "order", "--output", str(folder))
    assert (latest.code, latest.out) == (0, f"2 runs of order in {folder}\n")
    assert sorted(path.name for path in folder.iterdir()) == ["..%2Forder 8.json", "order-7.json"]
    one = await arqestra("workflows", "export", "--function", "order", "--last", "1", "-o", str(folder), "--json")
    assert one.document == {
        "exported": {"../order 8": str(folder / "..%2Forder 8.json")},
        "missing": {},
        "all_seen": True,
    }
    assert len(file_name("/" * 500)) < 255
    assert file_name("/" * 500) != file_name("/" * 501)


async def test_what_cannot_be_exported(arqestra: CommandLine, pool: Pool, working: Worker, tmp_path: Path) -> None:
    nobody = await arqestra("workflows", "export", "nobody")
    assert (nobody.code, nobody.out) == (1, "")
    assert "expected one that a worker has begun" in nobody.err
    assert (await arqestra("workflows", "export")).code == 2
    assert (await arqestra("workflows", "export", "nobody", "--function", "order")).code == 2
    no_folder = await arqestra("workflows", "export", "--function", "order")
    assert (no_folder.code, "expected --output with the folder" in no_folder.err) == (2, True)
    none = await arqestra("workflows", "export", "--function", "nobody", "-o", str(tmp_path))
    assert (none.code, "no run of 'nobody' is kept" in none.err) == (1, True)

    job = await pool.enqueue(order.options(job_id="order-7"), 7)
    assert job is not None
    await job.result(10)
    (tmp_path / "taken").write_text("a file")
    blocked = await arqestra("workflows", "export", "order-7", "-o", str(tmp_path / "taken" / "order.json"))
    assert blocked.code == 1
    assert "taken" in blocked.err
