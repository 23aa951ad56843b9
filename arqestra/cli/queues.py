"""`arqestra queues`: the state of queues; pause, resume and purge them."""

from typing import Annotated, Any

import typer
from redis.exceptions import ResponseError

from ..client.pool import Pool
from ..store.find import find_queues
from ..store.queues import QueueSurvey, survey
from .confirm import DryRun, Yes, confirmed
from .output import iso, span
from .shell import FAILED, Shell, Stop, command

__all__ = ("NO_QUEUE", "add_queues", "all_queues", "survey_or_none")

NO_QUEUE = "the key of its name is no queue, and its jobs cannot be enqueued or taken"

queues_app = typer.Typer(no_args_is_help=True, help="Look at queues; pause, resume and purge them.")
Names = Annotated[list[str] | None, typer.Argument(help="names of queues; default that of --queue", show_default=False)]


def add_queues(app: typer.Typer) -> None:
    """Add the group of commands."""
    app.add_typer(queues_app, name="queues")


async def list_queues(shell: Shell) -> None:
    """List queues with their jobs by state; with --queue that one alone.

    These are the queues that were used or served in the last 30 days, and those that only stock arq knows and leave a
    trace among the first 100,000 keys of this Redis.
    """
    names, cut = ([shell.queue], False) if shell.chosen_queue else await all_queues(shell.pool)
    surveys = {name: await survey_or_none(shell.pool, name) for name in names}
    found = [each for each in surveys.values() if each is not None]
    for name in surveys.keys() - {each.name for each in found}:
        shell.out.note(f"queue {name} is left out: {NO_QUEUE}")
    shell.out.document({"queues": [_document(each) for each in found], "cut": cut})
    if found:
        shell.out.table(
            ("queue", "due", "deferred", "running", "held", "waiting", "dead", "oldest due", "workers idle", "state"),
            (_row(each) for each in found),
            right=("due", "deferred", "running", "held", "waiting", "dead", "oldest due", "workers idle"),
        )
    else:
        shell.out.line("no queue holds a job")
    if cut:
        shell.out.note(
            "this Redis has more than 100,000 keys: queues that only stock arq uses may be missing; name one by --queue"
        )


async def survey_or_none(pool: Pool, name: str) -> QueueSurvey | None:
    """The state of a queue; None if another program has a key of its name, which must not hide the other queues."""
    try:
        return await survey(pool.store, name)
    except ResponseError as error:
        if "WRONGTYPE" not in str(error):
            raise
        return None


async def all_queues(pool: Pool) -> tuple[list[str], bool]:
    """All queues, and whether some of stock arq may be missing: the search for them reads a limited number of keys."""
    found, cut = await find_queues(pool.store)
    return sorted({*found, *await pool.used_queues()}), cut


def _row(each: QueueSurvey) -> tuple[Any, ...]:
    oldest = "" if each.oldest_due_ms is None else span(each.oldest_due_age_ms)
    running = f"{each.running:,}{'+' if each.cut else ''}"
    return (
        *(each.name, f"{each.due:,}", f"{each.deferred:,}", running, f"{each.held:,}", f"{each.waiting:,}"),
        *(f"{each.dead:,}", oldest, each.idle_workers, "paused" if each.paused else ""),
    )


def _document(each: QueueSurvey) -> dict[str, Any]:
    return {
        "queue": each.name,
        "due": each.due,
        "deferred": each.deferred,
        "running": each.running,
        "running_cut": each.cut,
        "held": each.held,
        "waiting": each.waiting,
        "dead": each.dead,
        "oldest_due": iso(each.oldest_due_ms),
        "oldest_due_age_s": None if each.oldest_due_ms is None else each.oldest_due_age_ms / 1000,
        "workers_idle": each.idle_workers,
        "paused": each.paused,
    }


async def pause(shell: Shell, names: Names = None) -> None:
    """Let no worker take jobs of queues until they are resumed. What runs goes on, and enqueues are accepted."""
    changed = {name: await shell.pool.queue(name).pause() for name in names or [shell.queue]}
    _print_changes(shell, changed, "paused", "was paused already")


async def resume(shell: Shell, names: Names = None) -> None:
    """Let workers take jobs of paused queues again."""
    changed = {name: await shell.pool.queue(name).resume() for name in names or [shell.queue]}
    _print_changes(shell, changed, "resumed", "was not paused")


def _print_changes(shell: Shell, changed: dict[str, bool], done: str, not_done: str) -> None:
    shell.out.document({"queues": [{"queue": name, "changed": each} for name, each in changed.items()]})
    for name, each in changed.items():
        shell.out.line(f"queue {name}: {done if each else not_done}")


async def purge(
    shell: Shell,
    name: Annotated[str, typer.Argument(help="name of the queue")],
    dry_run: DryRun = False,
    yes: Yes = False,
) -> None:
    """Delete all jobs of a queue that no worker holds: due, deferred and held ones. Dead jobs stay."""
    if shell.chosen_queue not in (None, name):
        raise Stop(f"expected one queue, got {name} and --queue {shell.chosen_queue}", FAILED)
    state = await survey(shell.pool.store, name)
    count = state.entries - state.running
    facts = {"queue": name, "count": count}
    if count == 0 and not dry_run:
        shell.out.document(facts)
        shell.out.line(f"queue {name} holds no job that could be deleted")
        return
    what = f"delete {count:,} job{'' if count == 1 else 's'} of queue {name}"
    if confirmed(shell, what, yes=yes, dry_run=dry_run, document=facts):
        deleted = await shell.pool.queue(name).purge()
        shell.out.document({"queue": name, "count": deleted})
        shell.out.line(f"{deleted:,} deleted")


command(queues_app, "list")(list_queues)
command(queues_app, "pause")(pause)
command(queues_app, "resume")(resume)
command(queues_app, "purge")(purge)
