"""deploy/: what dashboard, alert rules and scrape configuration ask for is what is exposed."""

from __future__ import annotations

import re
from itertools import combinations
from typing import Any

import pytest
import yaml

from arqestra.cli.metrics import DEFAULT_PORT
from arqestra.observe.metrics import METRICS
from tests.observe.deployed import (
    ALERTS,
    ALERTS_TEST,
    DASHBOARD,
    DEPLOY,
    SCRAPING,
    Query,
    dashboard,
    filled_in,
    panel_queries,
    rule_queries,
    rules,
    variables,
)

QUERIES = [*panel_queries(), *rule_queries(), *(Query(f"variable {name}", text) for name, text in variables().items())]
ADDED_BY_PROMETHEUS = {"job", "instance", "le"}
ABOUT_SCRAPING = {"ArqestraExporterDown", "ArqestraWorkerPortDown"}


@pytest.mark.parametrize("query", QUERIES, ids=lambda query: query.place)
def test_each_query_asks_for_what_there_is(query: Query) -> None:
    if query.place.removeprefix("alert ") not in ABOUT_SCRAPING:
        assert query.metrics
    assert query.metrics <= set(METRICS)
    known = {label for name in query.metrics for label in METRICS[name].labels} | ADDED_BY_PROMETHEUS
    assert query.labels <= known


def test_what_is_asked_for_is_found_in_a_query() -> None:
    query = Query("", 'sum by (queue, le) (rate(arqestra_job_wait_seconds_bucket{job="x", other=~"arqestra_a"}[5m]))')
    assert query.metrics == {"arqestra_job_wait_seconds"}
    assert query.labels == {"queue", "le", "job", "other"}
    assert Query("", "arqestra_nothing > 1").metrics == {"arqestra_nothing"}


def test_counters_are_asked_for_as_rates_and_nothing_is_summed_over_jobs() -> None:
    for query in panel_queries():
        for name in query.metrics:
            assert f'{name}{{job="$job"' in query.expr or f'{name}_bucket{{job="$job"' in query.expr, query
            if METRICS[name].kind != "gauge":
                assert re.search(r"(rate|increase)\(", query.expr), query
    for rule in rules():
        for grouping in re.findall(r"sum by \(([^)]*)\)", rule["expr"]):
            assert "job" in grouping.split(", ")
        assert "sum(" not in rule["expr"]


def test_every_metric_is_on_the_dashboard_or_in_a_rule() -> None:
    used = {name for query in QUERIES for name in query.metrics}
    not_drawn = {
        "arqestra_worker_info",
        "arqestra_worker_start_time_seconds",
        "arqestra_worker_last_seen_timestamp_seconds",
        "arqestra_schedules",
        "arqestra_schedules_overdue",
    }
    assert set(METRICS) - used == not_drawn


def test_the_dashboard_is_whole() -> None:
    board = dashboard()
    panels = board["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    assert (board["uid"], board["title"]) == ("arqestra", "arqestra")
    for panel in panels:
        if panel["type"] == "row":
            continue
        assert panel["datasource"]["uid"] == "${datasource}"
        assert panel["title"]
        assert panel["description"].endswith(".")
        assert all(target["datasource"]["uid"] == "${datasource}" for target in panel["targets"])
        assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])
        filled_in(" ".join(target["expr"] for target in panel["targets"]), "arqestra")
    assert list(variables()) == ["job", "queue", "function"]


def test_no_panel_lies_on_another_or_beside_the_grid() -> None:
    def cells(panel: dict[str, Any]) -> set[tuple[int, int]]:
        place = panel["gridPos"]
        return {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }

    taken = [cells(panel) for panel in dashboard()["panels"]]
    assert all(0 <= x < 24 for each in taken for x, _ in each)
    assert not any(one & other for one, other in combinations(taken, 2))
    whole = set.union(*taken)
    assert len(whole) == 24 * (max(y for _, y in whole) + 1)  # and there are no gaps


def test_each_rule_says_what_is_wrong_and_what_to_do() -> None:
    assert len({rule["alert"] for rule in rules()}) == len(rules())
    for rule in rules():
        assert rule["alert"].startswith("Arqestra")
        assert rule["labels"]["severity"] in ("critical", "warning", "info")
        assert rule["annotations"]["summary"]
        assert rule["annotations"]["description"].endswith((".", "?"))


def test_scraping_names_the_port_that_the_exporter_has_and_loopback_alone() -> None:
    config = yaml.safe_load(SCRAPING.read_text())
    targets = {each["job_name"]: each["static_configs"][0]["targets"] for each in config["scrape_configs"]}
    assert targets == {"arqestra": [f"127.0.0.1:{DEFAULT_PORT}"], "arqestra-workers": ["127.0.0.1:9751"]}
    assert config["rule_files"] == [ALERTS.name]
    assert yaml.safe_load(ALERTS_TEST.read_text())["rule_files"] == [ALERTS.name]


def test_nothing_is_fetched_from_elsewhere() -> None:
    for path in (DASHBOARD, ALERTS, SCRAPING):
        assert "http" not in path.read_text()
    assert {path.relative_to(DEPLOY).parts[0] for path in DEPLOY.rglob("*")} == {"prometheus", "grafana"}


def test_the_documentation_lists_all_metrics_and_alerts() -> None:
    page = (DEPLOY.parent / "docs" / "monitoring.md").read_text()
    of = {"both": "both", "fleet": "exporter", "worker": "worker"}
    for name, metric in METRICS.items():
        assert f"| `{name}` | {metric.kind} | {', '.join(metric.labels)} | {of[metric.exposed_by]} |" in page
    assert set(re.findall(r"`(arqestra_[a-z_]+)` \|", page)) == set(METRICS)
    assert set(re.findall(r"`(Arqestra\w+)`", page)) == {rule["alert"] for rule in rules()}
