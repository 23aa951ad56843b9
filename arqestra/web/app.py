"""`create_app`: the dashboard as a Starlette application, with its routes in one table."""

import contextlib
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from arq.connections import RedisSettings
from redis.exceptions import RedisError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Mount, Route

from ..client.pool import Pool
from .api import Api, json_problem
from .app_state import AppState
from .assets import Assets
from .auth import Auth, Identify, Role, Sessions, checked_auth
from .catalogue import VIEWS
from .dashboard import Dashboard, Handler, guarded
from .monitoring import health_handler, metrics_handler
from .pages import Pages
from .security import LOOPBACK_HOSTS, Security, protection

__all__ = ("create_app",)


def create_app(
    source: Pool | RedisSettings | str | None = None,
    *,
    auth: Auth | Identify | None = None,
    functions: Iterable[Any] = (),
    hosts: Sequence[str] | None = None,
    title: str = "arqestra",
    read_only: bool = False,
    secret: str = "",
    key_prefix: str | None = None,
) -> Starlette:
    """The dashboard, to be served by itself or mounted below a path of another application.

    :param source: a `Pool`, whose Redis is used, or `RedisSettings` or a URL; None for localhost
    :param auth: `BasicAuth`, `TokenAuth`, or a callable from the request to an `Identity` or None. None: everybody who
        can connect is an operator
    :param functions: job functions, whose signatures say which arguments are masked; without them only names of keyword
        arguments and of fields do
    :param hosts: names under which it may be asked for; None: those of loopback if there is no `auth`, else any
    :param title: of its pages
    :param read_only: nobody may act
    :param secret: signs cookies and forms; of several processes of one dashboard the same. Default a new one
    :param key_prefix: of the application whose jobs it shows, see `create_pool`; default the pool's
    :raises SettingsError: a value that is impossible
    """
    app_state = AppState(source, functions, key_prefix)
    dashboard = Dashboard(app_state, checked_auth(auth), Sessions(secret), title=title, read_only=read_only)
    allowed = hosts if hosts is not None else () if auth is not None else LOOPBACK_HOSTS

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        with contextlib.suppress(RedisError, OSError):  # pages say so, and try again
            await app_state.open()
        yield
        await dashboard.hub.close()
        await app_state.close()

    pages = Pages(dashboard)
    app = Starlette(
        routes=_routes(dashboard, pages, Api(dashboard)),
        middleware=[Middleware(Security, hosts=allowed)],
        exception_handlers={HTTPException: _problems(pages), Exception: _failure(_problems(pages))},
        lifespan=lifespan,
    )
    app.state.end_streams = dashboard.hub.close
    return app


def _routes(dashboard: Dashboard, pages: Pages, api: Api) -> list[Route | Mount]:
    def html(path: str, handler: Handler, needs: Role = "viewer", method: str = "GET") -> Route:
        return Route(path, guarded(dashboard, needs, handler, pages.denied), methods=[method])

    def data(path: str, handler: Handler, needs: Role = "viewer", method: str = "GET") -> Route:
        return Route(path, guarded(dashboard, needs, handler, _json_denied(dashboard)), methods=[method])

    async def live(request: Request) -> Response:
        return StreamingResponse(dashboard.hub.follow(), media_type="text/event-stream")

    return [
        *(html(view.path, pages.page(view)) for view in VIEWS if view.template),
        html("/confirm", pages.confirm, "operator"),
        html("/actions/{action:path}", pages.act, "operator", "POST"),
        *(data(f"/api/{view.name}", api.view(view)) for view in VIEWS),
        data("/api/openapi.json", api.describe),
        data("/api/matching", api.matching, "operator", "POST"),
        data("/api/actions/{action:path}", api.act, "operator", "POST"),
        data("/live", live),
        data("/metrics", metrics_handler(dashboard.app_state)),
        Route("/login", pages.login, methods=["GET", "POST"]),
        Route("/logout", pages.logout, methods=["POST"]),
        Route("/healthz", health_handler(dashboard.app_state)),
        Mount("/static/{version}", Assets()),
    ]


def _json_denied(dashboard: Dashboard) -> Callable[[Request], Response]:
    def denied(request: Request) -> Response:
        challenge = dashboard.auth.challenge
        return json_problem(401, "say who you are", {"www-authenticate": challenge} if challenge else None)

    return denied


def _problems(pages: Pages) -> Callable[[Request, Exception], Response]:
    def handler(request: Request, error: Exception) -> Response:
        status = error.status_code if isinstance(error, HTTPException) else 500
        text = str(error.detail) if isinstance(error, HTTPException) else "Something went wrong; the log says what."
        headers = dict(error.headers or {}) if isinstance(error, HTTPException) else {}
        below = request.scope["path"].removeprefix(request.scope.get("root_path", ""))
        if below.startswith(("/api/", "/live", "/metrics")):
            return json_problem(status, text, headers)
        return pages.problem(request, status, text, headers)

    return handler


def _failure(problem: Callable[[Request, Exception], Response]) -> Callable[[Request, Exception], Response]:
    """The answer to an error in our code. Starlette sends it past all middleware, so we add the security headers."""

    def handler(request: Request, error: Exception) -> Response:
        answer = problem(request, error)
        answer.headers.update(protection(request.state.nonce))
        return answer

    return handler
