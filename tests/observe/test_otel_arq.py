"""`opentelemetry-instrumentation-arq`, unchanged: the spans and the context that it gives stock arq, for us as well."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from typing import Any

import pytest
import redis

from tests.support.repository import REPOSITORY


def run(redis_url: str, engine: str, when: str) -> dict[str, Any]:
    with redis.Redis.from_url(redis_url) as client:
        client.flushall()
    ended = subprocess.run(
        [sys.executable, "-m", "tests.observe.otel_arq_jobs", engine, when],
        cwd=REPOSITORY,
        env={**os.environ, "REDIS_URL": redis_url},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ended.returncode == 0, ended.stderr
    told: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
    return told


def comparable(spans: list[dict[str, Any]]) -> Counter[str]:
    """Without the ids of jobs, which are made up in different ways; that there is one is compared."""
    for span in spans:
        if span["attributes"].get("arq.job.id", "one") != "one":
            span["attributes"]["arq.job.id"] = "some"
    return Counter(json.dumps(span, sort_keys=True) for span in spans)


@pytest.mark.parametrize("when", ["first", "last"])
def test_the_spans_are_those_of_stock_arq(redis_url: str, when: str) -> None:
    stock = comparable(run(redis_url, "arq", "first")["spans"])
    assert sum(stock.values()) == 13

    told = run(redis_url, "ours", when)

    ours = comparable(told["spans"])
    assert stock <= ours
    only_ours = [json.loads(span) for span in (ours - stock).elements()]
    assert all(span["one trace"] for span in only_ours)
    assert Counter((span["name"], span["kind"], span["parent"], span["status"]) for span in only_ours) == {
        ("double", "CLIENT", "request", "UNSET"): 4,  # two of enqueue_many, two of the chain
        ("double", "CLIENT", "request", "ERROR"): 1,  # not unique
        ("double", "CLIENT", "steps", "UNSET"): 2,
        ("double", "SERVER", "double", "OK"): 6,
        ("steps", "CLIENT", "request", "UNSET"): 1,
        ("steps", "SERVER", "steps", "OK"): 1,
        ("in_thread", "CLIENT", "request", "UNSET"): 1,
        ("in_thread", "SERVER", "in_thread", "OK"): 1,
    }
    assert told["results"] == [2, 4, 1, 4, 4]
