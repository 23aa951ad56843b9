"""Every action, by the API and by forms: what it does, and that the audit log has it."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from arqestra import Pool, Worker, chord
from arqestra.store.store import Store
from tests.support.wait import wait_until
from tests.web.conftest import Client
from tests.web.web_jobs import add, fail, nap, order, total, unlucky


async def do(web: Client, action: str, **body: Any) -> dict[str, Any]:
    answer = await web.post(f"/api/actions/{action}", json=body)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def state_of(web: Client, job_id: str) -> str | None:
    answer = await web.get("/api/job", params={"id": job_id})
    return answer.json()["state"] if answer.status_code == 200 else None


def one(job_id: str) -> dict[str, Any]:
    return {"jobs": [{"id": job_id, "queue": "arq:queue"}]}


async def test_run_now(pool: Pool, web: Client, working: Worker) -> None:
    await pool.enqueue_job("add", 1, _job_id="later", _defer_by=3600, _priority=3)
    assert await state_of(web, "later") == "deferred"
    assert (await do(web, "jobs/run-now", **one("later")))["done"] == 1
    await wait_until(lambda: pool.job("later").result_info())
    assert (await do(web, "jobs/run-now", **one("later")))["failed"] == 1


async def test_abort_delete_and_retry(pool: Pool, web: Client, working: Worker) -> None:
    await pool.enqueue(nap.options(job_id="long"))
    await wait_until(lambda: _is(web, "long", "running"))
    assert (await do(web, "jobs/delete", **one("long")))["problems"] == ["long: it is running: abort it first"]
    assert (await do(web, "jobs/abort", **one("long")))["done"] == 1
    await wait_until(lambda: _is(web, "long", "aborted"))
    assert (await do(web, "jobs/retry", **one("long")))["done"] == 1
    await wait_until(lambda: _is(web, "long", "running"))
    await do(web, "jobs/abort", **one("long"))
    await wait_until(lambda: _is(web, "long", "aborted"))
    assert (await do(web, "jobs/delete", **one("long")))["done"] == 1
    assert await state_of(web, "long") is None
    assert (await do(web, "jobs/delete", **one("long")))["failed"] == 1
    assert (await do(web, "jobs/abort", **one("long")))["failed"] == 1


async def _is(web: Client, job_id: str, state: str) -> bool:
    return await state_of(web, job_id) == state


async def test_all_that_match_a_filter(pool: Pool, web: Client, working: Worker) -> None:
    for number in range(30):
        await pool.enqueue(fail.options(job_id=f"bad-{number}"), f"reason {number % 2}")
        await pool.enqueue(add.options(job_id=f"good-{number}"), number)
    await wait_until(lambda: _counted(web, 30, state="failed"))
    chosen = {"state": "failed", "id": "bad-1"}  # 1, 10 to 19
    found = (await web.post("/api/matching", json={"filter": chosen})).json()
    assert (found["count"], found["more"]) == (11, False)
    page = (await web.get("/confirm", params={"action": "jobs/retry", "filter": json.dumps(chosen)})).text
    assert "Retry 11 jobs" in page
    assert (await do(web, "jobs/retry", filter=chosen))["done"] == 11
    await wait_until(lambda: _counted(web, 41, state="failed"))
    (entry, *_) = (await web.get("/api/audit")).json()["entries"]
    assert (entry["action"], entry["done"]) == ("jobs/retry", 11)
    assert json.loads(entry["filter"])["id"] == "bad-1"


async def _counted(web: Client, count: int, **query: Any) -> bool:
    jobs = (await web.get("/api/jobs", params={"limit": 500, **query})).json()["jobs"]
    return len(jobs) == count


async def test_the_filter_of_a_queue_and_its_pages(pool: Pool, web: Client) -> None:
    for number in range(120):
        await pool.enqueue_job("add" if number % 3 else "total", number, _job_id=f"job-{number:03}")
    seen: list[str] = []
    after = ""
    while True:
        page = (await web.get("/api/jobs", params={"function": "add", "after": after, "limit": 25})).json()
        seen += [job["id"] for job in page["jobs"]]
        after = page["next"]
        if not after:
            break
        assert len(page["jobs"]) == 25
    assert seen == [f"job-{number:03}" for number in range(120) if number % 3]
    assert (await do(web, "jobs/delete", filter={"function": "total"}))["done"] == 40
    assert await pool.queue().depth() == 80


async def test_a_form_acts_and_says_what_came_of_it(pool: Pool, web: Client) -> None:
    await pool.enqueue_job("add", 1, _job_id="a", _defer_by=60)
    await pool.enqueue_job("add", 1, _job_id="b", _defer_by=60)
    jobs = [json.dumps({"id": each, "queue": "arq:queue"}) for each in ("a", "b", "missing")]
    answer = await web.act("jobs/delete", job=jobs, next="/jobs?state=deferred")
    assert (answer.status_code, answer.headers["location"]) == (303, "/jobs?state=deferred")
    page = (await web.get("/jobs?state=deferred")).text
    assert "2 jobs deleted, 1 not" in page
    assert "missing: there is no such job" in page
    assert "2 jobs deleted" not in (await web.get("/jobs?state=deferred")).text, "it is said once"


@pytest.mark.parametrize("letter", ["x", "\N{SNOWMAN}", "'"])
async def test_what_came_of_it_fits_into_a_cookie(pool: Pool, web: Client, letter: str) -> None:
    jobs = [json.dumps({"id": f"{number}{letter * 900}", "queue": "arq:queue"}) for number in range(6)]
    answer = await web.act("jobs/delete", job=jobs)
    assert all(len(each) < 4096 for each in answer.headers.get_list("set-cookie"))
    page = (await web.get("/jobs")).text
    assert "0 jobs deleted, 6 not" in page
    assert "<ul><li>0" in page, "the first reasons"


async def test_queues(pool: Pool, web: Client) -> None:
    await pool.enqueue_job("add", 1)
    assert "paused" in (await do(web, "queues/pause", name="arq:queue"))["message"]
    tile = (await web.get("/api/queue", params={"name": "arq:queue"})).json()["queue"]
    assert (tile["paused"], tile["due"]) == (True, 1)
    assert "arq:queue is paused" in (await web.get("/")).text
    await do(web, "queues/resume", name="arq:queue")
    assert not await pool.queue().is_paused()
    assert (await do(web, "queues/purge", name="arq:queue"))["done"] == 1
    assert await pool.queue().depth() == 0


async def test_workers(pool: Pool, web: Client, working: Worker) -> None:
    await do(web, "workers/drain", id=working.worker_id)
    await wait_until(lambda: _worker_is(web, "draining"))
    await do(web, "workers/resume", id=working.worker_id)
    await wait_until(lambda: _worker_is(web, "idle"))
    assert (await do(web, "workers/drain", id="nobody"))["failed"] == 1


async def _worker_is(web: Client, state: str) -> bool:
    workers = (await web.get("/api/workers")).json()["workers"]
    return [worker["state"] for worker in workers] == [state]


async def test_schedules(pool: Pool, web: Client, working: Worker) -> None:
    await wait_until(lambda: pool.schedules.list())
    await do(web, "schedules/pause", name="nightly")
    assert (await pool.schedules.get("nightly")).paused
    await do(web, "schedules/resume", name="nightly")
    assert (await do(web, "schedules/run", name="nightly"))["done"] == 1
    await wait_until(lambda: _has_run(web))
    for when, words in (
        ("*/10 * * * *", "every 10 minutes"),
        ("every 2h", "every 2 hours"),
        ("2099-01-01T10:00", "once"),
    ):
        await do(web, "schedules/edit", name="nightly", when=when, timezone="Europe/Paris", missed="last")
        info = await pool.schedules.get("nightly")
        assert info.words.startswith(words)
        assert (info.missed, info.source) == ("last", "run time")
    (entry, *_) = (await web.get("/api/audit")).json()["entries"]
    assert "once, at 2099-01-01 10:00:00, Europe/Paris (missed ticks: last)" in entry["outcome"]
    assert "before, it was due every 2 hours" in entry["outcome"], "what one has to put back"
    for when in ("nonsense", "every never", "99 * * * *", "every 1ms", "every 999999999999d"):
        assert (await do(web, "schedules/edit", name="nightly", when=when))["failed"] == 1, when
    assert (await do(web, "schedules/run", name="nobody"))["failed"] == 1
    assert (await web.get("/")).status_code == 200


async def _has_run(web: Client) -> bool:
    runs = (await web.get("/api/schedule", params={"name": "nightly"})).json()["runs"]
    return bool(runs) and runs[0]["outcome"] == "complete"


async def test_flows(pool: Pool, web: Client, working: Worker) -> None:
    flow = await pool.enqueue_flow(chord([add.s(1), fail.s("no")], total.s()), flow_id="sums")
    assert await flow.wait(20) == "failed"
    page = (await web.get("/api/workflow", params={"id": "sums"})).json()
    assert (page["flow"]["status"], page["retryable"]) == ("failed", True)
    assert {node["state"] for node in page["nodes"]} >= {"complete", "failed", "upstream_failed"}
    assert (await do(web, "workflows/retry", id="sums"))["done"] == 2
    assert await flow.wait(20) == "failed"
    parent = (await web.get("/api/job", params={"id": "sums~1"})).json()
    assert parent["flow"] == "sums"
    later = await pool.enqueue_flow(nap.s(60) | add.s())
    assert (await do(web, "workflows/cancel", id=later.flow_id))["done"] == 1
    await later.wait(20)
    assert (await do(web, "workflows/cancel", id=later.flow_id))["failed"] == 1


async def test_a_failed_workflow_is_resumed(pool: Pool, web: Client, working: Worker) -> None:
    job = await pool.enqueue(unlucky.options(job_id="unlucky"), "key")
    assert job is not None
    with pytest.raises(ValueError, match="no key"):
        await job.result(timeout=20)
    assert (await web.get("/api/workflow", params={"id": "unlucky"})).json()["resumable"]
    await pool.set("key", "1")
    assert (await do(web, "workflows/resume", id="unlucky"))["done"] == 1
    assert await job.result(timeout=20) == 2


async def test_a_durable_workflow_and_its_history(pool: Pool, web: Client, working: Worker) -> None:
    job = await pool.enqueue(order.options(job_id="order-7"), 40)
    assert job is not None
    assert await job.result(timeout=20) == 42
    page = (await web.get("/api/workflow", params={"id": "order-7"})).json()
    assert (page["flow"]["kind"], page["flow"]["status"]) == ("workflow", "complete")
    assert [(event["kind"], event["function"], event["detail"]) for event in page["history"]] == [
        ("step ended", "add", "complete"),
        ("step ended", "add", "complete"),
    ]
    step = (await web.get("/api/job", params={"id": "order-7~1"})).json()
    assert (step["flow"], step["state"]) == ("order-7", "complete")


async def test_the_audit_log_has_who_and_what(viewer: Client, web: Client, pool: Pool) -> None:
    await do(web, "queues/pause", name="arq:queue")
    await web.act("queues/resume", name="arq:queue")
    entries = (await viewer.get("/api/audit")).json()["entries"]
    assert [(each["who"], each["role"], each["action"], each["targets"]) for each in entries] == [
        ("local", "operator", "queues/resume", ["arq:queue"]),
        ("local", "operator", "queues/pause", ["arq:queue"]),
    ]
    assert entries[0]["address"] == "127.0.0.1"
    age = datetime.now(UTC) - datetime.fromtimestamp(entries[0]["at_ms"] / 1000, UTC)
    assert age < timedelta(hours=1)


@pytest.mark.parametrize(
    "body",
    [
        {"filter": {"status": "failed"}},
        {"filter": {"state": "queued", "error": "ValueError"}},
        {"filter": {"state": "dead", "place": "jobs.py:1"}},
        {"filter": {}, "jobs": [{"id": "a", "queue": "arq:queue"}]},
        {"filters": {"state": "failed"}, "jobs": [{"id": "a", "queue": "arq:queue"}]},
    ],
)
async def test_what_would_choose_more_than_was_meant_is_refused(pool: Pool, web: Client, body: dict[str, Any]) -> None:
    await pool.enqueue_job("add", 1, _job_id="a")
    assert (await web.post("/api/actions/jobs/delete", json=body)).status_code == 422
    assert (await web.post("/api/matching", json=body)).status_code == 422
    assert await pool.queue().depth() == 1


async def test_deleting_ended_jobs_leaves_alone_those_that_were_enqueued_again(
    pool: Pool, web: Client, working: Worker
) -> None:
    await pool.enqueue_job("add", 1, _job_id="nightly-sum")
    await pool.job("nightly-sum").result(timeout=20)
    await wait_until(lambda: _counted(web, 1, state="complete"))
    page = await web.get("/jobs", params={"state": "complete"})
    assert 'name="ended" value="true"' in page.text, "those selected by hand go the same way"
    assert 'name="ended" value="true"' in (await web.get("/job", params={"id": "nightly-sum"})).text
    await pool.delete("arq:result:nightly-sum")
    await pool.enqueue_job("add", 2, _job_id="nightly-sum", _defer_by=600)
    for chosen in ({"filter": {"state": "complete"}}, {**one("nightly-sum"), "ended": True}):
        done = await do(web, "jobs/delete", **chosen)
        assert (done["done"], done["problems"]) == (0, ["nightly-sum: it is in its queue again"])
    assert await pool.queue().depth() == 1


async def test_one_odd_job_does_not_keep_others_from_their_turn(pool: Pool, web: Client) -> None:
    await pool.set("no-queue", "a string")
    await pool.enqueue_job("add", 1, _job_id="a")
    jobs = [{"id": "odd", "queue": "no-queue"}, {"id": "a", "queue": "arq:queue"}]
    done = await do(web, "jobs/delete", jobs=jobs)
    assert (done["done"], done["failed"]) == (1, 1)
    assert "WRONGTYPE" in done["problems"][0]
    (entry, *_) = (await web.get("/api/audit")).json()["entries"]
    assert (entry["done"], entry["failed"]) == (1, 1)


async def test_what_was_done_before_redis_went_away_is_told(
    pool: Pool, web: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(120):
        await pool.enqueue_job("add", number, _job_id=f"job-{number:03}")
    delete = Store.delete

    async def delete_some(store: Store, job_id: str, queue: str, *, ended: bool = False) -> Any:
        if job_id == "job-060":
            raise ConnectionError("gone")
        return await delete(store, job_id, queue, ended=ended)

    monkeypatch.setattr(Store, "delete", delete_some)
    done = await do(web, "jobs/delete", filter={"state": "queued"})
    assert (done["done"], done["failed"]) == (99, 21), "one of the second fifty, and those after them"
    assert "stopped, because Redis does not answer" in done["message"]
    (entry, *_) = (await web.get("/api/audit")).json()["entries"]
    assert entry["done"] == 99


async def test_deleting_by_another_queue_takes_nothing_from_the_one_that_has_the_job(
    pool: Pool, web: Client, working: Worker
) -> None:
    await pool.enqueue_job("add", 1, _job_id="waits", _queue_name="mail")
    await pool.enqueue(nap.options(job_id="runs"))
    await wait_until(lambda: _is(web, "runs", "running"))
    jobs = [{"id": "waits", "queue": "arq:queue"}, {"id": "waits", "queue": "nowhere"}, {"id": "runs", "queue": "mail"}]
    done = await do(web, "jobs/delete", jobs=jobs)
    assert (done["done"], done["failed"]) == (0, 3)
    assert done["problems"][0] == "waits: it is in another queue, mail"
    assert (await web.get("/api/job", params={"id": "waits"})).json()["state"] == "queued"
    assert await state_of(web, "runs") == "running"
    await do(web, "jobs/abort", **one("runs"))


async def test_a_name_makes_no_line_of_the_log(web: Client, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "arq.dashboard")
    await do(web, "queues/pause", name="x\notto (10.0.0.1) queues/purge: 7 jobs")
    messages = [record.getMessage() for record in caplog.records if record.name == "arq.dashboard"]
    assert len(messages) == 1
    assert "\n" not in messages[0]
