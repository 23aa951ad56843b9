"""A backlog of no-op jobs, queued and then run by one worker process."""

from ..machine import OtherLoad
from ..stage import Stage


def measure_throughput(stage: Stage, concurrency: int) -> dict[str, float]:
    """The row of the catalogue's backlog at this concurrency."""
    return measure_backlog(stage, concurrency, stage.scaled(stage.facts.backlog[concurrency]))


def measure_backlog(
    stage: Stage, concurrency: int, jobs: int, command: str = "enqueue", *arguments: object
) -> dict[str, float]:
    """Queue `jobs` jobs by the producer's command, then start a worker and time them.

    Returns:
        `jobs_per_s` from the first job's start to the last one's end; `enqueue_us` and `run_us`, processor time of
        Redis a job in microseconds; `queued_bytes` and `kept_bytes`, memory of Redis a queued job and a kept result;
        `rss_bytes` of the worker; `other_processors`, how many were busy with things that are no part of this.
    """
    server, bench = stage.server, stage.bench
    server.renew()
    empty_bytes, idle_cpu_s = server.memory_bytes(), server.cpu_s()
    bench.produce(command, jobs, *arguments)
    enqueued_cpu_s, queued_bytes = server.cpu_s(), server.memory_bytes()
    other_load = OtherLoad(server)
    with bench.start("work", concurrency, jobs) as worker:
        marker = bench.wait_for_marker(worker)
        other_processors = other_load.processors(worker)
        server.settle()
        run_cpu_s = server.cpu_s()
        rss_bytes = worker.rss_bytes()
    return {
        "jobs_per_s": jobs / ((marker["last_ns"] - marker["first_ns"]) / 1e9),
        "enqueue_us": (enqueued_cpu_s - idle_cpu_s) / jobs * 1e6,
        "run_us": (run_cpu_s - enqueued_cpu_s) / jobs * 1e6,
        "queued_bytes": (queued_bytes - empty_bytes) / jobs,
        "kept_bytes": (server.memory_bytes() - empty_bytes) / jobs,
        "rss_bytes": rss_bytes,
        "other_processors": other_processors,
    }
