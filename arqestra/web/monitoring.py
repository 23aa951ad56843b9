"""What monitoring asks for: `/healthz`, and `/metrics` if the package prometheus-client is installed."""

import asyncio
from functools import partial

from redis.exceptions import RedisError
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from ..store.server import redis_time_ms
from .app_state import AppState
from .dashboard import Handler

__all__ = ("health_handler", "metrics_handler")

MAX_PING_S = 3.0
NOT_INSTALLED = "Metrics need the package prometheus-client: pip install 'arqestra[metrics]'\n"


def metrics_handler(app_state: AppState) -> Handler:
    """The handler of `/metrics`: the fleet's metrics, as `arqestra metrics` serves them."""
    try:
        from ..observe.fleet import read_fleet
        from ..observe.fleet_exporter import FleetExporter
    except ImportError:

        async def not_installed(request: Request) -> Response:
            return PlainTextResponse(NOT_INSTALLED, 501)

        return not_installed
    exporters: list[FleetExporter] = []

    async def handler(request: Request) -> Response:
        if not exporters:
            exporters.append(FleetExporter(partial(read_fleet, app_state.pool)))
        found = await exporters[0].exposition(request.headers.get("accept", ""))
        return Response(found.body, headers={"content-type": found.content_type})

    return handler


def health_handler(app_state: AppState) -> Handler:
    """The handler of `/healthz`: whether Redis answers."""

    async def handler(request: Request) -> Response:
        try:
            async with asyncio.timeout(MAX_PING_S):
                await app_state.open()
                await redis_time_ms(app_state.pool)
        except (RedisError, OSError):
            return PlainTextResponse("Redis does not answer\n", 503)
        return PlainTextResponse("ok\n")

    return handler
