"""Families of snapshots: names, labels, histograms, escaping; how the metrics of processes add up."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import msgspec
import pytest
from prometheus_client.metrics_core import Metric

from arqestra.observe.exposition import families_of_fleet, families_of_processes, families_without_redis, text_of
from arqestra.observe.fleet import FleetSnapshot
from arqestra.observe.metrics import METRICS
from arqestra.observe.process_metrics import ProcessTotals, metrics_of_position, metrics_of_worker
from arqestra.protocol.histogram import BOUNDS_MS, BUCKETS
from arqestra.protocol.presence import Presence, WorkerInfo
from arqestra.store.queues import QueueSurvey
from arqestra.store.services import OverdueSchedules
from arqestra.store.statistics import FIGURES, totals_of
from tests.observe.presences import PRESENCE
from tests.support.scrape import OPEN_METRICS, Scraped

COUNTERS = {
    "q|add|enqueued": 9,
    "q|add|complete": 5,
    "q|add|failed": 2,
    "q|add|retried": 4,
    "q|add|recovered": 1,
    "q|add|run_ms_total": 12_345,
    "q|add|run_le_0": 4,
    "q|add|run_le_8": 6,
    f"q|add|run_le_{BUCKETS - 1}": 1,
    "q|add|wait_ms_total": 1_500,
    "q|add|wait_le_2": 11,
}
SURVEY = QueueSurvey("q", 100_000, 21, 1, 2, 3, 4, 5, 0, 6, 37_500, True, 1, 7, False, blocked=2)


def snapshot() -> FleetSnapshot:
    worker = WorkerInfo("w1", datetime(2026, 1, 1, tzinfo=UTC), True, PRESENCE)
    dead = WorkerInfo("w2", datetime(2026, 1, 1, tzinfo=UTC), False, PRESENCE)
    return FleetSnapshot(
        totals=totals_of(COUNTERS),
        queues=[SURVEY],
        schedules=[OverdueSchedules("q", 12, 2, 4_500)],
        workers=[metrics_of_worker(worker), metrics_of_worker(dead)],
        served={"q": 1},
    )


def rendered(families: list[Metric], accept: str = "") -> str:
    return text_of(families, accept).body.decode()


def test_every_metric_of_the_fleet_with_its_value() -> None:
    scraped = Scraped(rendered(families_of_fleet(snapshot())))

    job = {"queue": "q", "function": "add"}
    assert scraped.one("arqestra_up") == 1
    assert scraped.one("arqestra_jobs_enqueued_total", **job) == 9
    outcomes = {sample.labels["outcome"]: sample.value for sample in scraped.of("arqestra_jobs_finished_total", **job)}
    assert outcomes == {"complete": 5, "failed": 2, "aborted": 0, "expired": 0}
    assert scraped.one("arqestra_jobs_retried_total", **job) == 4
    assert scraped.one("arqestra_jobs_recovered_total", **job) == 1
    states = {sample.labels["state"]: sample.value for sample in scraped.of("arqestra_queue_jobs", queue="q")}
    assert states == {"queued": 1, "deferred": 2, "running": 3, "held": 4, "waiting": 5, "dead": 7}
    assert scraped.one("arqestra_queue_stuck_jobs", queue="q") == 6
    assert scraped.one("arqestra_queue_oldest_age_seconds", queue="q") == 62.5
    assert scraped.one("arqestra_queue_paused", queue="q") == 1
    assert scraped.one("arqestra_queue_blocked_workflows", queue="q") == 2
    assert scraped.one("arqestra_queue_workers", queue="q") == 1
    assert scraped.one("arqestra_schedules", queue="q") == 12
    assert scraped.one("arqestra_schedules_overdue", queue="q") == 2
    assert scraped.one("arqestra_schedule_lateness_seconds", queue="q") == 4.5
    assert scraped.one("arqestra_workers") == 1
    worker = {"worker": "w1", "host": "h"}
    assert scraped.one("arqestra_worker_up", **worker) == 1
    assert scraped.one("arqestra_worker_up", worker="w2") == 0
    assert scraped.one("arqestra_worker_info", **worker, pid="7", version="0.1.0") == 1
    assert scraped.one("arqestra_worker_slots", **worker) == 10
    assert scraped.one("arqestra_worker_running_jobs", **worker) == 3
    assert scraped.one("arqestra_worker_waiting_workflows", **worker) == 1
    assert scraped.one("arqestra_worker_draining", **worker) == 0
    assert scraped.one("arqestra_worker_resident_memory_bytes", **worker) == 1_000_000
    assert scraped.one("arqestra_worker_cpu_seconds_total", **worker) == 2.5
    assert scraped.one("arqestra_worker_loop_lag_seconds", **worker) == 0.04
    assert scraped.one("arqestra_worker_start_time_seconds", **worker) == 5
    assert (
        scraped.one("arqestra_worker_last_seen_timestamp_seconds", **worker)
        == datetime(2026, 1, 1, tzinfo=UTC).timestamp()
    )
    assert scraped.one("arqestra_redis_errors_total", **worker) == 6


def test_of_a_worker_that_is_gone_nothing_adds_up_or_alarms() -> None:
    """Its last words would count its slots, and be the lag of a loop, for the ten minutes until it is forgotten."""
    scraped = Scraped(rendered(families_of_fleet(snapshot())))

    of_it = {name for name in METRICS if METRICS[name].labels[:1] == ("worker",) and scraped.of(name, worker="w2")}
    assert of_it == {
        "arqestra_worker_up",
        "arqestra_worker_info",
        "arqestra_worker_cpu_seconds_total",
        "arqestra_worker_start_time_seconds",
        "arqestra_worker_last_seen_timestamp_seconds",
        "arqestra_redis_errors_total",
    }


def test_nobody_misses_who_was_stopped() -> None:
    totals = ProcessTotals(2, "h")
    totals.report(0, 11, {"q|f|complete": 5}, reported(cpu_s=2.0))
    totals.report(1, 12, {}, reported())

    totals.process_ended(11)
    totals.position_stopped(0)
    totals.position_stopped(1)  # one that it relieved has not ended yet

    scraped = Scraped(rendered(families_of_processes(totals.counters(), totals.workers())))
    assert {sample.labels["worker"]: sample.value for sample in scraped.of("arqestra_worker_up")} == {"1": 1}
    assert scraped.one("arqestra_worker_cpu_seconds_total", worker="0") == 2.0
    assert scraped.one("arqestra_jobs_finished_total", outcome="complete") == 5


@pytest.mark.parametrize("version", ["x", "1.x", "", "-1", "0.0.1"])
def test_an_odd_version_in_the_accept_header_is_answered(version: str) -> None:
    for kind in ("text/plain", "application/openmetrics-text"):
        body, content_type = text_of(families_of_fleet(snapshot()), f"{kind};version={version}")
        assert Scraped(body.decode(), open_metrics=content_type.startswith("application/")).one("arqestra_up") == 1


def test_names_that_producers_make_up_make_no_end_of_series() -> None:
    made_up = {f"q|task-{number:05}|enqueued": 1 for number in range(5_000)}
    families = families_of_fleet(FleetSnapshot(totals_of({**COUNTERS, **made_up}), [], [], [], {}))
    scraped = Scraped(rendered(families))

    assert len(scraped.of("arqestra_jobs_enqueued_total")) == 1_000 + len(totals_of(COUNTERS))
    assert len(rendered(families).splitlines()) < 8_000
    assert scraped.one("arqestra_jobs_finished_total", function="task-00000", outcome="failed") == 0
    assert scraped.of("arqestra_job_duration_seconds_count", function="task-00000") == []
    assert scraped.one("arqestra_job_duration_seconds_count", function="add") == 11


def test_histograms_are_cumulative_in_seconds_and_end_with_their_count() -> None:
    scraped = Scraped(rendered(families_of_fleet(snapshot())))

    buckets = scraped.of("arqestra_job_duration_seconds_bucket", queue="q", function="add")
    assert [float(sample.labels["le"]) for sample in buckets[:-1]] == [bound_ms / 1000 for bound_ms in BOUNDS_MS]
    assert buckets[-1].labels["le"] == "+Inf"
    assert [sample.value for sample in buckets] == [4] * 8 + [10] * (len(BOUNDS_MS) - 8) + [11]
    assert scraped.one("arqestra_job_duration_seconds_count", function="add") == 11
    assert scraped.one("arqestra_job_duration_seconds_sum", function="add") == 12.345
    assert scraped.one("arqestra_job_wait_seconds_count", function="add") == 11
    assert scraped.one("arqestra_job_wait_seconds_sum", function="add") == 1.5


def test_what_is_exposed_is_what_is_described() -> None:
    fleet = Scraped(rendered(families_of_fleet(snapshot())))
    process = Scraped(rendered(families_of_processes(COUNTERS, [metrics_of_position("0", "h", [PRESENCE])])))
    for scraped, of in ((fleet, "fleet"), (process, "worker")):
        exposed = {name if family.type != "counter" else f"{name}_total" for name, family in scraped.families.items()}
        assert exposed == {name for name, metric in METRICS.items() if metric.exposed_by in (of, "both")}
        for family in scraped.families.values():
            metric = METRICS.get(family.name) or METRICS[f"{family.name}_total"]
            assert (family.type, family.documentation) == (metric.kind, metric.text)
            for sample in family.samples:
                assert set(sample.labels) - {"le"} == set(metric.labels)
    assert {family.name for family in families_without_redis()} == {"arqestra_up"}


def test_names_and_labels_follow_prometheus_rules() -> None:
    for name, metric in METRICS.items():
        assert re.fullmatch(r"arqestra_[a-z]+(_[a-z]+)*", name)
        assert name.endswith("_total") == (metric.kind == "counter")
        assert not re.search(r"_(ms|milliseconds|kb|mb|minutes)(_|$)", name)
        assert "job" not in metric.labels  # Prometheus' own label
        assert not any("id" in label.split("_") for label in metric.labels)
        assert metric.text.endswith(".")


@pytest.mark.parametrize("accept", ["", OPEN_METRICS])
def test_both_formats_say_the_same_and_parse(accept: str) -> None:
    body, content_type = text_of(families_of_fleet(snapshot()), accept)
    scraped = Scraped(body.decode(), open_metrics=bool(accept))

    assert content_type.startswith("application/openmetrics-text" if accept else "text/plain")
    assert body.endswith(b"# EOF\n") == bool(accept)
    plain = Scraped(rendered(families_of_fleet(snapshot())))
    assert {(s.name, frozenset(s.labels.items())): s.value for s in scraped.samples} == {
        (s.name, frozenset(s.labels.items())): s.value for s in plain.samples
    }


@pytest.mark.parametrize("accept", ["", OPEN_METRICS])
@pytest.mark.parametrize("name", ['say "hi"', "two\nlines", "back\\slash", "a|b", "조개 🐚", 'a{b="c"}', "\\n"])
def test_any_queue_and_function_is_escaped(name: str, accept: str) -> None:
    totals = [{**dict.fromkeys(FIGURES, 1), "run_ms_buckets": [1] * BUCKETS, "wait_ms_buckets": [1] * BUCKETS}]
    rows = [{**row, "queue": name, "function": name} for row in totals]
    families = families_of_fleet(FleetSnapshot(rows, [SURVEY._replace(name=name)], [], [], {}))

    scraped = Scraped(rendered(families, accept), open_metrics=bool(accept))

    assert scraped.one("arqestra_jobs_enqueued_total", queue=name, function=name) == 1
    assert scraped.one("arqestra_queue_paused", queue=name) == 1


class Clock:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def reported(**fields: float) -> Presence:
    return msgspec.structs.replace(PRESENCE, **fields)


def test_what_a_process_counted_stays_when_it_ends_and_its_gauges_go() -> None:
    totals = ProcessTotals(2, "h")
    totals.report(0, 11, {"q|f|complete": 5, "q|g|complete": 1}, reported(cpu_s=2.0, redis_errors=3))
    totals.report(1, 12, {"q|f|complete": 7}, reported())
    totals.report(0, 11, {"q|f|complete": 6}, reported(cpu_s=2.5, redis_errors=3))  # only what has changed
    assert totals.counters() == {"q|f|complete": 13, "q|g|complete": 1}

    totals.process_ended(11)
    assert totals.counters() == {"q|f|complete": 13, "q|g|complete": 1}
    vacant, other = totals.workers()
    assert (vacant.alive, vacant.rss_bytes, vacant.slots, vacant.host) == (False, 0, 0, "h")
    assert (vacant.cpu_s, vacant.redis_errors) == (2.5, 3)
    assert other.alive

    totals.report(0, 13, {"q|f|complete": 2}, reported(cpu_s=0.5, redis_errors=1))
    assert totals.counters() == {"q|f|complete": 15, "q|g|complete": 1}
    successor = totals.workers()[0]
    assert (successor.alive, successor.cpu_s, successor.redis_errors) == (True, 3.0, 4)
    totals.process_ended(99)  # one that never told anything


def test_two_processes_at_one_place_while_one_relieves_the_other() -> None:
    totals = ProcessTotals(1, "h")
    totals.report(
        0, 11, {"q|f|complete": 5}, reported(started_ms=1, running=4, draining=True, rss_bytes=100, cpu_s=1, pid=11)
    )
    totals.report(0, 12, {"q|f|complete": 1}, reported(started_ms=2, running=2, rss_bytes=70, cpu_s=2, pid=12))

    (position,) = totals.workers()

    assert (position.pids, position.running, position.slots, position.draining) == ((11, 12), 6, 10, False)
    assert (position.rss_bytes, position.cpu_s) == (170, 3)


def test_a_process_that_tells_nothing_is_as_late_as_that() -> None:
    clock = Clock()
    totals = ProcessTotals(1, "h", clock)
    totals.report(0, 11, {}, reported(lag_ms=5))
    assert totals.workers()[0].lag_s == 0.005
    clock.now_s += 31
    assert totals.workers()[0].lag_s == 30
    totals.report(0, 11, {}, reported(lag_ms=30_000))
    assert totals.workers()[0].lag_s == 30
