"""Who may do what, from where; what every answer carries."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect
from starlette.routing import Mount, Route

from arqestra import Pool, SettingsError
from arqestra.web import BasicAuth, Identity, TokenAuth, create_app
from arqestra.web.actions import ACTIONS
from arqestra.web.auth import Sessions
from arqestra.web.catalogue import VIEWS
from arqestra.web.dashboard import Dashboard
from tests.support.hostile_text import EVIL
from tests.web.conftest import OPERATOR, VIEWER, Client, client_of

WITHOUT_LOGIN = {"/healthz", "/login", "/logout"}


def routes_of(app: Starlette) -> Iterator[tuple[str, str]]:
    """Each method and path that the app answers, with every action in the place of {action}."""
    for route in app.routes:
        if isinstance(route, Mount):
            continue
        assert isinstance(route, Route)
        for method in sorted(route.methods or ()):
            for action in ACTIONS if "{action" in route.path else [""]:
                yield method, re.sub(r"\{action.*\}", action, route.path)


async def test_a_viewer_cannot_act_by_any_route(viewer: Client, guarded_app: Starlette, pool: Pool) -> None:
    await pool.enqueue_job("add", 1, _job_id="stays")
    tried = 0
    for method, path in routes_of(guarded_app):
        if method in ("GET", "HEAD") or path in WITHOUT_LOGIN:
            continue
        for body in ({"json": {"jobs": [{"id": "stays", "queue": "arq:queue"}]}}, {"data": {"csrf": "x"}}):
            answer = await viewer.request(method, path, **body)
            assert answer.status_code == 403, (method, path)
            tried += 1
    assert tried >= 4 * len(ACTIONS)
    assert await pool.job("stays").info() is not None
    page = (await viewer.get("/queues")).text
    assert '<form method="post" action="/actions' not in page, "nothing is offered that is refused"
    assert "read-only" in page


async def test_nothing_is_told_to_who_is_not_known(guarded_app: Starlette) -> None:
    async with client_of(guarded_app) as nobody:
        for method, path in routes_of(guarded_app):
            if path in WITHOUT_LOGIN:
                continue
            answer = await nobody.request(method, path)
            assert answer.status_code in (303, 401), (method, path)
            if answer.status_code == 303:
                assert answer.headers["location"].startswith("/login?next=%2F")
        assert (await nobody.get("/healthz")).text == "ok\n"


async def test_actions_are_never_done_by_get(web: Client, pool: Pool) -> None:
    await pool.enqueue_job("add", 1, _job_id="stays")
    for name in ACTIONS:
        assert (await web.get(f"/actions/{name}")).status_code == 405
        assert (await web.get(f"/api/actions/{name}")).status_code == 405
    assert await pool.job("stays").info() is not None


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://["},
    ],
)
async def test_requests_of_other_sites_are_refused(web: Client, pool: Pool, headers: dict[str, str]) -> None:
    token = await web.form_token()
    form = await web.post("/actions/queues/pause", data={"csrf": token, "name": "arq:queue"}, headers=headers)
    api = await web.post("/api/actions/queues/pause", json={"name": "arq:queue"}, headers=headers)
    assert (form.status_code, api.status_code) == (403, 403)
    assert not await pool.queue().is_paused()


async def test_a_form_needs_the_token_of_this_visit(web: Client, pool: Pool, app: Starlette) -> None:
    assert (await web.post("/actions/queues/pause", data={"name": "arq:queue"})).status_code == 403
    assert (await web.post("/actions/queues/pause", data={"name": "arq:queue", "csrf": "0" * 64})).status_code == 403
    async with client_of(app) as other:
        stolen = await other.form_token()
    answer = await web.post("/actions/queues/pause", data={"name": "arq:queue", "csrf": stolen})
    assert answer.status_code == 403
    assert not await pool.queue().is_paused()
    assert (await web.act("queues/pause", name="arq:queue")).status_code == 303
    assert await pool.queue().is_paused()


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"])
async def test_the_api_takes_json_alone(web: Client, pool: Pool, kind: str) -> None:
    """What a form of another site can send without asking is none of these."""
    answer = await web.post(
        "/api/actions/queues/pause", content=b'{"name": "arq:queue"}', headers={"Content-Type": kind}
    )
    assert answer.status_code == 415
    assert not await pool.queue().is_paused()


async def test_other_hosts_are_refused(web: Client) -> None:
    for host in ("evil.example", "127.0.0.1.evil.example", "", "[::1", "localhost:80@evil.example"):
        assert (await web.get("/", headers={"Host": host})).status_code == 421, host
    for host in ("localhost:8190", "127.0.0.1", "[::1]:8190"):
        assert (await web.get("/", headers={"Host": host})).status_code == 200, host


async def test_every_answer_carries_the_headers(web: Client) -> None:
    nonces = set()
    for path in ("/", "/api/overview", "/nowhere", "/static/x/style.css", "/healthz"):
        answer = await web.get(path)
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["x-frame-options"] == "DENY"
        nonces |= set(re.findall(r"'nonce-([^']+)'", policy))
    assert len(nonces) == 5, "each answer has a nonce of its own"
    page = await web.get("/")
    (nonce,) = set(re.findall(r"'nonce-([^']+)'", page.headers["content-security-policy"]))
    for script in re.findall(r"<script[^>]*>", page.text):
        assert f'nonce="{nonce}"' in script or " src=" in script
    assert " style=" not in page.text
    assert not re.search(r"\son\w+=", page.text)


async def test_no_page_needs_another_host(web: Client) -> None:
    for view in VIEWS:
        if view.template and view.name not in ("job", "workflow", "schedule"):
            assert not re.search(r"(?:src|href|action)=\"(?:https?:)?//", (await web.get(view.path)).text), view.name


async def test_only_our_files_are_given(web: Client) -> None:
    assert (await web.get("/static/x/vendor/uPlot.iife.min.js")).status_code == 200
    for path in ("../app.py", "..%2fapp.py", "vendor/../../app.py", "/etc/passwd", "vendor"):
        answer = await web.get(f"/static/x/{path}", follow_redirects=True)
        assert answer.status_code == 404, path


@pytest.mark.parametrize("to", ["https://evil.example/", "//evil.example", "/\\evil.example", "javascript:alert(1)"])
async def test_forms_lead_back_to_our_pages_alone(web: Client, to: str) -> None:
    answer = await web.act("queues/pause", name="arq:queue", next=to)
    assert answer.headers["location"] == "/"


async def test_what_a_page_says_of_an_action_cannot_be_forged(web: Client) -> None:
    web.cookies.set("arqestra-flash", "WyJwd25lZCIsIFtdLCAwXQ==.0000")
    assert "pwned" not in (await web.get("/")).text
    web.cookies.clear()
    await web.act("queues/pause", name=EVIL)
    page = (await web.get("/")).text
    assert "is paused" in page
    assert EVIL not in page, "it is escaped"


async def test_a_body_that_is_too_long_is_refused(web: Client) -> None:
    answer = await web.post("/api/actions/queues/pause", json={"name": "x" * 2_000_000})
    assert answer.status_code == 413

    async def pieces() -> AsyncIterator[bytes]:  # without a length
        for _ in range(40):
            yield b" " * 65_536

    json_type = {"Content-Type": "application/json"}
    with pytest.raises(ClientDisconnect):
        await web.post("/api/actions/queues/pause", content=pieces(), headers=json_type)


async def test_basic(redis_url: str) -> None:
    app = create_app(redis_url, auth=BasicAuth({"vera": ("correct horse", "viewer"), "otto": ("battery!", "operator")}))
    async with client_of(app) as client:
        assert (await client.get("/")).headers["www-authenticate"].startswith("Basic")
        for name, password in (("vera", "wrong"), ("nobody", "correct horse"), ("vera", ""), ("", "")):
            assert (await client.get("/", auth=(name, password))).status_code == 401
        assert (await client.get("/", headers={"Authorization": "Basic !!!"})).status_code == 401
        assert (await client.get("/", auth=("vera", "correct horse"))).status_code == 200
        body = {"name": "arq:queue"}
        assert (
            await client.post("/api/actions/queues/pause", json=body, auth=("vera", "correct horse"))
        ).status_code == 403
        assert (await client.post("/api/actions/queues/pause", json=body, auth=("otto", "battery!"))).status_code == 200


async def test_tokens_and_the_login_page(guarded_app: Starlette) -> None:
    async with client_of(guarded_app) as client:
        assert (await client.post("/login", data={"token": "a-token-of-nobody"})).status_code == 401
        assert (
            await client.post("/login", data={"token": VIEWER}, headers={"Sec-Fetch-Site": "cross-site"})
        ).status_code == 403
        sent = await client.get("/job?id=a%26b")
        answer = await client.post(sent.headers["location"], data={"token": OPERATOR})
        assert (answer.status_code, answer.headers["location"]) == (303, "/job?id=a%26b"), "back to where one was"
        cookie = client.cookies["arqestra-session"]
        assert OPERATOR not in cookie
        page = await client.get("/queues")
        assert page.status_code == 200
        assert "otto" in page.text
        name, _, signature = cookie.partition(".")
        for forged in (f"{name}.{'0' * 64}", f"{name}x.{signature}", "x", ""):
            client.cookies.clear()
            client.cookies.set("arqestra-session", forged)
            assert (await client.get("/queues")).status_code == 303, forged


async def test_a_callable_of_yours(redis_url: str) -> None:
    async def identify(request: object) -> Identity | None:
        name = request.headers.get("x-user")  # type: ignore[attr-defined]
        return Identity(name, "operator") if name else None

    async with client_of(create_app(redis_url, auth=identify)) as client:
        assert (await client.get("/")).status_code == 401
        assert (await client.get("/", headers={"X-User": "ann"})).status_code == 200


async def test_read_only(redis_url: str) -> None:
    async with client_of(create_app(redis_url, read_only=True)) as client:
        answer = await client.post("/api/actions/queues/pause", json={"name": "arq:queue"})
        assert answer.status_code == 403


@pytest.mark.parametrize("make", [lambda: BasicAuth({}), lambda: TokenAuth({"short": ("ann", "viewer")})])
def test_what_protects_nothing_is_refused(make: object) -> None:
    with pytest.raises(SettingsError):
        make()  # type: ignore[operator]
    with pytest.raises(SettingsError, match="viewer or operator"):
        BasicAuth({"ann": ("long enough", "admin")})  # type: ignore[dict-item]
    with pytest.raises(SettingsError, match="at least 16 characters"):
        create_app(secret="guessed")


async def test_a_failure_of_ours_is_as_protected_as_any_answer(app: Starlette, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(*_: object) -> None:
        raise RuntimeError("a secret")

    monkeypatch.setattr(Dashboard, "read", fail)
    async with client_of(app) as client:
        transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url=str(client.base_url)) as other:
            for path in ("/queues", "/api/queues"):
                answer = await other.get(path)
                assert answer.status_code == 500
                assert "a secret" not in answer.text
                assert answer.headers["x-frame-options"] == "DENY"
                assert answer.headers["cache-control"] == "no-store"
                assert "default-src 'none'" in answer.headers["content-security-policy"]


async def test_a_cookie_does_not_outlive_its_token(redis_url: str) -> None:
    secret = "the same in each process"
    cookie = Sessions(secret).cookie_of(Identity("otto", "operator"))
    for tokens, status in (
        ({OPERATOR: ("otto", "operator")}, 200),
        ({OPERATOR: ("otto", "viewer")}, 401),
        ({VIEWER: ("vera", "viewer")}, 401),
    ):
        app = create_app(redis_url, auth=TokenAuth(tokens), secret=secret)  # type: ignore[arg-type] # roles are literals
        async with client_of(app, cookies={"arqestra-session": cookie}) as client:
            assert (await client.get("/api/queues")).status_code == status, tokens


async def test_names_of_hosts_are_told_apart_without_case(redis_url: str) -> None:
    async with client_of(create_app(redis_url, hosts=["Jobs.Example"])) as client:
        for name, status in (("Jobs.Example", 200), ("jobs.example:81", 200), ("evil.example", 421)):
            assert (await client.get("/api/queues", headers={"Host": name})).status_code == status
