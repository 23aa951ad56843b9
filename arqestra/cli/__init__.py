"""arqestra's command line: `arqestra worker worker.WorkerSettings`, `arqestra scheduler scheduler.SCHEDULES`."""

import typer

from .scheduler import scheduler
from .worker import worker

__all__ = ("app", "main")

app = typer.Typer(
    name="arqestra",
    help="An asyncio job queue on Redis or Valkey.",
    no_args_is_help=True,
    add_completion=True,
)
app.command(name="worker")(worker)
app.command(name="scheduler")(scheduler)


@app.callback()
def _group() -> None:
    """An asyncio job queue on Redis or Valkey."""


def main() -> None:
    """The entry point of the command."""
    app()
