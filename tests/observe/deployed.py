"""What is in deploy/: the dashboard's queries and the rules', as Prometheus is asked them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import yaml

from arqestra.observe.metrics import METRICS
from tests.support.repository import REPOSITORY

DEPLOY = REPOSITORY / "deploy"
SCRAPING = DEPLOY / "prometheus" / "prometheus.yml"
ALERTS = DEPLOY / "prometheus" / "alerts.yml"
ALERTS_TEST = DEPLOY / "prometheus" / "alerts_test.yml"
DASHBOARD = DEPLOY / "grafana" / "arqestra.json"

_SUFFIX = re.compile(r"_(bucket|count|sum)$")
_METRIC = re.compile(r"\b(?:arqestra_[a-z_]+|up)\b(?!\s*\()(?!=)")
_SELECTOR = re.compile(r"\b(arqestra_[a-z_]+)\{([^}]*)\}")
_GROUPING = re.compile(r"\b(?:by|on)\s*\(([^)]*)\)")


class Query(NamedTuple):
    """A query, and where it is from."""

    place: str
    expr: str

    @property
    def metrics(self) -> set[str]:
        """The metrics of ours that it asks for."""
        names = {name for name in _METRIC.findall(_without_strings(self.expr)) if name != "up"}
        return {base if (base := _SUFFIX.sub("", name)) in METRICS else name for name in names}

    @property
    def labels(self) -> set[str]:
        """Labels that it selects or groups by."""
        found = {
            pair.split("=")[0].rstrip("!~ ").strip()
            for _, inside in _SELECTOR.findall(_without_strings(self.expr))
            for pair in inside.split(",")
        }
        return found | {name.strip() for inside in _GROUPING.findall(self.expr) for name in inside.split(",")}


def _without_strings(expr: str) -> str:
    return re.sub(r'"[^"]*"', '""', expr)


def dashboard() -> dict[str, Any]:
    """The dashboard."""
    return json.loads(DASHBOARD.read_text())


def panel_queries() -> Iterator[Query]:
    """The queries of the dashboard's panels."""
    for panel in dashboard()["panels"]:
        for target in panel.get("targets", ()):
            yield Query(f"panel {panel['title']}", target["expr"])


def variables() -> dict[str, str]:
    """The dashboard's variables that are queried: name -> query."""
    listed = dashboard()["templating"]["list"]
    return {each["name"]: each["query"]["query"] for each in listed if each["type"] == "query"}


def rules() -> list[dict[str, Any]]:
    """The alert rules."""
    return [rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]


def rule_queries() -> Iterator[Query]:
    """What the alert rules ask for; without its threshold, so that there is an answer while all is well."""
    for rule in rules():
        yield Query(f"alert {rule['alert']}", rule["expr"])


def filled_in(expr: str, job: str) -> str:
    """A query of the dashboard as Grafana sends it, with all queues and functions chosen."""
    values = {"$__rate_interval": "10s", "$job": job, "$queue": ".*", "$function": ".*"}
    for name, value in values.items():
        expr = expr.replace(name, value)
    assert "$" not in expr
    return expr
