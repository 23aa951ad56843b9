"""The settings of the mixed fleet's arqestra workers: the stock ones, inherited, with the decorator."""

from __future__ import annotations

import gc
from typing import Any

import arqestra

from .fleet_jobs import StockSettings, note


async def announce(ctx: dict[Any, Any]) -> None:
    """Say which kind of Worker runs in this process, whatever the settings say."""
    is_ours = any(isinstance(thing, arqestra.Worker) for thing in gc.get_objects())
    note("worker", "arqestra" if is_ours else "arq")


@arqestra.worker_settings
class OurSettings(StockSettings):
    on_startup = announce
    lease = 10
