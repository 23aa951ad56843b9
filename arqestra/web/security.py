"""The headers of every answer, and the checks that every request must pass.

- The host is one of ours. A page under another name that leads to this address (DNS rebinding) is refused.
- A request that changes something comes from our own pages. Browsers say where it comes from (Sec-Fetch-Site, Origin).
- Scripts and styles come from us, and inline ones have the nonce of this answer. No other site may frame the pages.
"""

import secrets
from collections.abc import Sequence
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ("LOOPBACK_HOSTS", "Security", "protection")

LOOPBACK_HOSTS = ("localhost", "127.0.0.1", "::1")
SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
MAX_BODY_BYTES = 1024 * 1024
_FIXED = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
}


class Security:
    """The middleware.

    :param hosts: names under which the dashboard answers; () for any
    """

    def __init__(self, app: ASGIApp, hosts: Sequence[str] = ()) -> None:
        self._app = app
        self._hosts = frozenset(host.lower() for host in hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        nonce = secrets.token_urlsafe(16)
        scope.setdefault("state", {})["nonce"] = nonce

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                answer = MutableHeaders(scope=message)
                for name, value in protection(nonce).items():
                    answer.setdefault(name, value)
            await send(message)

        refusal = self._refusal(scope["method"], headers)
        if refusal is not None:
            status, text = refusal
            await PlainTextResponse(text, status)(scope, receive, send_with_headers)
            return
        await self._app(scope, _bounded(receive), send_with_headers)

    def _refusal(self, method: str, headers: Headers) -> tuple[int, str] | None:
        host = headers.get("host", "")
        if self._hosts and _host_name(host) not in self._hosts:
            return 421, "The dashboard is not served under this name; start it with --allow-host.\n"
        if method in SAFE_METHODS:
            return None
        if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
            return 403, "Refused: this request comes from another site.\n"
        origin = headers.get("origin")
        if origin is not None and _netloc(origin) != host.lower():
            return 403, "Refused: this request comes from another origin.\n"
        length = headers.get("content-length", "0")
        if not length.isdigit() or int(length) > MAX_BODY_BYTES:
            return 413, f"Expected at most {MAX_BODY_BYTES:,} bytes.\n"
        return None


def protection(nonce: str) -> dict[str, str]:
    """The headers of every answer. The answer to an error in our code passes no middleware: its handler adds them."""
    return {**_FIXED, "content-security-policy": policy(nonce), "cache-control": "no-store"}


def policy(nonce: str) -> str:
    """The content security policy of an answer."""
    return (
        f"default-src 'none'; script-src 'self' 'nonce-{nonce}'; style-src 'self' 'nonce-{nonce}'; "
        "img-src 'self' data:; connect-src 'self'; font-src 'self'; manifest-src 'self'; base-uri 'none'; "
        "form-action 'self'; frame-ancestors 'none'"
    )


def _host_name(host: str) -> str:
    """The name without the port: `::1` of `[::1]:8000`."""
    if any(char in host for char in "/?#@\\ "):
        return ""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:  # brackets without an IPv6 address
        return ""


def _netloc(origin: str) -> str:
    """Host and port of an origin; "" if it is malformed."""
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""


def _bounded(receive: Receive) -> Receive:
    """Cut off a body that is too long, also one without a length."""
    received = 0

    async def receive_bounded() -> Message:
        nonlocal received
        message = await receive()
        received += len(message.get("body", b""))
        if received > MAX_BODY_BYTES:
            return {"type": "http.disconnect"}
        return message

    return receive_bounded
