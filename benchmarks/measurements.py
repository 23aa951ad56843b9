"""The measurements that every peer takes, one function each."""

import statistics
from dataclasses import dataclass, field

from .catalogue import PeerFacts
from .machine import OtherLoad
from .processes import Bench
from .server import BenchmarkServer

LATENCY_CONCURRENCY = 10
NOT_COUNTED = 0
CHORD_CONCURRENCY = 100


@dataclass(frozen=True)
class ThroughputRun:
    """One backlog, queued and then run by one worker process.

    `queued_bytes` and `kept_bytes` are Redis memory per queued job and per kept result; `other_processors` is how many
    processors were busy with things that are no part of the measurement.
    """

    concurrency: int
    jobs: int
    jobs_per_s: float
    enqueue_cpu_us: float
    run_cpu_us: float
    queued_bytes: float
    kept_bytes: float
    worker_rss_bytes: int
    other_processors: float


@dataclass(frozen=True)
class Latency:
    """Percentiles in milliseconds of `samples` jobs on an idle queue."""

    samples: int
    p50_ms: float
    p99_ms: float


@dataclass
class PeerResults:
    """All that was measured of one peer; None and empty where it was not or cannot be."""

    key: str
    title: str
    version: str
    unit: str
    note: str
    throughput: list[ThroughputRun] = field(default_factory=list)
    start_latency: Latency | None = None
    result_latency: Latency | None = None
    ping_latency: Latency | None = None
    rates_per_s: dict[str, list[float]] = field(default_factory=dict)
    enqueue_per_ping: list[float] = field(default_factory=list)

    def runs_at(self, concurrency: int) -> list[ThroughputRun]:
        """The runs at this concurrency; of a peer that has only one, those."""
        levels = {run.concurrency for run in self.throughput}
        wanted = concurrency if concurrency in levels or len(levels) != 1 else next(iter(levels))
        return [run for run in self.throughput if run.concurrency == wanted]

    def median_at(self, concurrency: int, figure: str) -> float | None:
        """The median of one figure of the runs at this concurrency."""
        runs = self.runs_at(concurrency)
        return statistics.median(getattr(run, figure) for run in runs) if runs else None

    def rate(self, way: str) -> float | None:
        """The median rate of `sequential`, `gather`, `bulk`, `ping`, `chord` or `batch`."""
        rates = self.rates_per_s.get(way)
        return statistics.median(rates) if rates else None

    def median_enqueue_per_ping(self) -> float | None:
        """The median of sequential enqueues per second divided by sequential PINGs per second."""
        return statistics.median(self.enqueue_per_ping) if self.enqueue_per_ping else None


def measure_throughput(server: BenchmarkServer, bench: Bench, concurrency: int, jobs: int) -> ThroughputRun:
    """Queue `jobs` no-op jobs, then start a worker and time them from the first one's start to the last one's end."""
    server.renew()
    empty_bytes, idle_cpu_s = server.memory_bytes(), server.cpu_s()
    bench.produce("enqueue", jobs)
    enqueued_cpu_s, queued_bytes = server.cpu_s(), server.memory_bytes()
    other_load = OtherLoad(server)
    with bench.start("work", concurrency, jobs) as worker:
        marker = bench.wait_for_marker(worker)
        other_processors = other_load.processors(worker)
        server.settle()
        run_cpu_s = server.cpu_s()
        rss_bytes = worker.rss_bytes()
    return ThroughputRun(
        concurrency=concurrency,
        jobs=jobs,
        jobs_per_s=jobs / ((marker["last_ns"] - marker["first_ns"]) / 1e9),
        enqueue_cpu_us=(enqueued_cpu_s - idle_cpu_s) / jobs * 1e6,
        run_cpu_us=(run_cpu_s - enqueued_cpu_s) / jobs * 1e6,
        queued_bytes=(queued_bytes - empty_bytes) / jobs,
        kept_bytes=(server.memory_bytes() - empty_bytes) / jobs,
        worker_rss_bytes=rss_bytes,
        other_processors=other_processors,
    )


def measure_latency(server: BenchmarkServer, bench: Bench, command: str, jobs: int, limit_s: float) -> Latency | None:
    """`latency`, `result-latency` or `ping-latency` of up to `jobs` jobs, one at a time, with an idle worker."""
    server.renew()
    variables = {"BENCH_RESULT_WAITED": "1"} if command == "result-latency" else {}
    with bench.start("work", LATENCY_CONCURRENCY, NOT_COUNTED, variables=variables) as worker:
        answer = bench.produce(command, jobs, limit_s, variables=variables)
        # A worker that died would leave the producer with nothing but a timeout to tell.
        worker.rss_bytes()
    samples = answer.get("samples_ns")
    return percentiles(samples) if samples else None


def percentiles(samples_ns: list[int]) -> Latency:
    """Median and 99th percentile, in milliseconds."""
    in_order = sorted(samples_ns)
    p99 = in_order[min(len(in_order) - 1, round(0.99 * (len(in_order) - 1)))]
    return Latency(len(in_order), statistics.median(in_order) / 1e6, p99 / 1e6)


def measure_rate(server: BenchmarkServer, bench: Bench, way: str, count: int) -> float | None:
    """Calls per second of `sequential`, `gather` or `bulk`; None where the peer has no such call."""
    server.renew()
    answer = bench.produce(way, count)
    return None if answer.get("unsupported") else answer["jobs"] / answer["seconds"]


def measure_chord(server: BenchmarkServer, bench: Bench, command: str, jobs: int) -> float | None:
    """Members per second of a chord (`chord`), or of the same jobs without one (`batch`), with a worker at 100."""
    server.renew()
    variables = {"BENCH_RESULT_WAITED": "1"}
    with bench.start("work", CHORD_CONCURRENCY, NOT_COUNTED, variables=variables) as worker:
        answer = bench.produce(command, jobs, variables=variables)
        worker.rss_bytes()
    return None if answer.get("unsupported") else answer["jobs"] / answer["seconds"]


def measure_against_ping(server: BenchmarkServer, bench: Bench, results: PeerResults, count: int) -> None:
    """Sequential enqueues against sequential PINGs on the same client."""
    server.renew()
    answer = bench.produce("against-ping", count)
    results.rates_per_s.setdefault("ping", []).append(answer["jobs"] / answer["ping_seconds"])
    results.enqueue_per_ping.append(answer["ping_seconds"] / answer["enqueue_seconds"])


def scaled_backlog(peer: PeerFacts, concurrency: int, quick: bool) -> int:
    """Jobs of a throughput run: the catalogue's, or a fifth of it."""
    return peer.backlog[concurrency] // 5 if quick else peer.backlog[concurrency]
