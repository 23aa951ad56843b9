"""The metrics of a supervisor's processes, added up and served at one port."""

import asyncio
import logging
import socket
from collections.abc import Callable
from typing import Any

import msgspec

from ...errors import SettingsError
from ...observe.endpoint import Endpoint, serve_when_free
from ...observe.process_metrics import ProcessTotals
from ..telemetry.metrics_port import exposed, require_prometheus, told_figures

__all__ = ("SupervisorMetrics",)

logger = logging.getLogger("arq.worker")


class SupervisorMetrics:
    """Takes in what the processes tell, and serves it.

    :param places: how many posts the supervisor has
    :param address: port and host; None: those that the first process names whose settings have a `metrics_port`
    :param on_wanted: called when a process has named an address: the others have to be asked for their figures
    :raises SettingsError: prometheus_client is not installed
    """

    def __init__(self, places: int, address: tuple[int, str] | None, on_wanted: Callable[[], None]) -> None:
        if address is not None:
            require_prometheus("--metrics-port")
        self._sums = ProcessTotals(places, socket.gethostname())
        self._given = address is not None
        self._address = address
        self._on_wanted = on_wanted
        self._endpoint: Endpoint | None = None
        self._starting: asyncio.Task[None] | None = None

    @property
    def wanted(self) -> bool:
        """Whether processes have to tell their figures."""
        return self._address is not None

    async def start(self) -> None:
        """Begin to serve, if it is known where.

        :raises SettingsError: the address is in use, or none of this machine
        """
        if self._address is not None:
            self._endpoint = Endpoint(self._metrics, *self._address)
            try:
                await self._endpoint.start()
            except OSError as error:
                raise SettingsError(f"--metrics-port: {error}") from None
            logger.info("supervisor: metrics at %s", self._endpoint.url)

    async def stop(self) -> None:
        """Serve no more."""
        if self._starting is not None:
            self._starting.cancel()
            await asyncio.gather(self._starting, return_exceptions=True)
        if self._endpoint is not None:
            await self._endpoint.stop()

    def hear(self, place: int, pid: int, message: dict[str, Any]) -> None:
        """A process tells its figures, or where its settings want them to be served."""
        try:
            if "figures" in message:
                self._sums.report(place, pid, *told_figures(message))
            elif not self._given:
                self._serve(*message["serve"])
        except (msgspec.ValidationError, KeyError, TypeError) as error:  # code of another version, after SIGHUP
            logger.debug("supervisor: figures of process %d are left out: %s", pid, error)

    def ended(self, pid: int) -> None:
        """A process has ended."""
        self._sums.process_ended(pid)

    def stopped(self, place: int) -> None:
        """A post is given up, as it was to be."""
        self._sums.position_stopped(place)

    def _serve(self, port: int, host: str) -> None:
        if self._address is None:
            self._address = (port, host)
            self._endpoint = Endpoint(self._metrics, port, host)
            self._starting = asyncio.create_task(serve_when_free(self._endpoint))
            self._on_wanted()
        elif self._address != (port, host):
            logger.warning(
                "supervisor: metrics_port %d (%s) is not served: one supervisor serves one, and that is %d (%s)",
                *(port, host, *self._address),
            )

    async def _metrics(self, accept: str) -> tuple[bytes, str]:
        return exposed(self._sums.counters(), self._sums.workers(), accept)
