"""Metrics as text, in Prometheus' formats. Needs the package prometheus-client: `pip install "arqestra[metrics]"`.

Pure functions make metric families of a snapshot of the fleet (`fleet.py`), or of the metrics of worker processes
(`process_metrics.py`). Both count jobs under the same names: `METRICS` lists them all.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.core import Metric as Family
from prometheus_client.exposition import choose_encoder

from ..protocol.histogram import BOUNDS_MS
from ..store.queues import QueueSurvey
from ..store.statistics import totals_of
from .fleet import FleetSnapshot
from .metrics import METRICS
from .process_metrics import Counters, WorkerMetrics

__all__ = ("Exposition", "families_of_fleet", "families_of_processes", "families_without_redis", "text_of")

OUTCOMES = ("complete", "failed", "aborted", "expired")
COUNTED_BY_WORKERS = (*OUTCOMES, "retried", "recovered")  # only a worker counts these, and it knows its functions
MAX_UNKNOWN = 1_000  # functions shown of which no attempt has ended: a producer may send any name
BOUNDS = (*(str(bound_ms / 1000) for bound_ms in BOUNDS_MS), "+Inf")
Row = Mapping[str, Any]


class Exposition(NamedTuple):
    """The answer to a scrape."""

    body: bytes
    content_type: str


class _Families:
    """Families in the order of their first samples; `METRICS` describes them."""

    def __init__(self) -> None:
        self.made: dict[str, Family] = {}

    def add(self, name: str, value: float, *labels: str) -> None:
        """Add a sample of a counter or gauge."""
        family = self._of(name)
        assert isinstance(family, CounterMetricFamily | GaugeMetricFamily)
        family.add_metric(labels, value)

    def add_histogram(self, name: str, counts: Sequence[int], sum_s: float, *labels: str) -> None:
        """Add a histogram. `counts` has the number in each bucket; Prometheus wants them cumulative."""
        family = self._of(name)
        assert isinstance(family, HistogramMetricFamily)
        buckets, so_far = [], 0
        for bound, count in zip(BOUNDS, counts, strict=True):
            so_far += count
            buckets.append((bound, so_far))
        family.add_metric(labels, buckets, sum_s)

    def _of(self, name: str) -> Family:
        family = self.made.get(name)
        if family is None:
            kinds = {"counter": CounterMetricFamily, "gauge": GaugeMetricFamily, "histogram": HistogramMetricFamily}
            metric = METRICS[name]
            family = self.made[name] = kinds[metric.kind](name, metric.text, labels=metric.labels)
        return family


def families_without_redis() -> list[Family]:
    """The metrics while Redis does not answer."""
    families = _Families()
    families.add("arqestra_up", 0)
    return list(families.made.values())


def families_of_fleet(snapshot: FleetSnapshot) -> list[Family]:
    """The metrics of the whole fleet."""
    families = _Families()
    families.add("arqestra_up", 1)
    _add_jobs(families, snapshot.totals)
    for queue in snapshot.queues:
        _add_queue(families, queue, snapshot.served.get(queue.name, 0))
    for home in snapshot.schedules:
        families.add("arqestra_schedules", home.schedules, home.queue)
        families.add("arqestra_schedules_overdue", home.overdue, home.queue)
        families.add("arqestra_schedule_lateness_seconds", home.lateness_ms / 1000, home.queue)
    families.add("arqestra_workers", sum(worker.alive for worker in snapshot.workers))
    _add_workers(families, snapshot.workers)
    return list(families.made.values())


def families_of_processes(counters: Counters, workers: Iterable[WorkerMetrics]) -> list[Family]:
    """The metrics of one worker process, or of the processes of one supervisor."""
    families = _Families()
    _add_jobs(families, totals_of(counters))
    _add_workers(families, workers)
    return list(families.made.values())


def _add_jobs(families: _Families, rows: Iterable[Row]) -> None:
    unknown = 0
    for row in rows:
        labels = row["queue"], row["function"]
        is_known = any(row[name] for name in COUNTED_BY_WORKERS)
        unknown += not is_known
        if not is_known and unknown > MAX_UNKNOWN:
            continue
        families.add("arqestra_jobs_enqueued_total", row["enqueued"], *labels)
        for outcome in OUTCOMES:
            families.add("arqestra_jobs_finished_total", row[outcome], *labels, outcome)
        families.add("arqestra_jobs_retried_total", row["retried"], *labels)
        families.add("arqestra_jobs_recovered_total", row["recovered"], *labels)
        if is_known:
            _add_histograms(families, row, labels)


def _add_histograms(families: _Families, row: Row, labels: tuple[str, str]) -> None:
    for name, counted in (("duration", "run"), ("wait", "wait")):
        counts, sum_s = row[f"{counted}_ms_buckets"], row[f"{counted}_ms_total"] / 1000
        families.add_histogram(f"arqestra_job_{name}_seconds", counts, sum_s, *labels)


def _add_queue(families: _Families, queue: QueueSurvey, workers: int) -> None:
    states = {
        "queued": queue.due,
        "deferred": queue.deferred,
        "running": queue.running,
        "held": queue.held,
        "waiting": queue.waiting,
        "dead": queue.dead,
    }
    for state, number in states.items():
        families.add("arqestra_queue_jobs", number, queue.name, state)
    families.add("arqestra_queue_stuck_jobs", queue.stuck, queue.name)
    families.add("arqestra_queue_oldest_age_seconds", queue.oldest_due_age_ms / 1000, queue.name)
    families.add("arqestra_queue_paused", queue.paused, queue.name)
    families.add("arqestra_queue_blocked_workflows", queue.blocked, queue.name)
    families.add("arqestra_queue_workers", workers, queue.name)


def _add_workers(families: _Families, workers: Iterable[WorkerMetrics]) -> None:
    for worker in workers:
        labels = worker.worker, worker.host
        if worker.alive or not worker.stopped:
            families.add("arqestra_worker_up", worker.alive, *labels)
        for pid in worker.pids:
            families.add("arqestra_worker_info", 1, *labels, str(pid), worker.version)
        if worker.alive:
            _add_state(families, worker, labels)
        families.add("arqestra_worker_cpu_seconds_total", worker.cpu_s, *labels)
        if worker.started_s is not None:
            families.add("arqestra_worker_start_time_seconds", worker.started_s, *labels)
        if worker.seen_s is not None:
            families.add("arqestra_worker_last_seen_timestamp_seconds", worker.seen_s, *labels)
        families.add("arqestra_redis_errors_total", worker.redis_errors, *labels)


def _add_state(families: _Families, worker: WorkerMetrics, labels: tuple[str, str]) -> None:
    """The state of a living worker. The last report of one that is gone must not add to sums, nor raise an alarm."""
    families.add("arqestra_worker_slots", worker.slots, *labels)
    families.add("arqestra_worker_running_jobs", worker.running, *labels)
    families.add("arqestra_worker_waiting_workflows", worker.waiting, *labels)
    families.add("arqestra_worker_draining", worker.draining, *labels)
    families.add("arqestra_worker_resident_memory_bytes", worker.rss_bytes, *labels)
    families.add("arqestra_worker_loop_lag_seconds", worker.lag_s, *labels)
    if worker.cut_off_s is not None:
        families.add("arqestra_worker_cut_off_seconds", worker.cut_off_s, *labels)


class _Collected:
    """Families as the encoders of prometheus_client take them."""

    def __init__(self, families: Iterable[Family]) -> None:
        self._families = families

    def collect(self) -> Iterable[Family]:
        return self._families


def text_of(families: Iterable[Family], accept: str = "") -> Exposition:
    """The families as text in the format that a scraper accepts.

    :param accept: the request's header: it chooses between Prometheus' text format and OpenMetrics
    """
    try:
        encode, content_type = choose_encoder(accept)
    except (TypeError, ValueError):  # the header names no valid version
        encode, content_type = choose_encoder("")
    return Exposition(encode(_Collected(families)), content_type)
