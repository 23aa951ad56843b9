"""How fast one producer enqueues."""

from ..catalogue import OURS
from ..stage import Stage

SEQUENTIAL_CALLS = 3_000


def measure_producing(stage: Stage) -> dict[str, float]:
    """Jobs per second by each way that the queue has. Of ours also, each in turns with sequential enqueues: PINGs, and
    enqueues without asyncio.
    """
    sequential = stage.scaled(SEQUENTIAL_CALLS)
    many = stage.scaled(stage.facts.enqueue_jobs)
    found = {}
    for way, count in {"sequential": sequential, "gather": many, "bulk": many}.items():
        stage.server.renew()
        answer = stage.bench.produce(way, count)
        if not answer.get("unsupported"):
            found[f"{way}_per_s"] = answer["jobs"] / answer["seconds"]
    if stage.facts.key == OURS:
        found |= _against_ping(stage, sequential) | _against_sync(stage, sequential)
    return found


def _against_ping(stage: Stage, count: int) -> dict[str, float]:
    stage.server.renew()
    answer = stage.bench.produce("against-ping", count)
    return {
        "ping_per_s": answer["jobs"] / answer["ping_seconds"],
        "enqueue_per_ping": answer["ping_seconds"] / answer["enqueue_seconds"],
    }


def _against_sync(stage: Stage, count: int) -> dict[str, float]:
    stage.server.renew()
    answer = stage.bench.produce("against-sync", count)
    return {
        "sync_per_s": answer["jobs"] / answer["sync_seconds"],
        "sync_per_enqueue": answer["enqueue_seconds"] / answer["sync_seconds"],
    }
