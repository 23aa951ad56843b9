"""Workers with few slots, and jobs that come in small bursts: what most fleets look like."""

from contextlib import ExitStack
from typing import Any

from ..draining import NOT_COUNTED, wait_until_connected
from ..stage import Stage

FLEETS = (2, 8, 40)
SLOTS = 10
SECONDS = 6.0
QUICK_SECONDS = 3.0

BURST = 20
# Five times the slots of 40 workers, so that a producer that waits for a processor does not let the queue run empty.
OUTSTANDING = 2_000

TRICKLE_BURST = 5
TRICKLE_JOBS_PER_S = 500


def measure_fleets(stage: Stage) -> dict[str, float]:
    """What each fleet can do while a producer keeps a short queue, by bursts: jobs per second (`jobs_per_s_2` and so
    on), and processor time of Redis a job in microseconds (`redis_us_2`).
    """
    found: dict[str, float] = {}
    for workers in FLEETS:
        answer, costs = _watch_fleet(stage, workers, "keep-filled", BURST, OUTSTANDING)
        found |= {f"jobs_per_s_{workers}": answer["jobs"] / answer["seconds"], f"redis_us_{workers}": costs["redis_us"]}
    return found


def measure_trickle(stage: Stage) -> dict[str, float]:
    """What few jobs cost when most slots are free: 500 a second in bursts of 5, by each fleet.

    Returns:
        `redis_us_2` and `workers_us_2` and so on, processor time a job in microseconds, enqueue and run; and
        `jobs_per_s_2`, which is below 500 where the machine was too busy for the producer.
    """
    found: dict[str, float] = {}
    for workers in FLEETS:
        answer, costs = _watch_fleet(stage, workers, "trickle", TRICKLE_BURST, TRICKLE_JOBS_PER_S)
        found |= {f"jobs_per_s_{workers}": answer["jobs"] / answer["seconds"]}
        found |= {f"{name}_{workers}": value for name, value in costs.items()}
    return found


def _watch_fleet(stage: Stage, workers: int, *command: object) -> tuple[dict[str, Any], dict[str, float]]:
    """The producer's answer, and processor time of Redis and of all workers a job."""
    stage.server.renew()
    with ExitStack() as stack:
        fleet = [
            stack.enter_context(stage.bench.start("work", SLOTS, NOT_COUNTED, marker=f"fleet-{number}"))
            for number in range(workers)
        ]
        wait_until_connected(stage.server, fleet)
        redis_s, workers_s = stage.server.cpu_s(), sum(worker.cpu_s() for worker in fleet)
        answer = stage.bench.produce(*command, QUICK_SECONDS if stage.quick else SECONDS)
        redis_s, workers_s = stage.server.cpu_s() - redis_s, sum(worker.cpu_s() for worker in fleet) - workers_s
    jobs = answer["all_jobs"]
    return answer, {"redis_us": redis_s / jobs * 1e6, "workers_us": workers_s / jobs * 1e6}
