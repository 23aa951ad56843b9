"""How fast one producer enqueues."""

from ..catalogue import OURS
from ..stage import Stage

SEQUENTIAL_CALLS = 3_000


def measure_producing(stage: Stage) -> dict[str, float]:
    """Jobs per second by each way that the queue has; of ours also PINGs, in turns with sequential enqueues."""
    sequential = stage.scaled(SEQUENTIAL_CALLS)
    many = stage.scaled(stage.facts.enqueue_jobs)
    found = {}
    for way, count in {"sequential": sequential, "gather": many, "bulk": many}.items():
        stage.server.renew()
        answer = stage.bench.produce(way, count)
        if not answer.get("unsupported"):
            found[f"{way}_per_s"] = answer["jobs"] / answer["seconds"]
    return found | _against_ping(stage, sequential) if stage.facts.key == OURS else found


def _against_ping(stage: Stage, count: int) -> dict[str, float]:
    stage.server.renew()
    answer = stage.bench.produce("against-ping", count)
    return {
        "ping_per_s": answer["jobs"] / answer["ping_seconds"],
        "enqueue_per_ping": answer["ping_seconds"] / answer["enqueue_seconds"],
    }
