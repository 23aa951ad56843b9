"""Worker processes that the supervisor replaces when they have run many jobs, against processes that stay."""

from ..draining import drained_per_s, hide_queue, show_queue, wait_until_connected
from ..stage import Stage

JOBS = 20_000
JOB_S = 0.02
PROCESSES = 2
CONCURRENCY = 50
JOBS_A_CHILD = 500
NEVER = 0


def measure_recycling(stage: Stage) -> dict[str, float]:
    """Jobs per second with recycling (`recycled_per_s`) and without (`steady_per_s`)."""
    return {"steady_per_s": _jobs_per_s(stage, NEVER), "recycled_per_s": _jobs_per_s(stage, JOBS_A_CHILD)}


def _jobs_per_s(stage: Stage, jobs_a_child: int) -> float:
    jobs = stage.scaled(JOBS)
    stage.server.renew()
    stage.bench.produce("enqueue-sleepers", jobs, JOB_S)
    hide_queue(stage.server)
    with stage.bench.start("supervise", CONCURRENCY, PROCESSES, jobs_a_child) as supervisor:
        wait_until_connected(stage.server, [supervisor], clients_each=PROCESSES)
        show_queue(stage.server)
        return drained_per_s(stage.server, [supervisor], jobs * 9 // 10, jobs // 10)
