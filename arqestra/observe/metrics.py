"""Metrics in Prometheus' formats. Needs the package prometheus-client: `pip install "arqestra[metrics]"`.

Pure functions make metric families of what was read: of the whole fleet (`fleet.py` reads it from Redis), or of the
processes of one supervisor or worker (`figures.py`). Both count jobs under the same names: `METRICS` lists them all.

Names, units and labels follow https://prometheus.io/docs/practices/naming/ and .../instrumentation/: base units,
counters end in `_total`, and a label has few values: queues, functions, outcomes and workers, never a job's id.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import choose_encoder

from ..protocol.histogram import BOUNDS_MS
from ..store.look import QueueSurvey
from ..store.schedules import OverdueSchedules
from ..store.statistics import totals_of
from .figures import Counters, WorkerFigures

__all__ = ("METRICS", "Exposition", "FleetReading", "exposition", "fleet_families", "process_families", "silence")

OUTCOMES = ("complete", "failed", "aborted", "expired")
OF_WORKERS = (*OUTCOMES, "retried", "recovered")  # figures that only a worker counts, which knows its functions
MAX_UNKNOWN = 1_000  # functions that are shown of which no attempt has ended: a producer may name them as it likes
BOUNDS = (*(str(bound_ms / 1000) for bound_ms in BOUNDS_MS), "+Inf")
JOB = ("queue", "function")
QUEUE = ("queue",)
WORKER = ("worker", "host")
Row = Mapping[str, Any]


class Described(NamedTuple):
    """A metric.

    :ivar of: who exposes it: the fleet's exporter, the port of a worker or supervisor, or both
    """

    kind: Literal["counter", "gauge", "histogram"]
    labels: tuple[str, ...]
    of: Literal["fleet", "worker", "both"]
    text: str


METRICS: dict[str, Described] = {
    "arqestra_up": Described("gauge", (), "fleet", "Whether Redis answered the exporter."),
    "arqestra_jobs_enqueued_total": Described("counter", JOB, "both", "Jobs that were accepted."),
    "arqestra_jobs_finished_total": Described(
        "counter", (*JOB, "outcome"), "both", "Jobs that have ended: complete, failed, aborted or expired."
    ),
    "arqestra_jobs_retried_total": Described(
        "counter", JOB, "both", "Attempts that ended with the job put back: retried, snoozed or given back."
    ),
    "arqestra_jobs_recovered_total": Described("counter", JOB, "both", "Jobs that were taken over from a lost worker."),
    "arqestra_job_duration_seconds": Described("histogram", JOB, "both", "How long attempts ran."),
    "arqestra_job_wait_seconds": Described(
        "histogram", JOB, "both", "From when an attempt was due until a worker took it: deferral is no wait."
    ),
    "arqestra_queue_jobs": Described(
        "gauge", ("queue", "state"), "fleet", "Jobs: queued (due), deferred, running, held by a limit, waiting, dead."
    ),
    "arqestra_queue_stuck_jobs": Described(
        "gauge", QUEUE, "fleet", "Jobs whose lease ended a minute ago or more, and which nobody took."
    ),
    "arqestra_queue_oldest_age_seconds": Described(
        "gauge", QUEUE, "fleet", "How long the oldest due job has been due; 0 if none is."
    ),
    "arqestra_queue_paused": Described("gauge", QUEUE, "fleet", "Whether the queue is paused."),
    "arqestra_queue_blocked_workflows": Described(
        "gauge", QUEUE, "fleet", "Workflows that are blocked by code: it does not fit their history."
    ),
    "arqestra_queue_workers": Described("gauge", QUEUE, "fleet", "Living workers that serve the queue."),
    "arqestra_schedules": Described("gauge", QUEUE, "fleet", "Schedules of the queue."),
    "arqestra_schedules_overdue": Described("gauge", QUEUE, "fleet", "Schedules that are due and not fired yet."),
    "arqestra_schedule_lateness_seconds": Described(
        "gauge", QUEUE, "fleet", "How long the most overdue schedule has been due; 0 if none is."
    ),
    "arqestra_workers": Described("gauge", (), "fleet", "Living workers."),
    "arqestra_worker_up": Described(
        "gauge", WORKER, "both", "Whether the worker lives; one that was killed is shown as 0 for ten minutes."
    ),
    "arqestra_worker_info": Described(
        "gauge", (*WORKER, "pid", "version"), "both", "1; the labels tell of the worker's process."
    ),
    "arqestra_worker_slots": Described("gauge", WORKER, "both", "Jobs that run at once at most."),
    "arqestra_worker_running_jobs": Described("gauge", WORKER, "both", "Jobs that run."),
    "arqestra_worker_waiting_workflows": Described(
        "gauge", WORKER, "both", "Workflows that wait in the worker and hold no slot."
    ),
    "arqestra_worker_draining": Described("gauge", WORKER, "both", "Whether it takes no more jobs."),
    "arqestra_worker_resident_memory_bytes": Described("gauge", WORKER, "both", "Resident memory."),
    "arqestra_worker_cpu_seconds_total": Described("counter", WORKER, "both", "Processor time."),
    "arqestra_worker_loop_lag_seconds": Described("gauge", WORKER, "both", "How late its event loop woke up last."),
    "arqestra_worker_start_time_seconds": Described("gauge", WORKER, "both", "When it was started (Unix time)."),
    "arqestra_worker_last_seen_timestamp_seconds": Described(
        "gauge", WORKER, "fleet", "When it was last heard of (Unix time, Redis' clock)."
    ),
    "arqestra_worker_cut_off_seconds": Described(
        "gauge", WORKER, "worker", "How long Redis has not answered the worker; 0 while it does."
    ),
    "arqestra_redis_errors_total": Described("counter", WORKER, "both", "Round trips to Redis that failed."),
}


@dataclass(frozen=True, slots=True)
class FleetReading:
    """What was read of the fleet.

    :ivar totals: rows of `Pool.totals()`
    """

    totals: Sequence[Row]
    queues: Sequence[QueueSurvey]
    schedules: Sequence[OverdueSchedules]
    workers: Sequence[WorkerFigures]
    served: Mapping[str, int]


class Exposition(NamedTuple):
    """What a scrape is answered with."""

    body: bytes
    content_type: str


class _Families:
    """Families in the order in which they are first added to; `METRICS` describes them."""

    def __init__(self) -> None:
        self.made: dict[str, Metric] = {}

    def add(self, name: str, value: float, *labels: str) -> None:
        """A sample of a counter or gauge."""
        family = self._of(name)
        assert isinstance(family, CounterMetricFamily | GaugeMetricFamily)
        family.add_metric(labels, value)

    def add_histogram(self, name: str, counts: Sequence[int], sum_s: float, *labels: str) -> None:
        """A histogram: `counts` of each bucket alone; Prometheus' are cumulative."""
        family = self._of(name)
        assert isinstance(family, HistogramMetricFamily)
        buckets, so_far = [], 0
        for bound, count in zip(BOUNDS, counts, strict=True):
            so_far += count
            buckets.append((bound, so_far))
        family.add_metric(labels, buckets, sum_s)

    def _of(self, name: str) -> Metric:
        family = self.made.get(name)
        if family is None:
            kinds = {"counter": CounterMetricFamily, "gauge": GaugeMetricFamily, "histogram": HistogramMetricFamily}
            metric = METRICS[name]
            family = self.made[name] = kinds[metric.kind](name, metric.text, labels=metric.labels)
        return family


def silence() -> list[Metric]:
    """What the exporter tells while Redis does not answer."""
    families = _Families()
    families.add("arqestra_up", 0)
    return list(families.made.values())


def fleet_families(reading: FleetReading) -> list[Metric]:
    """The metrics of the whole fleet."""
    families = _Families()
    families.add("arqestra_up", 1)
    _add_jobs(families, reading.totals)
    for queue in reading.queues:
        _add_queue(families, queue, reading.served.get(queue.name, 0))
    for home in reading.schedules:
        families.add("arqestra_schedules", home.schedules, home.queue)
        families.add("arqestra_schedules_overdue", home.overdue, home.queue)
        families.add("arqestra_schedule_lateness_seconds", home.lateness_ms / 1000, home.queue)
    families.add("arqestra_workers", sum(worker.alive for worker in reading.workers))
    _add_workers(families, reading.workers)
    return list(families.made.values())


def process_families(counters: Counters, workers: Iterable[WorkerFigures]) -> list[Metric]:
    """The metrics of one worker process, or of the processes of one supervisor."""
    families = _Families()
    _add_jobs(families, totals_of(counters))
    _add_workers(families, workers)
    return list(families.made.values())


def _add_jobs(families: _Families, rows: Iterable[Row]) -> None:
    unknown = 0
    for row in rows:
        labels = row["queue"], row["function"]
        is_known = any(row[figure] for figure in OF_WORKERS)
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
    for name, figure in (("duration", "run"), ("wait", "wait")):
        counts, sum_s = row[f"{figure}_ms_buckets"], row[f"{figure}_ms_total"] / 1000
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


def _add_workers(families: _Families, workers: Iterable[WorkerFigures]) -> None:
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


def _add_state(families: _Families, worker: WorkerFigures, labels: tuple[str, str]) -> None:
    """How it is: of one that is gone nothing is known, and its last words must neither add up nor alarm."""
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

    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


def exposition(families: Iterable[Metric], accept: str = "") -> Exposition:
    """The families as text.

    :param accept: the request's header: it chooses between Prometheus' text format and OpenMetrics
    """
    try:
        encode, content_type = choose_encoder(accept)
    except (TypeError, ValueError):  # a version that is none
        encode, content_type = choose_encoder("")
    return Exposition(encode(_Collected(families)), content_type)
