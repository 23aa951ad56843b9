"""How long a job waits for its start, and its caller for the result, when nothing else is going on."""

import statistics

from ..catalogue import OURS
from ..draining import NOT_COUNTED
from ..stage import Stage

CONCURRENCY = 10
JOBS = 400
QUICK_JOBS = 100
# Celery, RQ and the polling ones answer a few times a second; the limit keeps them from holding up the run.
LIMIT_S = 15.0


def measure_latency(stage: Stage) -> dict[str, float]:
    """Percentiles of `start`, `result` and, of ours, an idle `ping` in milliseconds, and how many samples there are."""
    found = _percentiles(stage, "start", "latency") | _percentiles(stage, "result", "result-latency")
    return found | _percentiles(stage, "ping", "ping-latency") if stage.facts.key == OURS else found


def _percentiles(stage: Stage, name: str, command: str) -> dict[str, float]:
    """Of up to so many jobs, one at a time, with an idle worker."""
    stage.server.renew()
    variables = {"BENCH_RESULT_WAITED": "1"} if command == "result-latency" else {}
    with stage.bench.start("work", CONCURRENCY, NOT_COUNTED, variables=variables) as worker:
        jobs = QUICK_JOBS if stage.quick else JOBS
        answer = stage.bench.produce(command, jobs, LIMIT_S, variables=variables)
        worker.rss_bytes()
    samples = sorted(answer.get("samples_ns", ()))
    if not samples:
        return {}
    p99 = samples[round(0.99 * (len(samples) - 1))]
    return {
        f"{name}_p50_ms": statistics.median(samples) / 1e6,
        f"{name}_p99_ms": p99 / 1e6,
        f"{name}_samples": len(samples),
    }
