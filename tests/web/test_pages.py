"""The pages: that hostile text stays text, that secrets are masked, and what search finds."""

from __future__ import annotations

import json
import re
from html import unescape
from html.parser import HTMLParser

import httpx
import pytest
from starlette.applications import Starlette
from starlette.routing import Mount

from arqestra import Pool, Worker, chord
from arqestra.protocol.presence import Presence
from arqestra.store.presence import write_presence
from arqestra.web import create_app
from arqestra.web.catalogue import VIEWS
from arqestra.web.openapi import document
from tests.support.hostile_text import EVIL
from tests.support.wait import wait_until
from tests.web.conftest import BASE, Client, client_of
from tests.web.web_jobs import add, fail, login, total


@pytest.fixture
async def hostile(pool: Pool, working: Worker, web: Client) -> None:
    """Everything that people can name or write is hostile."""
    await pool.enqueue_job(EVIL, EVIL, _job_id=f"{EVIL}1", _headers={EVIL[:40]: EVIL})
    await pool.enqueue_job(EVIL, text=EVIL, _queue_name=EVIL, _job_id=EVIL)
    await pool.enqueue(fail.options(job_id="failed"))
    await pool.enqueue_job(EVIL, EVIL, _job_id=f"{EVIL}2", _defer_by=3600)
    flow = await pool.enqueue_flow(chord([add.s(1), fail.s(EVIL)], total.s()), flow_id=EVIL, name=EVIL)
    await flow.wait(20)
    await wait_until(lambda: _failed(web))


async def _failed(web: Client) -> bool:
    return len((await web.get("/api/jobs", params={"state": "failed"})).json()["jobs"]) == 2


class Harmless(HTMLParser):
    """Fails for an element or an attribute that none of our templates has."""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = {name for name, _ in attrs}
        assert not any(name.startswith("on") or name == "style" for name in names), (tag, attrs)
        if tag == "img":
            assert dict(attrs)["src"] != "x"
        if tag == "script":
            assert names & {"nonce", "src"}, attrs


def check_harmless(page: str, path: str) -> None:
    parser = Harmless()
    parser.feed(page)
    parser.close()
    assert "49}" not in page, path


async def test_hostile_text_stays_text(web: Client, hostile: None) -> None:
    pages: list[tuple[str, dict[str, str]]] = [
        (view.path, {}) for view in VIEWS if view.template and view.name not in ("job", "schedule", "workflow")
    ]
    pages += [("/jobs", {"state": state}) for state in ("queued", "deferred", "failed", "retried", "complete", "dead")]
    pages += [("/jobs", {"queue": EVIL, "function": EVIL, "id": EVIL[:20], "state": "queued"})]
    pages += [("/job", {"id": each}) for each in (EVIL, f"{EVIL}1", f"{EVIL}2", "failed", f"{EVIL}~2")]
    pages += [("/queue", {"name": EVIL}), ("/schedule", {"name": EVIL}), ("/workflow", {"id": EVIL})]
    pages += [("/errors", {"state": "failed", "function": EVIL}), ("/errors", {"queue": EVIL, "state": "retried"})]
    pages += [("/search", {"q": f"{EVIL} x"}), ("/confirm", {"action": "queues/purge", "name": EVIL})]
    pages += [("/confirm", {"action": "jobs/delete", "job": json.dumps({"id": EVIL, "queue": EVIL})})]
    seen = 0
    for path, query in pages:
        answer = await web.get(path, params=query)
        assert answer.status_code == 200, (path, query, answer.text)
        check_harmless(answer.text, path)
        seen += unescape(answer.text).count("onerror=alert(1)")
    assert seen > 50, "it was there to be seen"
    for view in VIEWS:
        answer = await web.get(f"/api/{view.name}", params={"id": EVIL, "name": EVIL, "q": EVIL})
        assert answer.headers["content-type"] == "application/json"


async def test_links_lead_to_what_has_an_odd_name(web: Client, hostile: None) -> None:
    page = (await web.get("/jobs", params={"queue": EVIL})).text
    (address,) = {unescape(found) for found in re.findall(r'href="(/job\?[^"]+)"', page)}
    assert EVIL in unescape((await web.get(address)).text)


async def test_secrets_are_masked(pool: Pool, web: Client, redis_url: str) -> None:
    await pool.enqueue(login.options(job_id="one"), "ann", "hunter22")
    await pool.enqueue(fail.options(job_id="two"), "why", password="hunter22")
    await pool.enqueue_job("unknown", {"api_key": "hunter22", "user": "ann"}, _job_id="three")
    for job_id in ("one", "two", "three"):
        page = (await web.get("/job", params={"id": job_id})).text
        assert "hunter22" not in page
        assert "[redacted]" in page
    assert "hunter22" not in (await web.get("/jobs")).text
    assert "hunter22" not in (await web.get("/api/jobs")).text


async def test_search(pool: Pool, web: Client, working: Worker) -> None:
    await pool.enqueue_job("add", 1, _job_id="job-4711", _queue_name="mail")
    flow = await pool.enqueue_flow(add.s(1) | add.s(2), flow_id="flow-1")
    await flow.wait(20)
    await wait_until(lambda: pool.schedules.list())
    await wait_until(lambda: _has_function(web, "add"))
    for text, kind, name in (
        ("job-4711", "job", "job-4711"),
        ("  'job-4711' ", "job", "job-4711"),
        ("12:00:01:   0.35s → job-4711:add(1)", "job", "job-4711"),
        ("https://jobs.example/job?id=job-4711&queue=mail", "job", "job-4711"),
        ("flow-1", "flow", "flow-1"),
        ("flow-1~2", "job", "flow-1~2"),
        ("nightly", "schedule", "nightly"),
        ("mail", "queue", "mail"),
        ("ad", "function", "add"),
        (working.worker_id, "worker", working.worker_id),
    ):
        hits = (await web.get("/api/search", params={"q": text})).json()["hits"]
        assert (kind, name) in [(hit["kind"], hit["name"]) for hit in hits], text
    answer = await web.get("/search", params={"q": "nightly"})
    assert (answer.status_code, answer.headers["location"]) == (303, "/schedule?name=nightly")
    assert "Nothing is called like that" in (await web.get("/search", params={"q": "no such thing"})).text
    for odd in ("http://[fe80::1", "x://]", "\x00"):
        assert (await web.get("/api/search", params={"q": odd})).status_code == 200, odd


async def _has_function(web: Client, name: str) -> bool:
    return name in (await web.get("/api/jobs")).json()["functions"]


async def test_errors_are_grouped(pool: Pool, web: Client, working: Worker) -> None:
    for number in range(5):
        await pool.enqueue(fail.options(job_id=f"bad-{number}"), "one reason")
    await wait_until(lambda: _group_has(web, 5))
    (group,) = (await web.get("/api/errors")).json()["groups"]
    assert (group["type"], group["message"], group["functions"]) == ("ValueError", "one reason", ["fail"])
    assert group["place"].startswith("web/web_jobs.py:")
    assert sum(group["trend"]) == 5
    assert group["first_ms"] <= group["last_ms"]
    page = (await web.get("/errors")).text
    (address,) = {unescape(found) for found in re.findall(r'href="(/confirm[^"]+)"', page)}
    assert "Retry 5 jobs" in (await web.get(address)).text


async def _group_has(web: Client, count: int) -> bool:
    return [group["count"] for group in (await web.get("/api/errors")).json()["groups"]] == [count]


async def test_a_dashboard_below_a_path(redis_url: str, pool: Pool) -> None:
    await pool.enqueue_job("add", 1, _job_id="one")
    inner = create_app(redis_url)
    outer = Starlette(routes=[Mount("/ops/jobs", inner)])
    transport = httpx.ASGITransport(app=outer)
    async with inner.router.lifespan_context(inner), Client(transport=transport, base_url=BASE) as client:
        page = (await client.get("/ops/jobs/")).text
        addresses = {unescape(each) for each in re.findall(r'(?:href|src|action)="(/[^"]*)"', page)}
        assert addresses
        for address in addresses:
            assert address.startswith("/ops/jobs/"), address
            assert (await client.get(address)).status_code < 400, address
        assert (await client.get("/ops/jobs/api/openapi.json")).json()["servers"] == [{"url": "/ops/jobs"}]
        token = re.search(r'name="csrf" value="([0-9a-f]+)"', (await client.get("/ops/jobs/queues")).text)
        assert token
        data = {"csrf": token[1], "name": "arq:queue", "next": "/queues"}
        answer = await client.post("/ops/jobs/actions/queues/pause", data=data)
        assert answer.headers["location"] == "/ops/jobs/queues"
        assert (await client.get("/ops/jobs/nowhere")).status_code == 404


async def test_a_pool_is_shared_by_its_redis_alone(pool: Pool, redis_url: str) -> None:
    """The pool of the application goes on as it was: with its serializer, and open."""
    async with client_of(create_app(pool)) as client:
        assert (await client.get("/")).status_code == 200
    assert pool.serializer.name == "msgpack"
    assert await pool.ping()


async def test_no_redis() -> None:
    async with client_of(create_app("redis://127.0.0.1:1")) as client:
        assert (await client.get("/healthz")).status_code == 503
        assert (await client.get("/")).status_code == 503
        assert (await client.get("/api/overview")).json() == {"error": "Redis does not answer"}


async def test_the_description_names_every_route(app: Starlette) -> None:
    described = document("", "")["paths"]
    routes = {getattr(route, "path", "") for route in app.routes}
    for path in routes:
        if path.startswith("/api/") and "{" not in path and path != "/api/openapi.json":
            assert path in described, path


async def test_metrics(pool: Pool, web: Client) -> None:
    await pool.enqueue_job("add", 1)
    await wait_until(pool.used_queues)
    answer = await web.get("/metrics")
    assert 'arqestra_queue_jobs{queue="arq:queue",state="queued"}' in answer.text
    assert answer.headers["content-type"].startswith("text/plain")


async def test_a_key_that_is_no_queue(pool: Pool, web: Client) -> None:
    await pool.set("text", "no queue")
    await pool.zadd(pool.store.keys.queues, {"text": 1})
    for path in ("/", "/queues", "/workers"):
        assert (await web.get(path)).status_code == 200
    assert (await web.get("/queue?name=text")).status_code == 404
    assert (await web.get("/jobs?queue=text")).status_code == 422


async def test_what_does_not_exist(web: Client) -> None:
    for path in ("/job?id=nobody", "/workflow?id=nobody", "/schedule?name=nobody", "/nowhere", "/confirm?action=no"):
        assert (await web.get(path)).status_code == 404, path
    for path in ("/job", "/jobs?limit=0", "/jobs?state=odd", "/?range=99y", "/confirm?action=jobs/retry"):
        assert (await web.get(path)).status_code == 422, path


async def test_a_worker_that_is_not_heard_of(pool: Pool, web: Client) -> None:
    """When it was heard of last, and whether it is gone or silent."""
    keys = pool.store.keys
    told = Presence("elsewhere", 7, "0", 0, ["q"], 3, 1, 0, [], 0, 0, 0, 0, 0.0, 0, False)
    for worker_id in ("gone", "silent"):
        await write_presence(pool.store, worker_id, told)
        await pool.zincrby(keys.workers, -40_000, worker_id)
    async with pool.pubsub() as subscribed:
        await subscribed.subscribe(keys.worker_channel("silent"))
        await subscribed.get_message(timeout=5)
        found = (await web.get("/api/workers")).json()
        page, overview = [unescape((await web.get(path)).text) for path in ("/workers", "/")]

    assert {each["id"]: each["state"] for each in found["workers"]} == {"gone": "gone", "silent": "silent"}
    assert (found["slots"], found["running"]) == (0, 0)
    assert "It was killed, or is cut off from Redis." in page
    assert "It tells nothing, and Redis holds its connection" in page
    assert "A worker is gone" in overview
    assert "A worker is silent" in overview
    assert re.search(r"elsewhere, process 7 was last heard of at \d\d:\d\d:\d\d UTC", overview)
