"""`arqestra worker`: worker processes under a supervisor."""

import asyncio
import logging.config
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import SettingsError
from ..observe.json_logs import LogFormat, log_config
from ..worker.processes.supervisor import Program, Supervisor
from ..worker.settings import SETTINGS, WorkerOptions

__all__ = ("OPTIONS_OF_SETTINGS", "add_worker", "supervise")

OPTIONS_OF_SETTINGS = {
    "max_jobs": "--concurrency",
    "queues": "--queues",
    "max_jobs_per_child": "--max-jobs-per-child",
    "max_memory_per_child": "--max-memory-per-child",
    "job_completion_wait": "--shutdown-timeout",
    "key_prefix": "--key-prefix",
    "burst": "--burst",
    "preload": "--preload",
}


def _about(setting: str) -> str:
    """What a setting does, for the help of the option that stands for it."""
    return SETTINGS[setting].about.replace("`", "")


def add_worker(app: typer.Typer) -> None:
    """Add the command."""
    app.command(name="worker")(worker)


def worker(
    settings: Annotated[list[str], typer.Argument(help="import strings of settings classes, as worker.WorkerSettings")],
    processes: Annotated[int, typer.Option(min=1, max=1000, help="processes of each settings class")] = 1,
    concurrency: Annotated[int | None, typer.Option(min=1, help=_about("max_jobs"))] = None,
    queues: Annotated[str | None, typer.Option(help="a,b in strict order, or a=6,b=3 with weights")] = None,
    max_jobs_per_child: Annotated[int | None, typer.Option(min=1, help=_about("max_jobs_per_child"))] = None,
    max_memory_per_child: Annotated[
        str | None, typer.Option(help=f"{_about('max_memory_per_child')}; as 512MB")
    ] = None,
    shutdown_timeout: Annotated[float | None, typer.Option(min=0, help=_about("job_completion_wait"))] = None,
    key_prefix: Annotated[str | None, typer.Option(help="in place of the settings' key_prefix")] = None,
    burst: Annotated[bool, typer.Option(help=_about("burst"))] = False,
    preload: Annotated[bool | None, typer.Option("--preload/--no-preload", help=_about("preload"))] = None,
    watch: Annotated[Path | None, typer.Option(help="replace the processes when files below change")] = None,
    metrics_port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="serve the metrics of all processes to Prometheus there")
    ] = None,
    metrics_host: Annotated[str, typer.Option(help=_about("metrics_host"))] = SETTINGS["metrics_host"].default,
    verbose: Annotated[bool, typer.Option(help="log more")] = False,
    log_format: Annotated[LogFormat, typer.Option(help="of the log lines")] = "text",
) -> None:
    """Run worker processes: start, replace and stop them.

    SIGTERM and Ctrl-C let jobs end within the shutdown timeout; a second one gives them back at once. SIGHUP replaces
    all processes.
    """
    overrides: dict[str, Any] = {
        "max_jobs": concurrency,
        "max_jobs_per_child": max_jobs_per_child,
        "max_memory_per_child": max_memory_per_child,
        "job_completion_wait": shutdown_timeout,
        "burst": burst or None,
        "key_prefix": key_prefix,
        "preload": preload,
    }
    overrides = {name: value for name, value in overrides.items() if value is not None}
    try:
        if queues is not None:
            overrides |= {"queues": parse_queues(queues), "queue_name": None}
        for name, option in OPTIONS_OF_SETTINGS.items():
            if name in overrides:
                SETTINGS[name].check(overrides[name], option)
        WorkerOptions.of(overrides)
    except SettingsError as error:
        raise typer.BadParameter(str(error)) from None
    if watch is not None and not watch.is_dir():
        raise typer.BadParameter(f"--watch: expected a folder, got {watch}")
    lines = log_config(verbose, log_format)
    logging.config.dictConfig(lines)
    programs = [Program(each, overrides, lines) for each in settings for _ in range(processes)]
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    address = None if metrics_port is None else (metrics_port, metrics_host)
    try:
        supervisor = Supervisor(programs, burst=burst, metrics=address)
        code = asyncio.run(supervise(supervisor, watch))
    except SettingsError as error:
        raise typer.BadParameter(str(error)) from None
    sys.exit(code)


def parse_queues(text: str) -> list[str] | dict[str, int]:
    """Queues in strict order ("a,b"), or with weights ("a=6,b=3").

    :raises SettingsError: a mixture, or a weight that is none
    """
    parts = [part.strip() for part in text.split(",") if part.strip()]
    weighted = [part for part in parts if "=" in part]
    if not weighted:
        return parts
    if len(weighted) != len(parts):
        raise SettingsError(f"--queues: expected names, or name=weight for each, got {text!r}")
    weights: dict[str, int] = {}
    for part in parts:
        name, _, weight = part.rpartition("=")
        if not weight.isdigit() or int(weight) < 1:
            raise SettingsError(f"--queues: expected a weight of at least 1, got {part!r}")
        if name in weights:
            raise SettingsError(f"--queues: expected each queue once, got {name!r} twice in {text!r}")
        weights[name] = int(weight)
    return weights


async def supervise(supervisor: Supervisor, watch: Path | None, *, python_only: bool = False) -> int:
    """Run a supervisor; returns the exit code.

    :param watch: folder; the processes are replaced when files in it change
    :param python_only: only changes of Python files count: jobs may write other files
    """
    if watch is None:
        return await supervisor.run()
    try:
        from watchfiles import DefaultFilter, PythonFilter, awatch
    except ImportError:
        raise typer.BadParameter("--watch needs the package watchfiles: pip install watchfiles") from None

    async def restart_on_changes() -> None:
        async for _ in awatch(watch, watch_filter=PythonFilter() if python_only else DefaultFilter()):
            supervisor.restart()

    watching = asyncio.ensure_future(restart_on_changes())
    try:
        return await supervisor.run()
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
