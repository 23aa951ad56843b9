"""The pages: one handler for all views, the confirmation before an action, the forms that act, and the login."""

import base64
import hmac
import json
import secrets
from typing import Any

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from .actions import ACTIONS, Action
from .assets import asset_version
from .auth import Identity
from .catalogue import VIEWS, View
from .dashboard import SESSION_COOKIE, Dashboard, Handler, Unusable, converted, cookie_path
from .links import link
from .rendering import environment
from .targets import MAX_JOBS, Done, JobsTarget, chosen_jobs, names_of
from .views.job_query import JobRef

__all__ = ("Pages",)

VISIT_COOKIE, FLASH_COOKIE = "arqestra-visit", "arqestra-flash"
FRAGMENT_HEADER = "x-arqestra-fragment"
SAMPLE = 10
MAX_FLASH_BYTES = 3_500  # browsers silently drop a cookie of more than 4,096 bytes
NAVIGATION = tuple((view.section, view.path, view.title) for view in VIEWS if view.section == view.name)


class Pages:
    """The handlers that answer with HTML.

    :param dashboard: reads and acts for them
    """

    def __init__(self, dashboard: Dashboard) -> None:
        self._dashboard = dashboard
        self._templates = environment()

    def page(self, view: View) -> Handler:
        """The handler of a view. A script of the page may ask for only the part that changes."""

        async def handler(request: Request) -> Response:
            given = _given(request)
            value = await self._dashboard.read(view, given)
            if view.name == "search" and (away := _exact_hit(value)) is not None:
                return RedirectResponse(_url(request, away), 303)
            return self.render(request, view.template, title=view.title, section=view.section, value=value)

        return handler

    async def confirm(self, request: Request) -> Response:
        """The page that asks before an action: it shows what the action would change."""
        action = self._action(request.query_params.get("action", ""))
        target = converted(_target_of(request.query_params.multi_items(), action), action.target)
        jobs: list[JobRef] = []
        more = False
        if isinstance(target, JobsTarget):
            jobs, more = await chosen_jobs(self._dashboard.app_state, target)
        return self.render(
            request,
            "confirm.html",
            title=action.label,
            section="",
            action=action,
            fields=[
                (name, text) for name, text in request.query_params.multi_items() if name not in ("action", "next")
            ],
            jobs=jobs[:SAMPLE],
            count=len(jobs) if isinstance(target, JobsTarget) else 1,
            by_job=isinstance(target, JobsTarget),
            targets=names_of(target),
            most=MAX_JOBS if more else None,
            next=_local(request.query_params.get("next", "/")),
        )

    async def act(self, request: Request) -> Response:
        """Does what a form asks for, and goes back to its page."""
        form = await request.form()
        fields = [(name, text) for name, text in form.multi_items() if isinstance(text, str)]
        self._check_token(request, dict(fields).get("csrf", ""))
        action = self._action(request.path_params["action"])
        target = converted(_target_of(fields, action), action.target)
        done = await self._dashboard.act(request, action, target)
        answer = RedirectResponse(_url(request, _local(dict(fields).get("next", "/"))), 303)
        self._set_flash(request, answer, done)
        return answer

    async def login(self, request: Request) -> Response:
        """The page that takes a token."""
        auth = self._dashboard.auth
        if not auth.has_login:
            raise HTTPException(404, "there is nothing to log in to here")
        if request.method == "GET":
            return self._login_page(request, "")
        form = await request.form()
        identity = auth.of_token(str(form.get("token", "")).strip())
        if identity is None:
            return self._login_page(request, "That token is not known.", 401)
        answer = RedirectResponse(_url(request, _local(request.query_params.get("next", "/"))), 303)
        self._set_cookie(request, answer, SESSION_COOKIE, self._dashboard.sessions.cookie_of(identity))
        return answer

    async def logout(self, request: Request) -> Response:
        """Ends the session."""
        answer = RedirectResponse(_url(request, "/login"), 303)
        answer.delete_cookie(SESSION_COOKIE, path=cookie_path(request))
        return answer

    def _login_page(self, request: Request, problem: str, status: int = 200) -> Response:
        template = self._templates.get_template("login.html")
        text = template.render(self._common(request), title="Log in", section="", problem=problem)
        return HTMLResponse(text, status)

    def denied(self, request: Request) -> Response:
        """The answer to somebody who is not known."""
        auth = self._dashboard.auth
        if auth.has_login and request.method == "GET":
            query = f"?{request.url.query}" if request.url.query else ""
            return RedirectResponse(_url(request, link("/login", next=f"{_path_of(request)}{query}")), 303)
        return self.problem(request, 401, "Say who you are.", headers=_challenge(auth.challenge))

    def problem(self, request: Request, status: int, text: str, headers: dict[str, str] | None = None) -> Response:
        """A page that says what is wrong."""
        template = self._templates.get_template("problem.html")
        common = self._common(request)
        return HTMLResponse(template.render(common, title=str(status), section="", text=text), status, headers)

    def render(self, request: Request, template: str, **values: Any) -> Response:
        """A page, or only the part of it that changes if a script asks for that."""
        visit = request.cookies.get(VISIT_COOKIE) or secrets.token_urlsafe(24)
        identity: Identity = request.state.identity
        flash = self._flash(request)
        common = self._common(request) | {
            "csrf": self._dashboard.sessions.form_token(visit, identity),
            "flash": flash,
            **values,
        }
        fragment = request.headers.get(FRAGMENT_HEADER) == "1"
        found = self._templates.get_template(template)
        if fragment:
            return HTMLResponse(found.render(common, fragment=True))
        answer = HTMLResponse(found.render(common))
        if VISIT_COOKIE not in request.cookies:
            self._set_cookie(request, answer, VISIT_COOKIE, visit)
        if flash is not None:
            answer.delete_cookie(FLASH_COOKIE, path=cookie_path(request))
        return answer

    def _common(self, request: Request) -> dict[str, Any]:
        identity: Identity | None = getattr(request.state, "identity", None)
        query = f"?{request.url.query}" if request.url.query else ""
        return {
            "url": lambda path: _url(request, path),
            "asset": lambda name: _url(request, f"/static/{asset_version()}/{name}"),
            "nonce": request.state.nonce,
            "identity": identity,
            "may_act": identity is not None and identity.role == "operator",
            "name": self._dashboard.title,
            "navigation": NAVIGATION,
            "here": f"{_path_of(request)}{query}",
            "actions": ACTIONS,
            "csrf": "",
            "flash": None,
            "fragment": False,
            "has_login": self._dashboard.auth.has_login,
        }

    def _action(self, name: str) -> Action:
        if name not in ACTIONS:
            raise HTTPException(404, "there is no such action")
        return ACTIONS[name]

    def _check_token(self, request: Request, token: str) -> None:
        visit = request.cookies.get(VISIT_COOKIE, "")
        if not self._dashboard.sessions.is_form_token(token, visit, request.state.identity):
            raise HTTPException(403, "This form is not from this visit: open the page again, and send it anew.")

    def _set_cookie(self, request: Request, answer: Response, name: str, value: str) -> None:
        secure = request.url.scheme == "https"
        answer.set_cookie(name, value, path=cookie_path(request), httponly=True, samesite="lax", secure=secure)

    def _set_flash(self, request: Request, answer: Response, done: Done) -> None:
        problems = [problem[:300] for problem in done.problems[:5]]
        encoded = _encoded([done.message[:500], problems, done.failed])
        while len(encoded) > MAX_FLASH_BYTES and problems:
            problems.pop()
            encoded = _encoded([done.message[:500], problems, done.failed])
        self._set_cookie(request, answer, FLASH_COOKIE, f"{encoded}.{self._dashboard.sessions.sign_flash(encoded)}")

    def _flash(self, request: Request) -> list[Any] | None:
        """The outcome of the last action, from its cookie. Only an outcome that we signed is shown."""
        encoded, _, signature = request.cookies.get(FLASH_COOKIE, "").partition(".")
        if not encoded or not hmac.compare_digest(
            self._dashboard.sessions.sign_flash(encoded).encode(), signature.encode()
        ):
            return None
        found: list[Any] = json.loads(base64.urlsafe_b64decode(encoded))
        return found


def _encoded(value: list[Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(value, ensure_ascii=False).encode(errors="replace")).decode()


def _given(request: Request) -> dict[str, Any]:
    """The query without the fields that a form left empty."""
    return {name: text for name, text in request.query_params.items() if text != ""}


def _target_of(fields: list[tuple[str, str]], action: Action) -> dict[str, Any]:
    """The target that a form's fields name: `job` and `filter` are JSON."""
    known = action.target.__struct_fields__  # a form also has its token and the page to go back to
    given: dict[str, Any] = {name: text for name, text in fields if name in known and (text or name == "timezone")}
    if action.target is JobsTarget:
        try:
            given["jobs"] = [msgspec.json.decode(text) for name, text in fields if name == "job"]
            if "filter" in given:
                given["filter"] = msgspec.json.decode(given["filter"])
        except msgspec.DecodeError as error:
            raise Unusable(f"job, filter: expected JSON: {error}") from None
        if not given["jobs"] and "filter" not in given:
            raise Unusable("expected jobs, or a filter that chooses some: select at least one")
    return given


def _exact_hit(value: Any) -> str | None:
    """The address of the hit, if exactly one has the very name that was searched for."""
    exact = [hit for hit in value.hits if hit.exact]
    return exact[0].href if len(exact) == 1 else None


def _local(path: str) -> str:
    """The path to go back to. Anything but a path of ours becomes the overview."""
    if not path.startswith("/") or path.startswith("//") or "\\" in path or any(char < " " for char in path):
        return "/"
    return path


def _url(request: Request, path: str) -> str:
    return f"{request.scope.get('root_path', '')}{path}"


def _path_of(request: Request) -> str:
    """The path of a request below the dashboard's root."""
    path = request.scope["path"]
    root = request.scope.get("root_path", "")
    below = path.removeprefix(root) if root and path.startswith(root) else path
    return below or "/"


def _challenge(challenge: str) -> dict[str, str]:
    return {"www-authenticate": challenge} if challenge else {}
