"""`arq --watch DIR` for our settings: a change starts a new process, so that the new code runs.

arq's own watcher closes the worker and runs the same one again, with the code of before. Ours keeps one worker process
under a supervisor: when files change, a new one takes the place of the old one, which may end its jobs. A change that
does not run (a syntax error, say) leaves the old process at work; the next change is tried again.
"""

import asyncio
import sys
from collections.abc import Mapping
from typing import Any

import click
from arq.logs import default_log_config

from ...errors import SettingsError
from ..processes.supervisor import Program, Supervisor

__all__ = ("watch_reload",)


async def watch_reload(path: str, worker_settings: Any) -> None:
    """Run a worker in a process of its own, and replace it when files below the path change.

    :param path: folder
    :param worker_settings: the settings as arq's command line has imported them
    :raises ImportError: watchfiles is not installed
    """
    try:
        from watchfiles import awatch
    except ImportError as error:
        raise ImportError("watchfiles not installed, use `pip install watchfiles`") from error
    supervisor = Supervisor([_program(worker_settings)])

    async def restart_on_changes() -> None:
        async for _ in awatch(path):
            print("\nfiles changed, reloading arq worker...", flush=True)
            supervisor.restart()

    watching = asyncio.ensure_future(restart_on_changes())
    try:
        code = await supervisor.run()
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
    if code:
        sys.exit(code)


def _program(worker_settings: Any) -> Program:
    """What the process runs: the import string that arq's command line was given."""
    context = click.get_current_context(silent=True)
    given: Mapping[str, Any] = {} if context is None else context.params
    name = given.get("worker_settings")
    if name is None and isinstance(worker_settings, type):
        name = f"{worker_settings.__module__}.{worker_settings.__qualname__}"
    if not isinstance(name, str):
        raise SettingsError("--watch: expected the import string of worker settings, as worker.WorkerSettings")
    lines = given.get("custom_log_dict") or default_log_config(bool(given.get("verbose")))
    return Program(name, {"preload": False}, lines)  # one process, new code each time
