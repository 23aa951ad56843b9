"""What the other figures are held against: the cheapest call, and the cheapest script, of this run's server."""

import time

from ..stage import Stage

CALLS = 10_000
PIPED_CALLS = 100_000
# As a busy worker's calls come: so what a call costs the server shows, and not how deep the machine sleeps between two.
PIPE = 100
WARM_UP_CALLS = 500


def measure_units(stage: Stage) -> dict[str, float]:
    """Processor time of Redis a call in microseconds, by a blocking client.

    Returns:
        `ping_us` and `return_1_us` of a PING and an EVALSHA of `return 1`, 100 in a pipeline; `lone_ping_us` and
        `lone_return_1_us` of calls one after the other, and how many there were in a second (`lone_pings_per_s`).
    """
    stage.server.renew()
    digest = stage.server.client.script_load("return 1")
    found = {}
    for name, call in (("ping", ("PING",)), ("return_1", ("EVALSHA", digest, 0))):
        _call(stage, call, WARM_UP_CALLS, 1)
        found[f"lone_{name}_us"], found[f"lone_{name}s_per_s"] = _cost(stage, call, stage.scaled(CALLS), 1)
        found[f"{name}_us"], _ = _cost(stage, call, stage.scaled(PIPED_CALLS), PIPE)
    return found


def _cost(stage: Stage, call: tuple[object, ...], calls: int, pipe: int) -> tuple[float, float]:
    cpu_s, started = stage.server.cpu_s(), time.perf_counter()
    _call(stage, call, calls, pipe)
    seconds = time.perf_counter() - started
    return (stage.server.cpu_s() - cpu_s) / calls * 1e6, calls / seconds


def _call(stage: Stage, call: tuple[object, ...], calls: int, pipe: int) -> None:
    client = stage.server.client
    for _ in range(calls // pipe):
        if pipe == 1:
            client.execute_command(*call)
            continue
        with client.pipeline(transaction=False) as together:
            for _ in range(pipe):
                together.execute_command(*call)
            together.execute()
