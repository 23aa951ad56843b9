"""What workers that have nothing to do cost Redis."""

import time

from ..draining import wait_until_connected
from ..stage import Stage

WORKERS = 100
WATCHED_S = 60.0
QUICK_WATCHED_S = 10.0
SERVER_ALONE_S = 10.0
QUICK_SERVER_ALONE_S = 5.0


def measure_idle_fleet(stage: Stage) -> dict[str, float]:
    """A hundred idle workers, in one process so that any machine has room for them; Redis sees a hundred.

    Returns:
        `commands_per_min` of the fleet; `redis_share_of_worker`, what one worker costs Redis as a share of a core,
        without what the server uses alone; `fleet_share`, the same of the process with all the workers.
    """
    server = stage.server
    server.renew()
    alone = _server_cpu_share(stage, QUICK_SERVER_ALONE_S if stage.quick else SERVER_ALONE_S)
    watched_s = QUICK_WATCHED_S if stage.quick else WATCHED_S
    with stage.bench.start("idle-fleet", WORKERS) as fleet:
        wait_until_connected(server, [fleet], clients_each=WORKERS)
        commands, fleet_cpu_s = _commands(stage), fleet.cpu_s()
        started = time.perf_counter()
        share = _server_cpu_share(stage, watched_s)
        seconds = time.perf_counter() - started
        # Less the calls of INFO that the watching itself takes.
        commands = _commands(stage) - commands - 3
        fleet_cpu_s = fleet.cpu_s() - fleet_cpu_s
    return {
        "commands_per_min": commands / seconds * 60,
        "redis_share_of_worker": max(0.0, share - alone) / WORKERS,
        "fleet_share": fleet_cpu_s / seconds,
    }


def _server_cpu_share(stage: Stage, seconds: float) -> float:
    before, started = stage.server.cpu_s(), time.perf_counter()
    time.sleep(seconds)
    return (stage.server.cpu_s() - before) / (time.perf_counter() - started)


def _commands(stage: Stage) -> int:
    return stage.server.client.info("stats")["total_commands_processed"]
