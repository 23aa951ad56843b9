"""Settings that say where metrics are served."""

from __future__ import annotations

from arqestra import worker_settings
from tests.integration.supervised_jobs import Settings


@worker_settings
class Metered(Settings):
    metrics_port = 0
