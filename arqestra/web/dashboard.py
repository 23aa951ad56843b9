"""What all handlers of one dashboard share, and the check that each request passes: who asks, and may they do this."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from arq.jobs import ResultNotFound
from redis.exceptions import RedisError, ResponseError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from ..errors import ArqestraError
from .actions import Action
from .app_state import AppState
from .audit import AuditEntry, add_entry
from .auth import Auth, Identity, Role, Sessions, TokenAuth
from .catalogue import View
from .live import Hub
from .targets import Done, names_of
from .views.overview import read_live

__all__ = ("SESSION_COOKIE", "Dashboard", "Handler", "NotThere", "Unusable", "cookie_path", "guarded")

logger = logging.getLogger("arq.dashboard")

MAX_READ_S = 15.0
SESSION_COOKIE = "arqestra-session"
Handler = Callable[[Request], Awaitable[Response]]


class NotThere(Exception):
    """The request asks for something that does not exist."""


class Unusable(Exception):
    """The query or the body of a request does not fit."""


class Dashboard:
    """One dashboard.

    :param app_state: the connection and the caches of its pages
    :param auth: who may ask
    :param sessions: signs cookies and form tokens
    :param read_only: nobody may act
    """

    def __init__(self, app_state: AppState, auth: Auth, sessions: Sessions, *, title: str, read_only: bool) -> None:
        self.app_state = app_state
        self.auth = auth
        self.sessions = sessions
        self.title = title
        self.read_only = read_only
        self.hub = Hub(self._live)

    async def _live(self) -> bytes:
        return msgspec.json.encode(await read_live(self.app_state))

    async def who(self, request: Request) -> Identity | None:
        """Who asks; None if that is not known."""
        identity = await self.auth.identify(request)
        if identity is None and self.auth.has_login:
            identity = self.sessions.identity_of(request.cookies.get(SESSION_COOKIE, ""))
            if identity is not None and isinstance(self.auth, TokenAuth) and not self.auth.knows(identity):
                return None
        if identity is not None and self.read_only:
            return identity._replace(role="viewer")
        return identity

    async def read(self, view: View, given: dict[str, Any]) -> Any:
        """What a view shows, at most a second old.

        :raises Unusable: the query does not fit
        :raises NotThere: there is no such thing to show
        """
        query = converted(given, view.query)
        found = await self.app_state.cache.get((view.name, query), lambda: view.read(self.app_state, query))
        if found is None:
            raise NotThere(f"there is no such {view.name}; it may not be kept any more")
        return found

    async def act(self, request: Request, action: Action, target: Any) -> Done:
        """Run an action, and write to the audit log who ran it and what came of it."""
        identity: Identity = request.state.identity
        outcome = Done(0, 0, "it did not end")
        try:
            outcome = await action.run(self.app_state, target)
        except (ArqestraError, ResultNotFound) as error:
            outcome = Done(0, 1, str(error), [str(error)])
        except Exception as error:
            outcome = Done(0, 0, f"{type(error).__name__}: {error}")
            raise
        finally:
            self.app_state.cache.forget()
            chosen = getattr(target, "filter", None)
            entry = AuditEntry(
                at_ms=self.app_state.now_ms(),
                who=identity.name,
                role=identity.role,
                address=_address(request),
                action=action.name,
                targets=names_of(target),
                filter="" if chosen is None else msgspec.json.encode(chosen).decode(),
                done=outcome.done,
                failed=outcome.failed,
                outcome=outcome.message,
            )
            line = " ".join(outcome.message.split())  # a name in it must not add a line to the log
            logger.info("%s (%s) %s: %s", identity.name, entry.address, action.name, line)
            await add_entry(self.app_state, entry)
        return outcome


def converted(given: Any, wanted: type[Any]) -> Any:
    """A query or a body, converted to its type.

    :raises Unusable: it does not fit
    """
    try:
        return msgspec.convert(given, wanted, strict=False)
    except msgspec.ValidationError as error:
        raise Unusable(str(error)) from None


def guarded(dashboard: Dashboard, needs: Role, handler: Handler, denied: Callable[[Request], Response]) -> Handler:
    """A handler behind the check of who asks. It also turns errors into answers.

    :param needs: the role that the handler is for
    :param denied: the answer to somebody unknown
    """

    async def endpoint(request: Request) -> Response:
        identity = await dashboard.who(request)
        if identity is None:
            return denied(request)
        if needs == "operator" and identity.role != "operator":
            raise HTTPException(403, f"{identity.name} is a viewer here: only operators may do this")
        request.state.identity = identity
        try:
            # A page that hangs in Redis is given up. An action goes on: its outcome must be known.
            async with asyncio.timeout(MAX_READ_S if request.method in ("GET", "HEAD") else None):
                await dashboard.app_state.open()
                return await handler(request)
        except ResponseError as error:  # the key of that name is no queue
            raise HTTPException(422, f"Redis refused: {error}") from None
        except (RedisError, ConnectionError, TimeoutError) as error:
            logger.warning("dashboard: Redis: %s: %s", type(error).__name__, error)
            raise HTTPException(503, "Redis does not answer") from None
        except NotThere as error:
            raise HTTPException(404, str(error)) from None
        except Unusable as error:
            raise HTTPException(422, str(error)) from None

    return endpoint


def cookie_path(request: Request) -> str:
    """The dashboard's root: its cookies are for no other path."""
    return request.scope.get("root_path", "") or "/"


def _address(request: Request) -> str:
    return request.client.host if request.client is not None else ""
