"""What the other figures are held against: the cheapest call, and the cheapest script, of this run's server."""

import time
from collections.abc import Callable

from ..stage import Stage

CALLS = 10_000
WARM_UP_CALLS = 500


def measure_units(stage: Stage) -> dict[str, float]:
    """Processor time of Redis and rate of sequential PINGs and EVALSHAs of `return 1`, by a blocking client."""
    stage.server.renew()
    client = stage.server.client
    digest = client.script_load("return 1")
    calls = stage.scaled(CALLS)
    ping = _cost(stage, client.ping, calls)
    script = _cost(stage, lambda: client.evalsha(digest, 0), calls)
    return {"ping_us": ping[0], "pings_per_s": ping[1], "return_1_us": script[0], "return_1_per_s": script[1]}


def _cost(stage: Stage, call: Callable[[], object], calls: int) -> tuple[float, float]:
    for _ in range(WARM_UP_CALLS):
        call()
    cpu_s, started = stage.server.cpu_s(), time.perf_counter()
    for _ in range(calls):
        call()
    seconds = time.perf_counter() - started
    return (stage.server.cpu_s() - cpu_s) / calls * 1e6, calls / seconds
