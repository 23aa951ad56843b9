"""Many jobs and one that waits for all of them."""

from ..draining import NOT_COUNTED
from ..stage import Stage

CONCURRENCY = 100


def measure_chord(stage: Stage) -> dict[str, float]:
    """Members per second of a chord, from the call to the body's result in hand, with a worker that waits."""
    return _members_per_s(stage, "chord")


def measure_batch(stage: Stage) -> dict[str, float]:
    """The same jobs without a chord."""
    return _members_per_s(stage, "batch")


def _members_per_s(stage: Stage, command: str) -> dict[str, float]:
    stage.server.renew()
    variables = {"BENCH_RESULT_WAITED": "1"}
    with stage.bench.start("work", CONCURRENCY, NOT_COUNTED, variables=variables) as worker:
        answer = stage.bench.produce(command, stage.scaled(stage.facts.chord_jobs), variables=variables)
        # A worker that died would leave the producer with nothing but a timeout to tell.
        worker.rss_bytes()
    return {} if answer.get("unsupported") else {"jobs_per_s": answer["jobs"] / answer["seconds"]}
