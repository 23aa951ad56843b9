"""`arqestra cron`: schedules, those in code and those made at run time."""

from datetime import datetime
from typing import Annotated, Any

import typer

from ..scheduling.schedules import ScheduleInfo, ScheduleRun
from .output import ago, span, when
from .shell import Shell, command

__all__ = ("add_cron",)

cron_app = typer.Typer(no_args_is_help=True, help="Look at schedules; run, pause and resume them.")
Name = Annotated[str, typer.Argument(help="name of the schedule")]
OUTCOMES_SHOWN = 3


def add_cron(app: typer.Typer) -> None:
    """Add the group of commands."""
    app.add_typer(cron_app, name="cron")


async def list_schedules(shell: Shell) -> None:
    """List schedules of all queues, or of that of --queue: the next due first."""
    schedules = shell.pool.schedules
    infos = await schedules.list(queue=shell.chosen_queue)
    runs = [await schedules.history(info.name) for info in infos]
    shell.out.document(
        {"schedules": [{**_document(info), "last": each[:1]} for info, each in zip(infos, runs, strict=True)]}
    )
    if not infos:
        shell.out.line("there are no schedules: workers and schedulers make them known when they start")
        return
    now_ms = shell.now_ms()
    shell.out.table(
        ("schedule", "due", "function", "queue", "next", "last", "state"),
        (
            (
                *(info.name, info.words, info.function, info.queue, _next(info, now_ms)),
                *(_last(each, now_ms), _state(info)),
            )
            for info, each in zip(infos, runs, strict=True)
        ),
    )


async def show(shell: Shell, name: Name) -> None:
    """Show a schedule: when it is due in words, and what becomes of missed and overlapping ticks."""
    schedules = shell.pool.schedules
    info = await schedules.get(name)
    runs = await schedules.history(name)
    shell.out.document({**_document(info), "history": runs})
    now_ms = shell.now_ms()
    shell.out.fields(
        (
            ("schedule", info.name),
            ("due", info.words),
            ("time zone", info.timezone),
            ("function", info.function),
            ("queue", info.queue),
            ("defined", "in code" if info.source == "code" else "at run time"),
            ("state", _state(info) or "active"),
            ("next", _moment(info.next_run, now_ms)),
            ("last", _last(runs, now_ms)),
            ("missed ticks", info.missed),
            ("overlap", info.overlap),
        )
    )


async def run(shell: Shell, name: Name) -> None:
    """Enqueue the job of a schedule at once, also of a paused one, and print its id. Its ticks stay as they are."""
    job = await shell.pool.schedules.run_now(name)
    shell.out.document({"schedule": name, "id": job.job_id})
    shell.out.line(job.job_id)


async def pause(shell: Shell, name: Name) -> None:
    """Fire a schedule no more until it is resumed, also if processes are started meanwhile."""
    changed = await shell.pool.schedules.pause(name)
    shell.out.document({"schedule": name, "paused": True, "changed": changed})
    shell.out.line(f"schedule {name}: {'paused' if changed else 'was paused already'}")


async def resume(shell: Shell, name: Name) -> None:
    """Fire a paused schedule again. Ticks of the meantime are not made up for."""
    changed = await shell.pool.schedules.resume(name)
    shell.out.document({"schedule": name, "paused": False, "changed": changed})
    shell.out.line(f"schedule {name}: {'resumed' if changed else 'was not paused'}")


async def next_runs(
    shell: Shell,
    name: Name,
    count: Annotated[int, typer.Option("--count", "-n", min=1, max=10_000, help="how many")] = 5,
) -> None:
    """Say when a schedule will be due, in its time zone, without jitter."""
    times = await shell.pool.schedules.next_runs(name, count)
    shell.out.document({"schedule": name, "next": times})
    now_ms = shell.now_ms()
    if not times:
        shell.out.line(f"schedule {name} is over")
    for each in times:
        shell.out.line(f"{each:%a %Y-%m-%d %H:%M:%S %Z}  {ago(each.timestamp() * 1000, now_ms)}")


async def history(shell: Shell, name: Name) -> None:
    """List the latest runs of a schedule, at most 20, the latest first."""
    runs = await shell.pool.schedules.history(name)
    shell.out.document({"schedule": name, "history": runs})
    if not runs:
        shell.out.line(f"schedule {name} has not been fired yet")
        return
    now_ms = shell.now_ms()
    shell.out.table(
        ("due", "how", "outcome", "late by", "took", "job"),
        (
            (
                when(run.tick.timestamp() * 1000, now_ms),
                *(run.how, run.outcome, span(run.lateness_s * 1000), _took(run), run.job_id),
            )
            for run in runs
        ),
        right=("late by", "took"),
    )


def _document(info: ScheduleInfo) -> dict[str, Any]:
    return {name: getattr(info, name) for name in ScheduleInfo.__slots__}


def _state(info: ScheduleInfo) -> str:
    if info.problem:
        return f"problem: {info.problem}"
    return "paused" if info.paused else ""


def _next(info: ScheduleInfo, now_ms: int) -> str:
    return "" if info.next_run is None else ago(info.next_run.timestamp() * 1000, now_ms)


def _moment(moment: datetime | None, now_ms: int) -> str:
    if moment is None:
        return ""
    return f"{moment:%a %Y-%m-%d %H:%M:%S %Z} ({ago(moment.timestamp() * 1000, now_ms)})"


def _last(runs: list[ScheduleRun], now_ms: int) -> str:
    """The latest outcomes, the latest first: "complete 3 min ago; before: failed, complete"."""
    if not runs:
        return ""
    latest = f"{runs[0].outcome} {ago(runs[0].fired.timestamp() * 1000, now_ms)}"
    before = ", ".join(run.outcome for run in runs[1:OUTCOMES_SHOWN])
    return f"{latest}; before: {before}" if before else latest


def _took(run: ScheduleRun) -> str:
    return "" if run.ended is None else span(max(0.0, (run.ended - run.fired).total_seconds() * 1000))


command(cron_app, "list")(list_schedules)
command(cron_app, "show", of_a_queue=False)(show)
command(cron_app, "run", of_a_queue=False)(run)
command(cron_app, "pause", of_a_queue=False)(pause)
command(cron_app, "resume", of_a_queue=False)(resume)
command(cron_app, "next", of_a_queue=False)(next_runs)
command(cron_app, "history", of_a_queue=False)(history)
