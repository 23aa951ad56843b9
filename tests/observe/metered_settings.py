"""Settings of processes whose metrics are scraped."""

from __future__ import annotations

from arqestra import worker_settings
from tests.observe.metrics_jobs import ALL
from tests.support.supervised_jobs import Settings


@worker_settings
class Metered(Settings):
    metrics_port = 0


@worker_settings
class Everything(Settings):
    functions = tuple(ALL)
