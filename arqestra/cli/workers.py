"""`arqestra workers`: which workers there are and what they do. `worker_changes.py` drains and resumes them."""

from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
import typer

from ..protocol.presence import JobOnWorker, WorkerInfo
from .output import ago, iso, megabytes, progress_text, span, when
from .shell import Shell, command
from .worker_changes import add_worker_changes
from .worker_view import chosen_workers, process_of, read_workers, state_of

__all__ = ("add_workers",)

workers_app = typer.Typer(no_args_is_help=True, help="Look at workers; drain them for a deploy, and resume them.")
One = Annotated[str, typer.Argument(help="id of the worker, or the first characters of it; or host:pid")]
JOBS_SHOWN = 30


def add_workers(app: typer.Typer) -> None:
    """Add the group of commands."""
    app.add_typer(workers_app, name="workers")


async def list_workers(shell: Shell) -> None:
    """List the workers that were heard of in the last ten minutes, and the jobs that run on them.

    With --queue those that serve it. CPU is the share of one processor since the start; lag is how late the event loop
    was in the last second. Seen says how long ago it was heard of; while nothing happens a worker tells of itself once
    a minute. One that tells nothing when it should is gone if it was killed or is cut off from Redis, and silent if
    Redis still holds its connection: its event loop is blocked, it is frozen, or what it says does not arrive.
    """
    workers = await read_workers(shell)
    now_ms = shell.now_ms()
    shell.out.document({"workers": [_document(each) for each in workers]})
    if not workers:
        of = f" of queue {shell.chosen_queue}" if shell.chosen_queue else ""
        shell.out.line(f"there is no worker{of}")
        return
    shell.out.table(
        ("id", "host:pid", "queues", "running", "memory", "cpu", "lag", "started", "seen", "state"),
        (_row(each, now_ms) for each in workers),
        right=("running", "memory", "cpu", "lag"),
    )
    for each in workers:
        if each.absence is not None:
            shell.out.note(_explained(each, now_ms))
    _print_jobs(shell, workers, now_ms, JOBS_SHOWN)


async def show(shell: Shell, worker: One) -> None:
    """Show a worker: what it has done, and the jobs that it runs with their progress."""
    (found,) = chosen_workers(await read_workers(shell), [worker])
    now_ms = shell.now_ms()
    shell.out.document(_document(found))
    presence = found.presence
    shell.out.fields(
        (
            ("worker", found.worker_id),
            ("state", state_of(found)),
            ("", _explained(found, now_ms) if found.absence else None),
            ("host", presence.host),
            ("process", presence.pid),
            ("version", presence.version),
            ("queues", ", ".join(presence.queues)),
            ("running", f"{presence.running} of {presence.slots}"),
            ("waiting workflows", presence.waiting or None),
            ("complete", f"{presence.complete:,}"),
            ("failed", f"{presence.failed:,}"),
            ("retried", f"{presence.retried:,}"),
            ("memory", megabytes(presence.rss_bytes)),
            ("cpu", f"{_cpu(found)} of one processor, {presence.cpu_s:,.1f} s"),
            ("lag", f"{presence.lag_ms} ms"),
            ("Redis errors", presence.redis_errors or None),
            ("started", when(presence.started_ms, now_ms)),
            ("seen", when(found.seen.timestamp() * 1000, now_ms)),
        )
    )
    _print_jobs(shell, [found], now_ms, len(presence.jobs))


def _explained(worker: WorkerInfo, now_ms: int) -> str:
    """What may be wrong with a worker that does not report."""
    last_heard = f"{process_of(worker)} was last heard of {ago(worker.seen.timestamp() * 1000, now_ms)}"
    if worker.absence == "gone":
        return f"{last_heard}: it was killed, or is cut off from Redis"
    return (
        f"{last_heard}, and Redis holds its connection: its event loop is blocked, it is frozen, or the network is cut"
    )


def _row(worker: WorkerInfo, now_ms: int) -> tuple[Any, ...]:
    presence = worker.presence
    return (
        *(worker.worker_id, process_of(worker), ", ".join(presence.queues), f"{presence.running}/{presence.slots}"),
        *(megabytes(presence.rss_bytes), _cpu(worker), f"{presence.lag_ms} ms", ago(presence.started_ms, now_ms)),
        *(ago(worker.seen.timestamp() * 1000, now_ms), state_of(worker)),
    )


def _cpu(worker: WorkerInfo) -> str:
    lived_s = max(1.0, worker.seen.timestamp() - worker.presence.started_ms / 1000)
    return f"{worker.presence.cpu_s / lived_s:.0%}"


def _print_jobs(shell: Shell, workers: Sequence[WorkerInfo], now_ms: int, limit: int) -> None:
    jobs = [(job, worker) for worker in workers for job in worker.presence.jobs]
    jobs.sort(key=lambda each: each[0].since_ms)
    if not jobs:
        return
    shell.out.line()
    alone = len(workers) == 1
    shell.out.table(
        ("job", "function", "attempt", "running for", "progress", *(() if alone else ("worker",))),
        (
            (
                *(job.id, job.function, job.attempt, span(max(0, now_ms - job.since_ms)), _progress(job)),
                *(() if alone else (worker.worker_id,)),
            )
            for job, worker in jobs[:limit]
        ),
        right=("attempt", "running for"),
    )
    running = sum(worker.presence.running for worker in workers)
    if running > min(limit, len(jobs)):
        shell.out.note(f"the {min(limit, len(jobs))} longest running of {running:,} jobs")


def _progress(job: JobOnWorker) -> str:
    return "" if job.done is None else progress_text(job.done, job.total, job.message)


def _document(worker: WorkerInfo) -> dict[str, Any]:
    presence: dict[str, Any] = msgspec.to_builtins(worker.presence)
    presence["jobs"] = [{**job, "since": iso(job.pop("since_ms"))} for job in presence["jobs"]]
    started = iso(presence.pop("started_ms"))
    return {
        "id": worker.worker_id,
        "state": state_of(worker),
        "alive": worker.alive,
        "started": started,
        "seen": worker.seen,
        **presence,
    }


command(workers_app, "list")(list_workers)
command(workers_app, "show")(show)
add_worker_changes(workers_app)
