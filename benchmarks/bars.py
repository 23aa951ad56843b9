"""The bars of the project's budget, as pure functions of the figures.

Nearly all are ratios to something of the same run: BullMQ, arq, a PING, our own engine without what the bar is about.
Figures of a machine say little; their ratios hold on a slow one as well.
"""

from dataclasses import dataclass

from .catalogue import ARQ, ARQ_TUNED, BULLMQ, OURS
from .figures import Figures, ratio, total
from .rows import at

KIB = 1024
THROUGHPUT_OF_BULLMQ = {1: 1.1, 10: 1.6, 100: 2.3}
REDIS_TIME_OF_BULLMQ = {1: 0.75, 10: 0.40, 100: 0.25}


@dataclass(frozen=True)
class Bar:
    """One bar: what, the limit and what was measured in words, the figures behind it, and whether it held (None: not
    measured).
    """

    what: str
    limit: str
    measured: str
    figures: str
    held: bool | None


def all_bars(figures: Figures) -> list[Bar]:
    """Every bar; one whose row was not taken is unmeasured."""
    return [
        *_bars_against_peers(figures),
        *_fleet_bars(figures),
        *_latency_bars(figures),
        *_producer_bars(figures),
        *_cost_bars(figures),
        *_large_bars(figures),
    ]


def redis_us(figures: Figures, key: str, level: int) -> float | None:
    """Processor time of Redis a job, enqueue and run together."""
    return total(figures.median(at(level), key, "enqueue_us"), figures.median(at(level), key, "run_us"))


def _bars_against_peers(figures: Figures) -> list[Bar]:
    def rate(key: str, level: int) -> float | None:
        return figures.median(at(level), key, "jobs_per_s")

    return [
        *(
            _share(f"throughput at {level} ÷ BullMQ", rate(OURS, level), rate(BULLMQ, level), at_least=limit)
            for level, limit in THROUGHPUT_OF_BULLMQ.items()
        ),
        _share("throughput at 100 ÷ tuned arq", rate(OURS, 100), rate(ARQ_TUNED, 100), at_least=15.0),
        _share("throughput at 100 ÷ arq", rate(OURS, 100), rate(ARQ, 100), at_least=20.0),
        *(
            _share(
                f"Redis time a job at {level} ÷ BullMQ",
                redis_us(figures, OURS, level),
                redis_us(figures, BULLMQ, level),
                at_most=limit,
                unit=" µs",
            )
            for level, limit in REDIS_TIME_OF_BULLMQ.items()
        ),
    ]


def _fleet_bars(figures: Figures) -> list[Bar]:
    def ours(row: str, name: str) -> float | None:
        return figures.median(row, OURS, name)

    two = ours("fleets", "jobs_per_s_2")
    return [
        _share("8 workers of 10 slots ÷ 2", ours("fleets", "jobs_per_s_8"), two, at_least=0.95),
        _share("40 workers of 10 slots ÷ 2", ours("fleets", "jobs_per_s_40"), two, at_least=0.95),
        _share("failing jobs ÷ no-op", ours("failing", "failing_per_s"), ours("failing", "noop_per_s"), at_least=0.4),
        _share(
            "recycling at 500 jobs of 20 ms ÷ without",
            ours("recycling", "recycled_per_s"),
            ours("recycling", "steady_per_s"),
            at_least=0.9,
        ),
        _share(
            "chord of 10,000 ÷ the same jobs without one",
            ours("chord", "jobs_per_s"),
            ours("batch", "jobs_per_s"),
            at_least=0.7,
        ),
    ]


def _latency_bars(figures: Figures) -> list[Bar]:
    def ours(name: str) -> float | None:
        return figures.median("latency", OURS, name)

    ping, start, result = ours("ping_p50_ms"), ours("start_p50_ms"), ours("result_p50_ms")
    return [
        _share("start p50 ÷ idle PING p50", start, ping, at_most=2.2, unit=" ms"),
        _share("result p50 ÷ idle PING p50", result, ping, at_most=3.5, unit=" ms"),
        _share("start p99 ÷ p50", ours("start_p99_ms"), start, at_most=5.0, unit=" ms"),
        _share("result p99 ÷ p50", ours("result_p99_ms"), result, at_most=5.0, unit=" ms"),
    ]


def _producer_bars(figures: Figures) -> list[Bar]:
    def rate(key: str, way: str) -> float | None:
        return figures.median("producing", key, f"{way}_per_s")

    # The client's own PINGs, one after the other: what the machine and the client make of a round trip.
    of_ping = figures.median("producing", OURS, "enqueue_per_ping")
    of_enqueue = figures.median("producing", OURS, "sync_per_enqueue")
    return [
        _value("sequential enqueue_job ÷ sequential PING", of_ping, "{:.2f}", at_least=0.75),
        _value("SyncPool.enqueue_job ÷ sequential enqueue_job", of_enqueue, "{:.2f}", at_least=0.60),
        _share("enqueue_many ÷ BullMQ's addBulk", rate(OURS, "bulk"), rate(BULLMQ, "bulk"), at_least=4.0),
        _share("concurrent enqueue_job ÷ BullMQ's add", rate(OURS, "gather"), rate(BULLMQ, "gather"), at_least=1.3),
    ]


def _cost_bars(figures: Figures) -> list[Bar]:
    return [
        _value(
            "what an idle worker costs Redis, of a core",
            figures.median("idle", OURS, "redis_share_of_worker"),
            "{:.4%}",
            at_most=0.0002,
        ),
    ]


def _large_bars(figures: Figures) -> list[Bar]:
    def ours(row: str, name: str) -> float | None:
        return figures.median(row, OURS, name)

    deep, shallow = ours("depth", "deep_per_s"), ours("depth", "shallow_per_s")
    return [
        _share("throughput, backlog 1,000,000 ÷ 1,000", deep, shallow, at_least=0.85),
        _value("slowest script, backlog 1,000,000", ours("depth", "slowest_script_ms"), "{:.1f} ms", at_most=10.0),
        _value("memory of a sleeping job", ours("sleepers", "bytes_each"), "{:,.0f} bytes", at_most=20 * KIB),
        _value("shortest lease left", ours("sleepers", "shortest_lease_left_ms"), "{:,.0f} ms", at_least=1.0),
    ]


def _share(
    what: str,
    numerator: float | None,
    denominator: float | None,
    *,
    at_least: float | None = None,
    at_most: float | None = None,
    unit: str = "/s",
) -> Bar:
    """A bar for a ratio; the two figures follow it."""
    bar = _value(what, ratio(numerator, denominator), "{:.2f}", at_least=at_least, at_most=at_most)
    figures = " ÷ ".join(figure_text(value, unit) for value in (numerator, denominator))
    return Bar(bar.what, bar.limit, bar.measured, figures, bar.held)


def _value(
    what: str, value: float | None, form: str, *, at_least: float | None = None, at_most: float | None = None
) -> Bar:
    """A bar with one limit."""
    if at_least is not None:
        limit, held = "≥ " + form.format(at_least), None if value is None else value >= at_least
    else:
        limit, held = "≤ " + form.format(at_most), None if value is None else value <= at_most
    return Bar(what, limit, "—" if value is None else form.format(value), "", held)


def figure_text(value: float | None, unit: str) -> str:
    """A figure with as many digits as mean something."""
    if value is None:
        return "—"
    return f"{value:,.0f}{unit}" if value >= 100 else f"{value:.3g}{unit}"
