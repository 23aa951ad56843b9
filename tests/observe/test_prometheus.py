"""promtool checks deploy/, and a real Prometheus that has scraped live processes answers every query of it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

from arqestra import Pool, every, schedule
from arqestra.observe.metrics import METRICS
from tests.observe.deployed import (
    ALERTS,
    ALERTS_TEST,
    SCRAPING,
    filled_in,
    panel_queries,
    rule_queries,
    rules,
    variables,
)
from tests.observe.metrics_jobs import fail, hand_on, take, twice, work
from tests.observe.prometheus_server import Prometheus, Tools, find_tools, running
from tests.support.repository import REPOSITORY
from tests.support.scrape import fetch
from tests.support.supervised import Supervise
from tests.support.wait import wait_until

pytestmark = pytest.mark.slow  # it downloads a package, and waits for some scrapes: make metrics-check

EXPORTER, WORKERS = "arqestra", "arqestra-workers"


@pytest.fixture(scope="module")
def tools(tmp_path_factory: pytest.TempPathFactory) -> Tools:
    return find_tools(tmp_path_factory.mktemp("prometheus"))


@pytest.fixture
async def exporter_url(redis_url: str, tmp_path: Path) -> AsyncIterator[str]:
    """`arqestra metrics` as a process."""
    output = tmp_path / "exporter.txt"
    with output.open("wb") as file:
        process = subprocess.Popen(  # noqa: ASYNC220 - it only starts
            [sys.executable, "-m", "arqestra.cli", "metrics", "--port", "0", "--redis-url", redis_url],
            cwd=REPOSITORY,
            env={**os.environ, "NO_COLOR": "1"},
            stderr=file,
        )
    try:
        yield await url_in(output)
    finally:
        process.terminate()
        assert await asyncio.to_thread(process.wait, 20) == 0, output.read_text()


async def url_in(output: Path) -> str:
    """Where the process that writes there serves its metrics."""
    found: list[str] = []

    def told() -> bool:
        found[:] = re.findall(r"http://\S+/metrics", output.read_text())
        return bool(found)

    await wait_until(told, output.read_text)
    return found[0]


def test_promtool_takes_the_configuration_and_the_rules(tools: Tools) -> None:
    tools.check("check", "config", SCRAPING)
    tools.check("check", "rules", "--lint=all", "--lint-fatal", ALERTS)


def test_the_rules_fire_when_they_should(tools: Tools) -> None:
    tools.check("test", "rules", ALERTS_TEST.name, cwd=ALERTS_TEST.parent)


def test_the_tests_of_the_rules_can_fail(tools: Tools, tmp_path: Path) -> None:
    (tmp_path / ALERTS.name).write_text(ALERTS.read_text().replace("> 0.05", "> 0.5"))
    (tmp_path / ALERTS_TEST.name).write_text(ALERTS_TEST.read_text())
    with pytest.raises(AssertionError, match="ArqestraJobsFailing"):
        tools.check("test", "rules", ALERTS_TEST.name, cwd=tmp_path)


def config_for(targets: dict[str, str], folder: Path) -> Path:
    """Our configuration with these targets, scraping every half second."""
    config: dict[str, Any] = yaml.safe_load(SCRAPING.read_text())
    config["global"] = {"scrape_interval": "500ms", "evaluation_interval": "500ms", "scrape_timeout": "500ms"}
    config["rule_files"] = [str(ALERTS)]
    for each in config["scrape_configs"]:
        address = targets[each["job_name"]].removeprefix("http://").removesuffix("/metrics")
        each["static_configs"] = [{"targets": [address]}]
    path = folder / "prometheus.yml"
    path.write_text(yaml.safe_dump(config))
    return path


async def keep_busy(pool: Pool) -> None:
    """Jobs of every outcome, until it is cancelled."""
    while True:
        await pool.enqueue_many([work.bind(), fail.bind(), twice.bind(), hand_on.bind(), take.bind(0.02)])
        await asyncio.sleep(0.1)


async def test_every_query_of_dashboard_and_rules_is_answered(
    tools: Tools, supervise: Supervise, plain_pool: Pool, exporter_url: str, tmp_path: Path
) -> None:
    supervised = supervise(
        "--processes", "2", "--metrics-port", "0", settings="tests.observe.metered_settings.Everything"
    )
    workers_url = await url_in(tmp_path / "output-0.txt")
    for url in (exporter_url, workers_url):
        tools.check("check", "metrics", text=(await fetch(url)).body)
    await plain_pool.schedules.upsert(schedule(every(3600), work, name="hourly"))
    busy = asyncio.create_task(keep_busy(plain_pool))
    config = config_for({EXPORTER: exporter_url, WORKERS: workers_url}, tmp_path)
    try:
        async with running(tools, config, tmp_path) as prometheus:
            await scraped_enough(prometheus)
            await check_metrics(prometheus)
            for job in (EXPORTER, WORKERS):
                await check_panels(prometheus, job)
            await check_rules(prometheus)

            supervised.process.terminate()
            await supervised.ended()
            for name in ("ArqestraNoWorkers", "ArqestraWorkerPortDown"):
                await wait_until(partial(is_pending, prometheus, name), "alerts of missing workers to be pending")
    finally:
        busy.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await busy


async def scraped_enough(prometheus: Prometheus) -> None:
    """There are rates of everything, in both jobs."""

    async def enough() -> bool:
        for job in (EXPORTER, WORKERS):
            for function in ("work", "fail", "twice"):
                rate = f'sum(rate(arqestra_jobs_finished_total{{job="{job}", function="{function}"}}[10s])) > 0'
                if not await prometheus.query(rate):
                    return False
        return bool(await prometheus.query('count_over_time(up{job="arqestra"}[10s]) > 8'))

    await wait_until(enough, "rates of what was scraped")


async def check_metrics(prometheus: Prometheus) -> None:
    """What was scraped has the types that we gave it."""
    known = await prometheus.ask("metadata")
    for name, metric in METRICS.items():
        entries = known.get(name) or known[name.removesuffix("_total")]
        assert {entry["type"] for entry in entries} == {metric.kind}, name


async def check_panels(prometheus: Prometheus, job: str) -> None:
    of = "fleet" if job == EXPORTER else "worker"
    for name, variable in variables().items():
        selector, _, label = variable.removeprefix("label_values(").removesuffix(")").rpartition(", ")
        assert await prometheus.ask(f"label/{label}/values", **{"match[]": filled_in(selector, job)}), name
    for query in panel_queries():
        result = await prometheus.query(filled_in(query.expr, job))
        if all(METRICS[name].exposed_by in (of, "both") for name in query.metrics):
            assert result, query
            assert not any(sample["value"][1] == "NaN" for sample in result), query
    failed = await prometheus.query(f'sum(rate(arqestra_jobs_finished_total{{job="{job}", outcome="failed"}}[10s]))')
    assert float(failed[0]["value"][1]) > 0


async def check_rules(prometheus: Prometheus) -> None:
    for query in rule_queries():
        await prometheus.query(query.expr)

    async def evaluated() -> bool:
        groups = (await prometheus.ask("rules"))["groups"]
        found = [rule for group in groups for rule in group["rules"]]
        assert all(rule["health"] != "err" for rule in found), found
        return len(found) == len(rules()) and all(rule["health"] == "ok" for rule in found)

    await wait_until(evaluated, "all rules to be evaluated")
    quiet = {alert["labels"]["alertname"] for alert in (await prometheus.ask("alerts"))["alerts"]}
    assert quiet == {"ArqestraJobsFailing"}  # one function of the load does


async def is_pending(prometheus: Prometheus, name: str) -> bool:
    alerts = (await prometheus.ask("alerts"))["alerts"]
    return name in {alert["labels"]["alertname"] for alert in alerts}
