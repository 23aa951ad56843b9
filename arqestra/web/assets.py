"""The scripts, styles and icons. Their addresses change when the files change, so browsers may keep them for ever."""

import hashlib
import mimetypes
from functools import cache
from importlib.resources import files

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse, Response
from starlette.types import Receive, Scope, Send

__all__ = ("Assets", "asset_version")

FOLDER = files(__package__).joinpath("static")
_TYPES = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}


class Assets:
    """An application that serves the files below `static/`. It finds them in a table: no path leads elsewhere."""

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
def asset_version() -> str:
    """Changes when one of the files changes. It is a part of their addresses."""
    digest = hashlib.sha256()
    for path in sorted(FOLDER.rglob("*"), key=str):  # type: ignore[attr-defined] # a real folder: the package is not zipped
        if path.is_file():
            digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


@cache
def _files() -> dict[str, bytes]:
    """The content of all files, by their paths."""
    found: dict[str, bytes] = {}
    folders = [(FOLDER, "")]
    while folders:
        folder, prefix = folders.pop()
        for entry in folder.iterdir():
            if entry.is_dir():
                folders.append((entry, f"{prefix}{entry.name}/"))
            else:
                found[f"{prefix}{entry.name}"] = entry.read_bytes()
    return found
