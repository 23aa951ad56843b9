"""`arqestra workers drain` and `resume`: let workers take no more jobs, or take jobs again."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Annotated, Literal, NamedTuple

import typer

from ..errors import SettingsError
from ..protocol.presence import WorkerInfo
from ..store.presence import steer_worker
from .arguments import duration_s
from .confirm import DryRun, Yes, confirmed
from .shell import FAILED, TIMED_OUT, Shell, Stop, command
from .worker_view import chosen_workers, process_of, read_workers

__all__ = ("add_worker_changes",)

Those = Annotated[
    list[str] | None,
    typer.Argument(help="ids of workers, or the first characters of them; or host:pid", show_default=False),
]
All = Annotated[bool, typer.Option("--all", help="all workers (with --queue: of that queue)")]
FOLLOWS_WITHIN_S = 5.0  # a worker reports its state once a second
POLL_EVERY_S = 0.2


class Steered(NamedTuple):
    """What became of one worker.

    :ivar code: exit code; 0 if the worker follows the order
    """

    worker: WorkerInfo
    outcome: str
    code: int = 0


def add_worker_changes(app: typer.Typer) -> None:
    """Add the commands."""
    command(app, "drain")(drain)
    command(app, "resume")(resume)


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
    found = await _chosen(shell, workers, everyone=everyone)
    facts = {"workers": [each.worker_id for each in found]}
    if not confirmed(shell, f"drain {_count(found)}", yes=yes, dry_run=dry_run, document=facts):
        return
    steered = await _steer(shell, found, "drain")
    if limit_s is None:
        _print_outcomes(shell, steered)
        return
    shell.out.note("waiting for the jobs that run")
    steered_ids = [each.worker.worker_id for each in steered if each.code == 0]
    busy = {each.worker_id: each for each in await _busy_after(shell, steered_ids, limit_s)}
    _print_outcomes(shell, [_drained(each, busy.get(each.worker.worker_id)) for each in steered])


async def resume(shell: Shell, workers: Those = None, everyone: All = False) -> None:
    """Let workers take jobs again that were drained."""
    found = await _chosen(shell, workers, everyone=everyone)
    _print_outcomes(shell, await _steer(shell, found, "resume"))


async def _chosen(shell: Shell, names: list[str] | None, *, everyone: bool) -> list[WorkerInfo]:
    if bool(names) == everyone:
        raise SettingsError(f"expected ids of workers or --all, got {'both' if names else 'neither'}")
    workers = await read_workers(shell)
    if names:
        return chosen_workers(workers, names)
    alive = [each for each in workers if each.alive]
    if not alive:
        raise Stop("there is no worker", FAILED)
    return alive


async def _steer(shell: Shell, workers: Sequence[WorkerInfo], order: Literal["drain", "resume"]) -> list[Steered]:
    """Give workers an order, and wait until their reports show that they follow it."""
    received = {each.worker_id: await steer_worker(shell.pool.store, each.worker_id, order) for each in workers}
    draining = order == "drain"
    wanted = {worker_id for worker_id, each in received.items() if each}
    left = await _await_all(
        shell, wanted, lambda worker: worker is None or worker.presence.draining == draining, FOLLOWS_WITHIN_S
    )
    done = "draining" if draining else "takes jobs again"
    before = "was draining already" if draining else "was not draining"
    return [
        Steered(each, each.absence or "it did not hear that", FAILED)
        if not received[each.worker_id]
        else Steered(each, f"told, and has not followed within {FOLLOWS_WITHIN_S:g} s", TIMED_OUT)
        if each.worker_id in left
        else Steered(each, before if each.presence.draining == draining else done)
        for each in workers
    ]


async def _busy_after(shell: Shell, worker_ids: Iterable[str], limit_s: float) -> list[WorkerInfo]:
    """The workers on which jobs still run after a time. It returns as soon as there are none."""
    left = await _await_all(
        shell, set(worker_ids), lambda worker: worker is None or not worker.presence.running, limit_s
    )
    return [each for each in await shell.pool.workers() if each.worker_id in left]


async def _await_all(
    shell: Shell, worker_ids: set[str], condition: Callable[[WorkerInfo | None], bool], limit_s: float
) -> set[str]:
    """Wait until all workers fulfil a condition.

    :param condition: gets None for a worker that has ended or is gone
    :returns: the ids of those that do not fulfil it after `limit_s`
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
            await asyncio.sleep(POLL_EVERY_S)
    return left


def _drained(steered: Steered, busy: WorkerInfo | None) -> Steered:
    if steered.code:
        return steered
    if busy is None:
        return steered._replace(outcome="drained, nothing runs there")
    jobs = f"{busy.presence.running} job{'' if busy.presence.running == 1 else 's'}"
    return steered._replace(outcome=f"draining, {jobs} still run{'s' if busy.presence.running == 1 else ''}", code=3)


def _print_outcomes(shell: Shell, steered: Sequence[Steered]) -> None:
    shell.out.document(
        {
            "workers": [
                {"id": each.worker.worker_id, "process": process_of(each.worker), "outcome": each.outcome}
                for each in steered
            ]
        }
    )
    for each in steered:
        text = f"{each.worker.worker_id}  {process_of(each.worker)}  {each.outcome}"
        shell.out.line(text, style="red" if each.code else "")
    worst = max(each.code for each in steered)
    if worst:
        raise typer.Exit(worst)


def _count(workers: Sequence[WorkerInfo]) -> str:
    return f"worker {workers[0].worker_id}" if len(workers) == 1 else f"{len(workers):,} workers"
