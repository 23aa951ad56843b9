"""`/metrics`: the fleet's metrics, as `arqestra metrics` serves them. Needs the package prometheus-client."""

from functools import partial

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from .app_state import AppState
from .dashboard import Handler

__all__ = ("metrics_handler",)

HOW = "Metrics need the package prometheus-client: pip install 'arqestra[metrics]'\n"


def metrics_handler(app_state: AppState) -> Handler:
    """The handler; without the package it says how to get it."""
    try:
        from ..observe.fleet import read_fleet
        from ..observe.fleet_exporter import FleetExporter
    except ImportError:

        async def without(request: Request) -> Response:
            return PlainTextResponse(HOW, 501)

        return without
    metrics: list[FleetExporter] = []

    async def handler(request: Request) -> Response:
        if not metrics:
            metrics.append(FleetExporter(partial(read_fleet, app_state.pool)))
        found = await metrics[0].exposition(request.headers.get("accept", ""))
        return Response(found.body, headers={"content-type": found.content_type})

    return handler
