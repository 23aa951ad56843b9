"""`arqestra dev`: a Redis and one worker process for development, with one command."""

import asyncio
import importlib.util
import logging.config
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from arq.logs import default_log_config

from ..embedded import EmbeddedRedis
from ..errors import EmbeddedRedisError
from ..protocol.keys import Keys
from ..worker.processes.supervisor import Program, Supervisor
from .shell import USAGE, Stop, errors_as_exit_codes, redacted
from .worker import supervise

__all__ = ("add_dev",)


class HastySupervisor(Supervisor):
    """A supervisor that waits for no job when it stops: a developer wants the terminal back."""

    def stop(self) -> None:
        """Have the processes give their jobs back and end at once."""
        super().stop()
        super().stop()


def add_dev(app: typer.Typer) -> None:
    """Add the command."""
    app.command(name="dev")(dev)


def dev(
    settings: Annotated[str, typer.Argument(help="import string of a settings class, as worker.WorkerSettings")],
    redis_url: Annotated[
        str | None,
        typer.Option(envvar="REDIS_URL", help="use that Redis instead of starting one"),
    ] = None,
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="of the Redis that is started")] = None,
    data: Annotated[Path | None, typer.Option(help="folder in which it keeps its data; default none is kept")] = None,
    key_prefix: Annotated[str | None, typer.Option(help="in place of the settings' key_prefix")] = None,
    watch: Annotated[bool, typer.Option(help="replace the process when Python files below this folder change")] = True,
    verbose: Annotated[bool, typer.Option(help="log more")] = False,
) -> None:
    """Run a Redis of its own and one worker process, which is replaced when the code changes. Ctrl-C ends everything.

    Whatever redis_settings the settings class has, the worker uses this Redis. What is left is gone with it, unless
    --data says where to keep it.
    """
    with errors_as_exit_codes():
        try:
            if redis_url is not None:
                os.environ["REDIS_URL"] = redis_url
            with EmbeddedRedis(data, port=port, use_environment=redis_url is not None) as redis:
                _print_address(redis.url, started=redis.kind != "REDIS_URL")
                overrides: dict[str, Any] = {"redis_settings": redis.url, "preload": False}  # one process, new code
                if key_prefix is not None:
                    overrides["key_prefix"] = Keys.of(key_prefix).key_prefix
                code = _run(settings, overrides, watch=watch, verbose=verbose)
        except EmbeddedRedisError as error:
            raise Stop(str(error), USAGE) from None
    sys.exit(code)


def _print_address(url: str, *, started: bool) -> None:
    typer.echo(f"Redis {'started' if started else 'found'} at {redacted(url)}")
    if started:
        typer.echo(f"elsewhere: export REDIS_URL={url}")
    typer.echo("Ctrl-C ends everything")


def _run(settings: str, overrides: dict[str, Any], *, watch: bool, verbose: bool) -> int:
    log_config = default_log_config(verbose)
    logging.config.dictConfig(log_config)
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    os.environ["REDIS_URL"] = overrides["redis_settings"]  # for jobs that make their own pool
    if watch and importlib.util.find_spec("watchfiles") is None:
        typer.echo("changes of the code are not seen: pip install watchfiles", err=True)
        watch = False
    supervisor = HastySupervisor([Program(settings, overrides, log_config)], burst=False)
    return asyncio.run(supervise(supervisor, Path() if watch else None, python_only=True))
