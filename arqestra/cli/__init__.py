"""The command `arqestra`: one file for each subcommand, on top of everything else in the package.

Commands that talk to Redis get a `Shell` (`shell.py`): the pool, the output and the chosen queue. A command prints by
`output.py`, for people or as JSON. Start with `queues.py`, which is typical. The file of a command is imported when the
command is called (`deferred.py`).
"""

from typing import Annotated

import typer

from ..version import VERSION
from .deferred import deferring

__all__ = ("COMMANDS", "app", "main")

# Name of a command, and of its file -> what `arqestra --help` says of it: the first paragraph of its own help.
COMMANDS = {
    "init": (
        "Write a small project that runs: jobs, a worker, a producer, tests, and compose.yaml. Nothing is overwritten."
    ),
    "worker": "Run worker processes: start, replace and stop them.",
    "scheduler": (
        "Fire schedules: those of the target, and those that were made at run time. "
        "Any number of such processes may run."
    ),
    "dev": (
        "Run a Redis of its own and one worker process, which is replaced when the code changes. "
        "Ctrl-C ends everything."
    ),
    "metrics": (
        "Serve the metrics of the whole fleet to Prometheus: jobs, queues, schedules, workers, as Redis has them."
    ),
    "dashboard": "Serve the dashboard. On another address than loopback it does not start without authentication.",
    "enqueue": "Enqueue a job and print its id; with --wait its result.",
    "stats": (
        "Tell what became of jobs, by queue and function: counts, and percentiles of how long they ran and waited."
    ),
    "events": ("Follow what happens to jobs and workers from now on, until Ctrl-C. With --json one document a line."),
    "doctor": "Check the server and the queues: each line is ok, a warning or a problem, and says what to do.",
    "jobs": "Look at jobs, and change them.",
    "queues": "Look at queues; pause, resume and purge them.",
    "workers": "Look at workers; drain them for a deploy, and resume them.",
    "cron": "Look at schedules; run, pause and resume them.",
    "workflows": (
        "Look at flows and workflows; cancel, retry and resume them; send events to workflows; export histories."
    ),
}

app = typer.Typer(
    name="arqestra",
    cls=deferring(COMMANDS),
    help="An asyncio job queue on Redis or Valkey.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_show_locals=False,  # locals may hold passwords and arguments of jobs
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"arqestra {VERSION}")
        raise typer.Exit()


@app.callback()
def _group(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """An asyncio job queue on Redis or Valkey."""


def main() -> None:
    """The entry point of the command."""
    app(prog_name="arqestra")
