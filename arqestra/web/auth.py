"""Who may see the dashboard, and who may act: a viewer reads, an operator also acts.

There are three ways to log in: names and passwords (HTTP Basic), tokens (a bearer header, or pasted into the login
page), or a callable of yours, for a dashboard that is mounted in an application with its own users.
"""

import base64
import binascii
import hashlib
import hmac
import inspect
import json
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Literal, NamedTuple, Protocol, runtime_checkable

from starlette.requests import Request

from ..errors import SettingsError

__all__ = (
    "Auth",
    "BasicAuth",
    "CallableAuth",
    "Identify",
    "Identity",
    "OpenAuth",
    "Role",
    "Sessions",
    "TokenAuth",
    "checked_auth",
)

Role = Literal["viewer", "operator"]
ROLES: tuple[Role, ...] = ("viewer", "operator")
SESSION_S = 12 * 3600
MIN_TOKEN_CHARACTERS = 16


class Identity(NamedTuple):
    """Who asks.

    :ivar name: as the audit log has it
    :ivar role: "viewer" or "operator"
    """

    name: str
    role: Role


# A callable from the request to who asks, or None for nobody; it may be async.
Identify = Callable[[Request], Identity | Awaitable[Identity | None] | None]


@runtime_checkable
class Auth(Protocol):
    """A way to find out who asks.

    :ivar challenge: value of the header WWW-Authenticate; "" for none
    :ivar has_login: the login page takes a token
    """

    challenge: str
    has_login: bool

    async def identify(self, request: Request) -> Identity | None:
        """Who asks; None if nobody is logged in."""

    def of_token(self, token: str) -> Identity | None:
        """Whose token it is that was pasted into the login page."""


class OpenAuth:
    """Everybody is an operator: for a dashboard that listens on loopback alone."""

    challenge, has_login = "", False

    async def identify(self, request: Request) -> Identity | None:
        return Identity("local", "operator")

    def of_token(self, token: str) -> Identity | None:
        return None


class BasicAuth:
    """HTTP Basic.

    :param users: name -> (password, role)
    """

    challenge, has_login = 'Basic realm="arqestra", charset="UTF-8"', False

    def __init__(self, users: Mapping[str, tuple[str, Role]]) -> None:
        if not users:
            raise SettingsError("dashboard: users: expected at least one, got none")
        self._users = {
            name: (_checked_secret(password, f"password of {name}", 8), _checked_role(role, name))
            for name, (password, role) in users.items()
        }

    async def identify(self, request: Request) -> Identity | None:
        scheme, _, encoded = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "basic":
            return None
        try:
            name, found, password = base64.b64decode(encoded, validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            return None
        # Compare a password for an unknown name too: the time of the answer must not reveal which names exist.
        known, role = self._users.get(name, (secrets.token_hex(16), "viewer"))
        right = hmac.compare_digest(known.encode(), password.encode())
        return Identity(name, role) if found and right and name in self._users else None

    def of_token(self, token: str) -> Identity | None:
        return None


class TokenAuth:
    """Bearer tokens, which the login page takes as well.

    :param tokens: token -> (name, role); tokens of at least 16 characters
    """

    challenge, has_login = "Bearer", True

    def __init__(self, tokens: Mapping[str, tuple[str, Role]]) -> None:
        if not tokens:
            raise SettingsError("dashboard: tokens: expected at least one, got none")
        self._tokens = {
            _digest(_checked_secret(token, f"token of {name}", MIN_TOKEN_CHARACTERS)): Identity(
                name, _checked_role(role, name)
            )
            for token, (name, role) in tokens.items()
        }

    def knows(self, identity: Identity) -> bool:
        """Whether this person still has a token with this role: a cookie may outlive its token."""
        return identity in self._tokens.values()

    async def identify(self, request: Request) -> Identity | None:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        return self.of_token(token.strip()) if scheme.lower() == "bearer" else None

    def of_token(self, token: str) -> Identity | None:
        return self._tokens.get(_digest(token))  # looked up by digest: the time of the answer reveals nothing


class CallableAuth:
    """Your own way: a function or an async function from the request to an `Identity`, or None for nobody.

    :param identify: called for each request
    """

    challenge, has_login = "", False

    def __init__(self, identify: Identify) -> None:
        if not callable(identify):
            raise SettingsError(f"dashboard: auth: expected a callable, got {identify!r}")
        self._identify = identify

    async def identify(self, request: Request) -> Identity | None:
        found = self._identify(request)
        identity = await found if inspect.isawaitable(found) else found
        if identity is None:
            return None
        if not isinstance(identity, Identity):
            raise SettingsError(f"dashboard: auth: expected an Identity or None, got {type(identity).__name__}")
        _checked_role(identity.role, identity.name)
        return identity

    def of_token(self, token: str) -> Identity | None:
        return None


class Sessions:
    """Signed cookies that say who logged in, and tokens that forms carry.

    :param secret: the same in all processes of one dashboard; at least 16 characters
    """

    def __init__(self, secret: str = "") -> None:
        if secret:
            _checked_secret(secret, "secret", MIN_TOKEN_CHARACTERS)  # who guesses it can forge cookies
        self._secret = (secret or secrets.token_hex(32)).encode()

    def cookie_of(self, identity: Identity) -> str:
        """The value of a cookie that says who logged in."""
        data = json.dumps([identity.name, identity.role, int(time.time()) + SESSION_S]).encode()
        encoded = base64.urlsafe_b64encode(data).decode()
        return f"{encoded}.{self._sign('session', encoded)}"

    def identity_of(self, cookie: str) -> Identity | None:
        """Who logged in; None if the cookie has no valid signature or is too old."""
        encoded, _, signature = cookie.partition(".")
        if not hmac.compare_digest(self._sign("session", encoded).encode(), signature.encode()):
            return None
        name, role, until_s = json.loads(base64.urlsafe_b64decode(encoded))
        return Identity(name, role) if until_s > time.time() else None

    def form_token(self, visit: str, identity: Identity) -> str:
        """The token in a form: for this visit and this person."""
        return self._sign("form", f"{visit}|{identity.name}")

    def is_form_token(self, token: str, visit: str, identity: Identity) -> bool:
        """Whether a form carries the token of this visit and this person."""
        return bool(visit) and hmac.compare_digest(self.form_token(visit, identity).encode(), token.encode())

    def sign_flash(self, text: str) -> str:
        """The signature of the outcome that the next page shows."""
        return self._sign("flash", text)

    def _sign(self, what: str, text: str) -> str:
        return hmac.new(self._secret, f"{what}|{text}".encode(), hashlib.sha256).hexdigest()


def checked_auth(auth: Auth | Identify | None) -> Auth:
    """The way to log in that was given; `OpenAuth` for None.

    :raises SettingsError: it is neither an `Auth` nor a callable
    """
    if auth is None:
        return OpenAuth()
    if isinstance(auth, Auth):
        return auth
    return CallableAuth(auth)


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


def _checked_role(role: str, name: str) -> Role:
    for known in ROLES:
        if role == known:
            return known
    raise SettingsError(f"dashboard: role of {name}: expected viewer or operator, got {role!r}")


def _checked_secret(secret: str, what: str, least: int) -> str:
    if len(secret) < least:
        raise SettingsError(f"dashboard: {what}: expected at least {least} characters, got {len(secret)}")
    return secret
