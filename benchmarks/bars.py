"""The bars of the project's budget, as pure functions of the results."""

from dataclasses import dataclass

from .catalogue import ARQ, BULLMQ, OURS
from .engine_only import EngineResults
from .measurements import PeerResults
from .session import SessionResults

KIB = 1024


@dataclass(frozen=True)
class Bar:
    """One bar: what, the limit in words, what was measured in words, and whether it held (None: not measured)."""

    what: str
    limit: str
    measured: str
    held: bool | None


def all_bars(results: SessionResults) -> list[Bar]:
    """Every bar; without our own results all of them are unmeasured."""
    peers = results.peers
    ours = peers.get(OURS) or PeerResults(OURS, "arqestra", "", "", "")
    bars = [*_speed_bars(peers, ours), *_latency_bars(ours), *_producer_bars(ours), _cpu_bar(ours), _chord_bar(ours)]
    return [*bars, *_engine_bars(results.engine)] if results.engine is not None else bars


def _at_least(what: str, value: float | None, limit: float, form: str) -> Bar:
    held = None if value is None else value >= limit
    return Bar(what, "≥ " + form.format(limit), "—" if value is None else form.format(value), held)


def _at_most(what: str, value: float | None, limit: float, form: str) -> Bar:
    held = None if value is None else value <= limit
    return Bar(what, "≤ " + form.format(limit), "—" if value is None else form.format(value), held)


def ratio(numerator: float | None, denominator: float | None) -> float | None:
    """Their quotient, None if either was not measured."""
    return numerator / denominator if numerator is not None and denominator else None


def _speed_bars(peers: dict[str, PeerResults], ours: PeerResults) -> list[Bar]:
    def against(key: str) -> float | None:
        theirs = peers[key].median_at(100, "jobs_per_s") if key in peers else None
        return ratio(ours.median_at(100, "jobs_per_s"), theirs)

    return [
        _at_least("throughput at 100, ours ÷ arq", against(ARQ), 20.0, "{:.1f}x"),
        _at_least("throughput at 100, ours ÷ BullMQ", against(BULLMQ), 1.2, "{:.2f}x"),
    ]


def _latency_bars(ours: PeerResults) -> list[Bar]:
    start, result = ours.start_latency, ours.result_latency
    return [
        _at_most("start latency, idle, p50", start and start.p50_ms, 1.0, "{:.2f} ms"),
        _at_most("start latency, idle, p99", start and start.p99_ms, 5.0, "{:.2f} ms"),
        _at_most("enqueue and wait for the result, idle, p50", result and result.p50_ms, 2.0, "{:.2f} ms"),
    ]


def _producer_bars(ours: PeerResults) -> list[Bar]:
    share = ours.median_enqueue_per_ping()
    return [
        _at_least("sequential enqueue_job ÷ sequential PING", share, 0.75, "{:.0%}"),
        _at_least("enqueue_many", ours.rate("bulk"), 50_000, "{:,.0f}/s"),
        _at_least("gather of enqueue_job", ours.rate("gather"), 25_000, "{:,.0f}/s"),
    ]


def _chord_bar(ours: PeerResults) -> Bar:
    share = ratio(ours.rate("chord"), ours.rate("batch"))
    return _at_least("chord of 10,000 ÷ the same jobs without one", share, 0.5, "{:.0%}")


def _cpu_bar(ours: PeerResults) -> Bar:
    enqueue, run = ours.median_at(100, "enqueue_cpu_us"), ours.median_at(100, "run_cpu_us")
    both = None if enqueue is None or run is None else enqueue + run
    return _at_most("Redis processor time a job, enqueue and run", both, 25.0, "{:.1f} µs")


def _engine_bars(engine: EngineResults) -> list[Bar]:
    depth = ratio(engine.deep_jobs_per_s, engine.shallow_jobs_per_s)
    fleet = ratio(engine.forty_workers_jobs_per_s, engine.two_workers_jobs_per_s)
    return [
        _at_least("throughput, backlog 1,000,000 ÷ 1,000", depth, 0.85, "{:.0%}"),
        _at_most("slowest script, backlog 1,000,000", engine.slowest_script_ms, 10.0, "{:.1f} ms"),
        _at_most("memory of a sleeping job in flight", engine.sleeper_bytes, 20 * KIB, "{:,.0f} bytes"),
        _at_least("shortest lease left, 10,000 in flight", engine.shortest_lease_left_ms, 1.0, "{:,.0f} ms"),
        _at_least("throughput, 40 workers ÷ 2", fleet, 1.0, "{:.2f}x"),
    ]
