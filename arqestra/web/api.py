"""The API: every view and every action as JSON. `/api/openapi.json` describes it."""

from typing import Any

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from .actions import ACTIONS
from .catalogue import View
from .dashboard import Dashboard, Handler, Unusable, converted
from .openapi import MatchingAnswer, document
from .targets import JobsTarget, chosen_jobs

__all__ = ("Api", "json_problem")


class Api:
    """The handlers that answer with JSON.

    :param dashboard: reads and acts for them
    """

    def __init__(self, dashboard: Dashboard) -> None:
        self._dashboard = dashboard

    def view(self, view: View) -> Handler:
        """The handler of a view."""

        async def handler(request: Request) -> Response:
            return _json(await self._dashboard.read(view, dict(request.query_params)))

        return handler

    async def matching(self, request: Request) -> Response:
        """How many jobs an action would change."""
        target = await self._body(request, JobsTarget)
        jobs, more = await chosen_jobs(self._dashboard.app_state, target)
        return _json(MatchingAnswer(len(jobs), more, jobs[:100]))

    async def act(self, request: Request) -> Response:
        """Do an action."""
        action = ACTIONS.get(request.path_params["action"])
        if action is None:
            raise HTTPException(404, "there is no such action")
        target = await self._body(request, action.target)
        if isinstance(target, JobsTarget) and not target.jobs and target.filter is None:
            raise Unusable("expected jobs, or a filter that chooses some")
        return _json(await self._dashboard.act(request, action, target))

    async def describe(self, request: Request) -> Response:
        """The OpenAPI document."""
        return _json(document(request.scope.get("root_path", ""), self._dashboard.auth.challenge))

    async def _body(self, request: Request, wanted: type[Any]) -> Any:
        """A JSON body. A form on another site cannot send this content type: browsers ask us for permission first."""
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json":
            raise HTTPException(415, f"expected application/json, got {kind or 'no type'}")
        try:
            given = msgspec.json.decode(await request.body())
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise Unusable(f"expected JSON: {error}") from None
        return converted(given, wanted)


def json_problem(status: int, text: str, headers: dict[str, str] | None = None) -> Response:
    """An answer that says what is wrong."""
    return _json({"error": text}, status, headers)


def _json(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(msgspec.json.encode(value), status, headers, media_type="application/json")
