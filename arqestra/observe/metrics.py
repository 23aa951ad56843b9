"""The table of all metrics: names, kinds, labels, and what each says.

Names, units and labels follow https://prometheus.io/docs/practices/naming/ and .../instrumentation/: base units,
counters end in `_total`, and a label has few values: queues, functions, outcomes and workers, never a job's id.
"""

from typing import Literal, NamedTuple

__all__ = ("METRICS", "Metric")

JOB = ("queue", "function")
QUEUE = ("queue",)
WORKER = ("worker", "host")


class Metric(NamedTuple):
    """A metric.

    :ivar exposed_by: the exporter of the fleet, the port of a worker or supervisor, or both
    """

    kind: Literal["counter", "gauge", "histogram"]
    labels: tuple[str, ...]
    exposed_by: Literal["fleet", "worker", "both"]
    text: str


METRICS: dict[str, Metric] = {
    "arqestra_up": Metric("gauge", (), "fleet", "Whether Redis answered the exporter."),
    "arqestra_jobs_enqueued_total": Metric("counter", JOB, "both", "Jobs that were accepted."),
    "arqestra_jobs_finished_total": Metric(
        "counter", (*JOB, "outcome"), "both", "Jobs that have ended: complete, failed, aborted or expired."
    ),
    "arqestra_jobs_retried_total": Metric(
        "counter", JOB, "both", "Attempts that ended with the job put back: retried, snoozed or given back."
    ),
    "arqestra_jobs_recovered_total": Metric("counter", JOB, "both", "Jobs that were taken over from a lost worker."),
    "arqestra_job_duration_seconds": Metric("histogram", JOB, "both", "How long attempts ran."),
    "arqestra_job_wait_seconds": Metric(
        "histogram", JOB, "both", "From when an attempt was due until a worker took it: deferral is no wait."
    ),
    "arqestra_queue_jobs": Metric(
        "gauge", ("queue", "state"), "fleet", "Jobs: queued (due), deferred, running, held by a limit, waiting, dead."
    ),
    "arqestra_queue_stuck_jobs": Metric(
        "gauge", QUEUE, "fleet", "Jobs whose lease ended a minute ago or more, and which nobody took."
    ),
    "arqestra_queue_oldest_age_seconds": Metric(
        "gauge", QUEUE, "fleet", "How long the oldest due job has been due; 0 if none is."
    ),
    "arqestra_queue_paused": Metric("gauge", QUEUE, "fleet", "Whether the queue is paused."),
    "arqestra_queue_blocked_workflows": Metric(
        "gauge", QUEUE, "fleet", "Workflows that are blocked by code: it does not fit their history."
    ),
    "arqestra_queue_workers": Metric("gauge", QUEUE, "fleet", "Living workers that serve the queue."),
    "arqestra_schedules": Metric("gauge", QUEUE, "fleet", "Schedules of the queue."),
    "arqestra_schedules_overdue": Metric("gauge", QUEUE, "fleet", "Schedules that are due and not fired yet."),
    "arqestra_schedule_lateness_seconds": Metric(
        "gauge", QUEUE, "fleet", "How long the most overdue schedule has been due; 0 if none is."
    ),
    "arqestra_workers": Metric("gauge", (), "fleet", "Living workers."),
    "arqestra_worker_up": Metric(
        "gauge", WORKER, "both", "Whether the worker lives; one that was killed is shown as 0 for ten minutes."
    ),
    "arqestra_worker_info": Metric(
        "gauge", (*WORKER, "pid", "version"), "both", "1; the labels tell of the worker's process."
    ),
    "arqestra_worker_slots": Metric("gauge", WORKER, "both", "Jobs that run at once at most."),
    "arqestra_worker_running_jobs": Metric("gauge", WORKER, "both", "Jobs that run."),
    "arqestra_worker_waiting_workflows": Metric(
        "gauge", WORKER, "both", "Workflows that wait in the worker and hold no slot."
    ),
    "arqestra_worker_draining": Metric("gauge", WORKER, "both", "Whether it takes no more jobs."),
    "arqestra_worker_resident_memory_bytes": Metric("gauge", WORKER, "both", "Resident memory."),
    "arqestra_worker_cpu_seconds_total": Metric("counter", WORKER, "both", "Processor time."),
    "arqestra_worker_loop_lag_seconds": Metric("gauge", WORKER, "both", "How late its event loop woke up last."),
    "arqestra_worker_start_time_seconds": Metric("gauge", WORKER, "both", "When it was started (Unix time)."),
    "arqestra_worker_last_seen_timestamp_seconds": Metric(
        "gauge", WORKER, "fleet", "When it was last heard of (Unix time, Redis' clock)."
    ),
    "arqestra_worker_cut_off_seconds": Metric(
        "gauge", WORKER, "worker", "How long Redis has not answered the worker; 0 while it does."
    ),
    "arqestra_redis_errors_total": Metric("counter", WORKER, "both", "Round trips to Redis that failed."),
}
