"""`arqestra workers`: which workers there are and what they do; let them take no more jobs, or take jobs again."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
import typer

from ..errors import SettingsError
from ..protocol.clock import timestamp_ms
from ..protocol.presence import JobOnWorker, WorkerInfo
from ..store.presence import steer_worker
from .arguments import duration_s
from .confirm import DryRun, Yes, may
from .output import ago, iso, megabytes, span, when
from .progress_bar import progress_text
from .shell import FAILED, TIMED_OUT, Shell, Stop, command

__all__ = ("state_of", "workers_app")

workers_app = typer.Typer(no_args_is_help=True, help="Look at workers; drain them for a deploy, and resume them.")
One = Annotated[str, typer.Argument(help="id of the worker, or the first characters of it; or host:pid")]
Those = Annotated[
    list[str] | None,
    typer.Argument(help="ids of workers, or the first characters of them; or host:pid", show_default=False),
]
All = Annotated[bool, typer.Option("--all", help="all workers (with --queue: of that queue)")]
JOBS_SHOWN = 30
HEARD_WITHIN_S = 5.0  # a worker tells of itself once a second
LOOK_EVERY_S = 0.2


class Steered(NamedTuple):
    """What became of one worker.

    :ivar code: 0 if it was done
    """

    worker: WorkerInfo
    outcome: str
    code: int = 0


async def list_workers(shell: Shell) -> None:
    """List the workers that were heard of in the last ten minutes, and the jobs that run on them.

    With --queue those that serve it. CPU is the share of one processor since the start; lag is how late the event loop
    was in the last second. Seen says how long ago it was heard of; while nothing happens a worker tells of itself once
    a minute. One that tells nothing when it should is gone if it was killed or is cut off from Redis, and silent if
    Redis still holds its connection: its event loop is blocked, it is frozen, or what it says does not arrive.
    """
    workers = await _workers(shell)
    now_ms = _now_ms(shell)
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
    (found,) = _chosen(await _workers(shell), [worker])
    now_ms = _now_ms(shell)
    shell.out.document(_document(found))
    tells = found.presence
    shell.out.fields(
        (
            ("worker", found.worker_id),
            ("state", state_of(found)),
            ("", _explained(found, now_ms) if found.absence else None),
            ("host", tells.host),
            ("process", tells.pid),
            ("version", tells.version),
            ("queues", ", ".join(tells.queues)),
            ("running", f"{tells.running} of {tells.slots}"),
            ("waiting workflows", tells.waiting or None),
            ("complete", f"{tells.complete:,}"),
            ("failed", f"{tells.failed:,}"),
            ("retried", f"{tells.retried:,}"),
            ("memory", megabytes(tells.rss_bytes)),
            ("cpu", f"{_cpu(found)} of one processor, {tells.cpu_s:,.1f} s"),
            ("lag", f"{tells.lag_ms} ms"),
            ("Redis errors", tells.redis_errors or None),
            ("started", when(tells.started_ms, now_ms)),
            ("seen", when(found.seen.timestamp() * 1000, now_ms)),
        )
    )
    _print_jobs(shell, [found], now_ms, len(tells.jobs))


async def drain(
    shell: Shell,
    workers: Those = None,
    everyone: All = False,
    wait: Annotated[
        str | None, typer.Option(help="wait until nothing runs there, at most so long: 30, 5m", metavar="TIMEOUT")
    ] = None,
    dry_run: DryRun = False,
    yes: Yes = False,
) -> None:
    """Let workers take no more jobs, until they are resumed or replaced. What runs goes on, and the processes stay.

    With --wait the exit code is 3 if jobs still run there then. It is 1 if a worker did not hear it.
    """
    limit_s = duration_s(wait, "--wait")
    found = await _those(shell, workers, everyone=everyone)
    facts = {"workers": [each.worker_id for each in found]}
    if not may(shell, f"drain {_count(found)}", yes=yes, dry_run=dry_run, document=facts):
        return
    steered = await _steer(shell, found, "drain")
    if limit_s is None:
        _tell(shell, steered)
        return
    shell.out.note("waiting for the jobs that run")
    heard = [each.worker.worker_id for each in steered if each.code == 0]
    busy = {each.worker_id: each for each in await _busy_after(shell, heard, limit_s)}
    _tell(shell, [_waited(each, busy.get(each.worker.worker_id)) for each in steered])


async def resume(shell: Shell, workers: Those = None, everyone: All = False) -> None:
    """Let workers take jobs again that were drained."""
    found = await _those(shell, workers, everyone=everyone)
    _tell(shell, await _steer(shell, found, "resume"))


# -- which workers ------------------------------------------------------------------------------------------------


async def _workers(shell: Shell) -> list[WorkerInfo]:
    """Those of --queue, or all."""
    workers = await shell.pool.workers()
    return [each for each in workers if shell.chosen_queue in (None, *each.presence.queues)]


async def _those(shell: Shell, names: list[str] | None, *, everyone: bool) -> list[WorkerInfo]:
    if bool(names) == everyone:
        raise SettingsError(f"expected ids of workers or --all, got {'both' if names else 'neither'}")
    workers = await _workers(shell)
    if names:
        return _chosen(workers, names)
    alive = [each for each in workers if each.alive]
    if not alive:
        raise Stop("there is no worker", FAILED)
    return alive


def _chosen(workers: Sequence[WorkerInfo], names: Iterable[str]) -> list[WorkerInfo]:
    """The workers of these names, each once.

    :raises Stop: there is none of a name, or several
    """
    found: dict[str, WorkerInfo] = {}
    for name in names:
        fitting = [each for each in workers if name in (each.worker_id, _process(each))]
        fitting = fitting or [each for each in workers if each.worker_id.startswith(name)]
        if not fitting:
            raise Stop(f"there is no worker {name!r}: arqestra workers list says which there are", FAILED)
        if len(fitting) > 1:
            ids = ", ".join(each.worker_id for each in fitting)
            raise Stop(f"expected one worker, {name!r} may be {ids}", FAILED)
        found[fitting[0].worker_id] = fitting[0]
    return list(found.values())


def _process(worker: WorkerInfo) -> str:
    return f"{worker.presence.host}:{worker.presence.pid}"


# -- steering -----------------------------------------------------------------------------------------------------


async def _steer(shell: Shell, workers: Sequence[WorkerInfo], order: Literal["drain", "resume"]) -> list[Steered]:
    """Give an order, and see in what the workers tell of themselves that they follow it."""
    heard = {each.worker_id: await steer_worker(shell.pool.store, each.worker_id, order) for each in workers}
    draining = order == "drain"
    wanted = {worker_id for worker_id, each in heard.items() if each}
    left = await _seen(
        shell, wanted, lambda worker: worker is None or worker.presence.draining == draining, HEARD_WITHIN_S
    )
    done = "draining" if draining else "takes jobs again"
    before = "was draining already" if draining else "was not draining"
    return [
        Steered(each, each.absence or "it did not hear that", FAILED)
        if not heard[each.worker_id]
        else Steered(each, f"told, and has not followed within {HEARD_WITHIN_S:g} s", TIMED_OUT)
        if each.worker_id in left
        else Steered(each, before if each.presence.draining == draining else done)
        for each in workers
    ]


async def _busy_after(shell: Shell, worker_ids: Iterable[str], limit_s: float) -> list[WorkerInfo]:
    """Those on which jobs still run after some time; returns as soon as there is none."""
    left = await _seen(shell, set(worker_ids), lambda worker: worker is None or not worker.presence.running, limit_s)
    return [each for each in await shell.pool.workers() if each.worker_id in left]


async def _seen(
    shell: Shell, worker_ids: set[str], condition: Callable[[WorkerInfo | None], bool], limit_s: float
) -> set[str]:
    """Wait until all workers fulfil a condition.

    :param condition: is given None for a worker that has withdrawn or is gone
    :returns: those that do not, after that time
    """
    loop = asyncio.get_running_loop()
    end_s = loop.time() + limit_s
    left = set(worker_ids)
    while left:
        there = {each.worker_id: each for each in await shell.pool.workers() if each.alive}
        left = {worker_id for worker_id in left if not condition(there.get(worker_id))}
        if loop.time() >= end_s:
            break
        if left:
            await asyncio.sleep(LOOK_EVERY_S)
    return left


def _waited(steered: Steered, busy: WorkerInfo | None) -> Steered:
    if steered.code:
        return steered
    if busy is None:
        return steered._replace(outcome="drained, nothing runs there")
    jobs = f"{busy.presence.running} job{'' if busy.presence.running == 1 else 's'}"
    return steered._replace(outcome=f"draining, {jobs} still run{'s' if busy.presence.running == 1 else ''}", code=3)


def _tell(shell: Shell, steered: Sequence[Steered]) -> None:
    shell.out.document(
        {
            "workers": [
                {"id": each.worker.worker_id, "process": _process(each.worker), "outcome": each.outcome}
                for each in steered
            ]
        }
    )
    for each in steered:
        text = f"{each.worker.worker_id}  {_process(each.worker)}  {each.outcome}"
        shell.out.line(text, style="red" if each.code else "")
    worst = max(each.code for each in steered)
    if worst:
        raise typer.Exit(worst)


# -- how they look ------------------------------------------------------------------------------------------------


def state_of(worker: WorkerInfo) -> str:
    """What a worker is doing, in a word."""
    if worker.absence is not None:
        return worker.absence
    return "draining" if worker.presence.draining else "working" if worker.presence.running else "idle"


def _explained(worker: WorkerInfo, now_ms: int) -> str:
    """What may be the matter with a worker that is not there."""
    heard = f"{_process(worker)} was last heard of {ago(worker.seen.timestamp() * 1000, now_ms)}"
    if worker.absence == "gone":
        return f"{heard}: it was killed, or is cut off from Redis"
    return f"{heard}, and Redis holds its connection: its event loop is blocked, it is frozen, or the network is cut"


def _row(worker: WorkerInfo, now_ms: int) -> tuple[Any, ...]:
    tells = worker.presence
    return (
        *(worker.worker_id, _process(worker), ", ".join(tells.queues), f"{tells.running}/{tells.slots}"),
        *(megabytes(tells.rss_bytes), _cpu(worker), f"{tells.lag_ms} ms", ago(tells.started_ms, now_ms)),
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
    tells: dict[str, Any] = msgspec.to_builtins(worker.presence)
    tells["jobs"] = [{**job, "since": iso(job.pop("since_ms"))} for job in tells["jobs"]]
    started = iso(tells.pop("started_ms"))
    return {
        "id": worker.worker_id,
        "state": state_of(worker),
        "alive": worker.alive,
        "started": started,
        "seen": worker.seen,
        **tells,
    }


def _count(workers: Sequence[WorkerInfo]) -> str:
    return f"worker {workers[0].worker_id}" if len(workers) == 1 else f"{len(workers):,} workers"


def _now_ms(shell: Shell) -> int:
    return timestamp_ms() + shell.pool.clock_offset_ms


command(workers_app, "list")(list_workers)
command(workers_app, "show")(show)
command(workers_app, "drain")(drain)
command(workers_app, "resume")(resume)
