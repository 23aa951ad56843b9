"""`arqestra metrics`: the fleet's metrics for Prometheus, read from Redis."""

import asyncio
import logging
import signal
import sys
from typing import Annotated

import typer

from ..client.connect import create_pool, settings_of
from ..client.pool import Pool
from ..observe.endpoint import Endpoint
from ..observe.fleet import FleetSnapshot, read_fleet
from ..protocol.keys import Keys
from .shell import USAGE, KeyPrefix, RedisUrl, Stop, errors_as_exit_codes, redacted, redis_url_of

__all__ = ("DEFAULT_PORT", "add_metrics")

DEFAULT_PORT = 9750
NOT_INSTALLED = "metrics needs the package prometheus-client: pip install 'arqestra[metrics]'"


class Source:
    """Reads the fleet. It connects at the first read that succeeds: the exporter may start before Redis.

    :param url: of the Redis
    :param key_prefix: of the application that it watches
    """

    def __init__(self, url: str, key_prefix: str | None) -> None:
        self._settings = settings_of(url)
        self._key_prefix = Keys.of(key_prefix).key_prefix
        self._pool: Pool | None = None

    async def read(self) -> FleetSnapshot:
        """Read a snapshot of the fleet.

        :raises redis.exceptions.RedisError: Redis does not answer
        """
        if self._pool is None:
            self._pool = await create_pool(
                self._settings, retry=self._settings.conn_retries, key_prefix=self._key_prefix
            )
        return await read_fleet(self._pool)

    async def close(self) -> None:
        """Close the connections."""
        if self._pool is not None:
            await self._pool.aclose()


def add_metrics(app: typer.Typer) -> None:
    """Add the command."""
    app.command(name="metrics")(metrics)


def metrics(
    port: Annotated[int, typer.Option(min=0, max=65535, help="to be scraped at; 0 for any free one")] = DEFAULT_PORT,
    host: Annotated[str, typer.Option(help="address to listen at; 0.0.0.0 for all")] = "127.0.0.1",
    once: Annotated[bool, typer.Option("--once", help="print the metrics instead, and end")] = False,
    redis_url: RedisUrl = None,
    key_prefix: KeyPrefix = None,
) -> None:
    """Serve the metrics of the whole fleet to Prometheus: jobs, queues, schedules, workers, as Redis has them.

    One such process is enough. While Redis is away it tells `arqestra_up 0`. SIGTERM and Ctrl-C end it.
    """
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s: %(message)s", datefmt="%H:%M:%S", stream=sys.stderr)
    with errors_as_exit_codes(redis_url):
        try:
            import prometheus_client  # noqa: F401
        except ImportError:
            raise Stop(NOT_INSTALLED, USAGE) from None
        url = redis_url_of(redis_url)
        source = Source(url, key_prefix)
        asyncio.run(_print_once(source) if once else _serve(source, url, port, host))


async def _print_once(source: Source) -> None:
    from ..observe.exposition import families_of_fleet, text_of

    try:
        sys.stdout.write(text_of(families_of_fleet(await source.read())).body.decode())
    finally:
        await source.close()


async def _serve(source: Source, url: str, port: int, host: str) -> None:
    from ..observe.fleet_exporter import FleetExporter

    fleet = FleetExporter(source.read)
    endpoint = Endpoint(fleet.exposition, port, host)
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    try:
        await endpoint.start()
    except OSError as error:
        raise Stop(str(error), USAGE) from None
    typer.echo(f"metrics of {redacted(url)} at {endpoint.url}", err=True)
    try:
        await stopped.wait()
    finally:
        await endpoint.stop()
        await fleet.close()
        await source.close()
