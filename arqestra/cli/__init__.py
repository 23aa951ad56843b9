"""The command `arqestra`: one file for each subcommand, on top of everything else in the package.

Commands that talk to Redis get a `Shell` (`shell.py`): the pool, the output and the chosen queue. A command prints by
`output.py`, for people or as JSON. Start with `queues.py`, which is typical.
"""

from typing import Annotated

import typer

from ..version import VERSION
from .cron import cron_app
from .dashboard import dashboard
from .dev import dev
from .doctor import add_doctor
from .enqueue import add_enqueue
from .events import add_events
from .jobs import jobs_app
from .metrics import metrics
from .queues import queues_app
from .scheduler import scheduler
from .stats import add_stats
from .worker import worker
from .workers import workers_app
from .workflows import workflows_app

__all__ = ("app", "main")

app = typer.Typer(
    name="arqestra",
    help="An asyncio job queue on Redis or Valkey.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_show_locals=False,  # locals may hold passwords and arguments of jobs
)
app.command(name="worker")(worker)
app.command(name="scheduler")(scheduler)
app.command(name="dev")(dev)
app.command(name="metrics")(metrics)
app.command(name="dashboard")(dashboard)
add_enqueue(app)
app.add_typer(jobs_app, name="jobs")
app.add_typer(queues_app, name="queues")
app.add_typer(workers_app, name="workers")
app.add_typer(cron_app, name="cron")
app.add_typer(workflows_app, name="workflows")
add_stats(app)
add_events(app)
add_doctor(app)


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
