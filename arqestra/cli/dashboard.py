"""`arqestra dashboard`: serves the dashboard. On another address than loopback everybody has to log in."""

import importlib.util
import ipaddress
import logging
import os
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from arq.utils import import_string

from ..client.connect import settings_of
from ..errors import ArqestraError
from .shell import USAGE, KeyPrefix, RedisUrl, Stop, errors_as_exit_codes, quiet_logging, redis_url_of

if TYPE_CHECKING:
    from ..web.auth import Auth, Role

__all__ = ("add_dashboard",)

PACKAGES = ("starlette", "uvicorn", "jinja2", "python_multipart")
HOW_TO_LOG_IN = (
    "Say who may see it: --users FILE or --tokens FILE with lines name:role:secret (role viewer or operator), or "
    "--auth with the import string of a callable; or keep to loopback (--host 127.0.0.1) and reach it by ssh -L"
)


def add_dashboard(app: typer.Typer) -> None:
    """Add the command."""
    app.command(name="dashboard")(dashboard)


def dashboard(
    host: Annotated[str, typer.Option(help="address to listen on")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 for any that is free")] = 8190,
    redis_url: RedisUrl = None,
    key_prefix: KeyPrefix = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            envvar="ARQESTRA_SETTINGS",
            help="settings class of the workers, as worker.WorkerSettings: masks secret arguments by their parameters",
        ),
    ] = None,
    users: Annotated[
        Path | None, typer.Option(envvar="ARQESTRA_DASHBOARD_USERS", help="file of name:role:password lines")
    ] = None,
    tokens: Annotated[
        Path | None, typer.Option(envvar="ARQESTRA_DASHBOARD_TOKENS", help="file of name:role:token lines")
    ] = None,
    auth: Annotated[
        str | None, typer.Option(help="import string of a callable from the request to an Identity or None")
    ] = None,
    allow_host: Annotated[
        list[str] | None, typer.Option(help="name under which it may be asked for; default those of loopback, or any")
    ] = None,
    root_path: Annotated[str, typer.Option(help="path at which a proxy serves it, as /jobs")] = "",
    title: Annotated[str, typer.Option(help="of its pages")] = "arqestra",
    read_only: Annotated[bool, typer.Option("--read-only", help="nobody may act")] = False,
    secret: Annotated[
        str, typer.Option(envvar="ARQESTRA_DASHBOARD_SECRET", help="signs cookies; of several processes the same")
    ] = "",
) -> None:
    """Serve the dashboard. On another address than loopback it does not start without authentication.

    SIGTERM and Ctrl-C end it.
    """
    with errors_as_exit_codes(redis_url):
        missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
        if missing:
            raise Stop(f"the dashboard needs {', '.join(missing)}: pip install 'arqestra[web]'", USAGE)
        sys.path.insert(0, os.getcwd())
        quiet_logging()
        logging.getLogger("arq.dashboard").setLevel(logging.INFO)  # log who did what
        chosen = _auth_of(users, tokens, auth)
        if chosen is None and not _is_loopback(host):
            raise Stop(f"--host {host}: refused: everybody who can connect could delete jobs. {HOW_TO_LOG_IN}", USAGE)
        from ..web.app import create_app

        app = create_app(
            settings_of(redis_url_of(redis_url)),
            auth=chosen,
            functions=[function for each in settings or () for function in _functions_of(each)],
            hosts=allow_host,
            title=title,
            read_only=read_only,
            secret=secret,
            key_prefix=key_prefix,
        )
        listening = _listening(host, port)
        bound = listening.getsockname()[1]
        shown = f"[{host}]" if ":" in host else host
        typer.echo(f"dashboard: http://{shown}:{bound}{root_path}/")
        sys.stdout.flush()
        from ..web.serving import serve

        serve(app, listening, root_path)


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _listening(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listening = socket.socket(family)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.listen(128)  # clients that come before the server runs wait
    except OSError as error:
        raise Stop(f"--host {host} --port {port}: {error.strerror or error}", USAGE) from None
    return listening


def _auth_of(users: Path | None, tokens: Path | None, target: str | None) -> "Auth | None":
    given = [each for each in (users, tokens, target) if each is not None]
    if len(given) > 1:
        raise Stop("expected one of --users, --tokens and --auth, got several", USAGE)
    if not given:
        return None
    from ..web.auth import BasicAuth, CallableAuth, TokenAuth

    if users is not None:
        return BasicAuth({name: (secret, role) for name, role, secret in _lines(users)})
    if tokens is not None:
        return TokenAuth({secret: (name, role) for name, role, secret in _lines(tokens)})
    return CallableAuth(_imported(str(target), "--auth"))


def _lines(path: Path) -> "list[tuple[str, Role, str]]":
    """The `name:role:secret` lines of a file, without empty lines and comments."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise Stop(f"{path}: {error.strerror}", USAGE) from None
    found: list[Any] = []
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#"):
            continue
        parts = line.strip().split(":", 2)
        if len(parts) != 3 or parts[1] not in ("viewer", "operator"):
            raise Stop(f"{path}, line {number}: expected name:viewer:secret or name:operator:secret", USAGE)
        found.append(tuple(parts))
    return found


def _functions_of(target: str) -> list[Any]:
    settings = _imported(target, "--settings")
    found = settings.get("functions", ()) if isinstance(settings, dict) else getattr(settings, "functions", ())
    return [_imported(each, "--settings") if isinstance(each, str) else each for each in found]


def _imported(target: str, option: str) -> Any:
    try:
        return import_string(target)
    except (ArqestraError, ImportError, AttributeError, ValueError) as error:
        raise Stop(f"{option} {target}: {error}", USAGE) from None
