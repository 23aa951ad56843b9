"""What a job costs Redis that uses more than the queue: a limit, a priority, uniqueness, a flow."""

from ..stage import Stage
from .throughput import measure_backlog

JOBS = 10_000
CONCURRENCY = 10
FEATURES = ("limited", "prior", "unique", "chained")


def measure_features(stage: Stage) -> dict[str, float]:
    """Processor time of Redis a job in microseconds, enqueue and run: `plain_us`, `limited_us` and so on.

    Limits have room and priorities are equal, so each figure is the price of the option itself. `chained` jobs are
    chains of two, enqueued one flow at a time.
    """
    jobs = stage.scaled(JOBS)
    found = {"plain_us": _redis_us(measure_backlog(stage, CONCURRENCY, jobs))}
    for feature in FEATURES:
        measured = measure_backlog(stage, CONCURRENCY, jobs, "enqueue-featured", feature)
        found[f"{feature}_us"] = _redis_us(measured)
    return found


def _redis_us(measured: dict[str, float]) -> float:
    return measured["enqueue_us"] + measured["run_us"]
