"""Workers as commands show them: which of them a name chooses, and what each is doing."""

from collections.abc import Iterable, Sequence

from ..protocol.presence import WorkerInfo
from .shell import FAILED, Shell, Stop

__all__ = ("chosen_workers", "process_of", "read_workers", "state_of")


async def read_workers(shell: Shell) -> list[WorkerInfo]:
    """The workers of --queue, or all."""
    workers = await shell.pool.workers()
    return [each for each in workers if shell.chosen_queue in (None, *each.presence.queues)]


def chosen_workers(workers: Sequence[WorkerInfo], names: Iterable[str]) -> list[WorkerInfo]:
    """The workers of some names, each once.

    :param names: ids, beginnings of ids, or host:pid
    :raises Stop: no worker has the name, or several have it
    """
    found: dict[str, WorkerInfo] = {}
    for name in names:
        fitting = [each for each in workers if name in (each.worker_id, process_of(each))]
        fitting = fitting or [each for each in workers if each.worker_id.startswith(name)]
        if not fitting:
            raise Stop(f"there is no worker {name!r}: arqestra workers list says which there are", FAILED)
        if len(fitting) > 1:
            ids = ", ".join(each.worker_id for each in fitting)
            raise Stop(f"expected one worker, {name!r} may be {ids}", FAILED)
        found[fitting[0].worker_id] = fitting[0]
    return list(found.values())


def process_of(worker: WorkerInfo) -> str:
    return f"{worker.presence.host}:{worker.presence.pid}"


def state_of(worker: WorkerInfo) -> str:
    """What a worker is doing, in one word."""
    if worker.absence is not None:
        return worker.absence
    return "draining" if worker.presence.draining else "working" if worker.presence.running else "idle"
