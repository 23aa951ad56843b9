"""The rows: all that can be measured, by the name that `--only` takes. One file for each subject."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from ..catalogue import LEVELS, OURS, PeerFacts
from ..stage import Stage
from .chords import measure_batch, measure_chord
from .depth import measure_depth
from .failing import measure_failing
from .features import measure_features
from .fleets import measure_fleets, measure_trickle
from .idle import measure_idle_fleet
from .latency import measure_latency
from .producing import measure_producing
from .recycling import measure_recycling
from .sleepers import measure_sleepers
from .throughput import measure_throughput
from .units import measure_units


@dataclass(frozen=True)
class Row:
    """One measurement.

    Attributes:
        name: what `--only` and results.json call it.
        about: one line for `--help` and the progress.
        measure: takes it once; returns figures by name, none where the queue has no such thing.
        applies: whether it can be taken of a queue.
        once: whether it is taken once a run; otherwise `--repeat` times, of which the median counts.
        large: whether it takes minutes, so that only `--full` or its name asks for it.
    """

    name: str
    about: str
    measure: Callable[[Stage], dict[str, float]]
    applies: Callable[[PeerFacts], bool]
    once: bool = False
    large: bool = False


def _is_ours(facts: PeerFacts) -> bool:
    return facts.key == OURS


def _has_chords(facts: PeerFacts) -> bool:
    return facts.chord_jobs > 0


def _everyone(_: PeerFacts) -> bool:
    return True


def _runs_at(level: int) -> Callable[[PeerFacts], bool]:
    return lambda facts: level in facts.backlog


def at(level: int) -> str:
    """The name of the throughput row at this concurrency."""
    return f"at-{level}"


ROWS = (
    Row("units", "an idle PING and EVALSHA of `return 1`, in processor time of Redis", measure_units, _is_ours),
    *(
        Row(
            at(level),
            f"no-op jobs, one worker at concurrency {level}: jobs/s and processor time of Redis",
            partial(measure_throughput, concurrency=level),
            _runs_at(level),
        )
        for level in LEVELS
    ),
    Row("fleets", "2, 8 and 40 workers of 10 slots, a short queue refilled by bursts", measure_fleets, _is_ours),
    Row("trickle", "500 jobs/s in bursts of 5 for 2, 8 and 40 workers: processor time", measure_trickle, _is_ours),
    Row("failing", "failing jobs against no-op jobs, at concurrency 100", measure_failing, _is_ours),
    Row("features", "jobs with a limit, a priority, uniqueness, in a chain: against plain", measure_features, _is_ours),
    Row("recycling", "jobs of 20 ms, 500 a process, against processes that stay", measure_recycling, _is_ours),
    Row("producing", "enqueues per second: one after the other, concurrently, in bulk", measure_producing, _everyone),
    Row("chord", "a chord of no-op jobs, call to result", measure_chord, _has_chords),
    Row("batch", "the jobs of the chord without one", measure_batch, _is_ours),
    Row("latency", "start and result of a job on an idle queue, in idle PINGs", measure_latency, _everyone, once=True),
    Row("idle", "an idle fleet of 100 workers: commands and processor time", measure_idle_fleet, _is_ours, once=True),
    Row("depth", "a backlog of 1,000,000 against 1,000", measure_depth, _is_ours, once=True, large=True),
    Row("sleepers", "10,000 sleeping jobs in one worker", measure_sleepers, _is_ours, once=True, large=True),
)


def rows_named(names: list[str]) -> list[Row]:
    """The rows of these names, in the order of `ROWS`.

    Raises:
        ValueError: a name is unknown.
    """
    known = [row.name for row in ROWS]
    if unknown := [name for name in names if name not in known]:
        raise ValueError(f"expected rows among {', '.join(known)}, got {', '.join(unknown)}")
    return [row for row in ROWS if row.name in names]
