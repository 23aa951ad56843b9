"""A deep backlog against a shallow one."""

import statistics

from ..draining import WAIT_LIMIT_S
from ..stage import Stage
from .throughput import measure_backlog

CONCURRENCY = 100
DEEP_BACKLOG = 1_000_000
SHALLOW_BACKLOG = 1_000
ORDINARY_BACKLOG = 20_000
SHALLOW_RUNS = 3
# The rate with a deep backlog is taken over the first jobs, while nearly all of it is still there.
WINDOW_SHARE = 5
MARK_EVERY = 1_000


def measure_depth(stage: Stage) -> dict[str, float]:
    """The deep backlog between two measurements of the shallow one, so that the machine's mood weighs less."""
    before = _shallow_jobs_per_s(stage)
    backlog = stage.scaled(DEEP_BACKLOG)
    stage.server.renew()
    stage.bench.produce("enqueue", backlog)
    with stage.bench.start("work", CONCURRENCY, backlog) as worker:
        marks_ns = stage.bench.wait_for_marker(worker, WAIT_LIMIT_S)["marks_ns"]
    marks = backlog // WINDOW_SHARE // MARK_EVERY
    return {
        "deep_per_s": marks * MARK_EVERY / ((marks_ns[marks] - marks_ns[0]) / 1e9),
        "slowest_script_ms": stage.server.slowest_script_ms(),
        "shallow_per_s": statistics.mean([before, _shallow_jobs_per_s(stage)]),
    }


def _shallow_jobs_per_s(stage: Stage) -> float:
    """A run of 1,000 jobs is over within the worker's first breath. So that this does not flatter the deep backlog, the
    faster of it and an ordinary backlog is what the deep one is held against.
    """
    shallow = [measure_backlog(stage, CONCURRENCY, SHALLOW_BACKLOG)["jobs_per_s"] for _ in range(SHALLOW_RUNS)]
    ordinary = measure_backlog(stage, CONCURRENCY, ORDINARY_BACKLOG)["jobs_per_s"]
    return max(statistics.median(shallow), ordinary)
