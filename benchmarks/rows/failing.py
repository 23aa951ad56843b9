"""A storm of failures: what an incident looks like."""

from ..stage import Stage
from .throughput import measure_backlog

JOBS = 20_000
CONCURRENCY = 100


def measure_failing(stage: Stage) -> dict[str, float]:
    """Jobs that fail at their only try, against as many no-op jobs, in turn: jobs/s and processor time of Redis."""
    jobs = stage.scaled(JOBS)
    found = {}
    for name, command in (("noop", "enqueue"), ("failing", "enqueue-failing")):
        measured = measure_backlog(stage, CONCURRENCY, jobs, command)
        found |= {f"{name}_per_s": measured["jobs_per_s"], f"{name}_run_us": measured["run_us"]}
    return found
