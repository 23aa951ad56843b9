"""Our scripts, styles and icons. Their addresses change when they do, so browsers keep them."""

import hashlib
import mimetypes
from functools import cache

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse, Response
from starlette.types import Receive, Scope, Send

from .rendering import ASSETS

__all__ = ("Assets",)

_TYPES = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}


class Assets:
    """An application that gives the files below `static/`, and nothing else: it looks names up in a list."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"].removeprefix(scope.get("root_path", "")).lstrip("/")
        data = _files().get(path)
        if scope["type"] != "http" or scope["method"] not in ("GET", "HEAD") or data is None:
            await PlainTextResponse("there is no such file\n", 404)(scope, receive, send)
            return
        suffix = path[path.rfind(".") :]
        kind = _TYPES.get(suffix) or mimetypes.guess_type(path)[0] or "text/plain"
        headers = {
            "cache-control": "public, max-age=31536000, immutable",
            "etag": f'"{hashlib.sha256(data).hexdigest()[:16]}"',
        }
        if Headers(scope=scope).get("if-none-match") == headers["etag"]:
            await Response(status_code=304, headers=headers)(scope, receive, send)
            return
        await Response(data, headers=headers, media_type=kind)(scope, receive, send)


@cache
def _files() -> dict[str, bytes]:
    """All files, by their paths."""
    found: dict[str, bytes] = {}
    folders = [(ASSETS, "")]
    while folders:
        folder, prefix = folders.pop()
        for entry in folder.iterdir():
            if entry.is_dir():
                folders.append((entry, f"{prefix}{entry.name}/"))
            else:
                found[f"{prefix}{entry.name}"] = entry.read_bytes()
    return found
