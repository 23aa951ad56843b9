"""How the figures of a worker process get out: over a port of its own, or over the line to its supervisor.

Counters are cumulative, so that a message that comes late or not at all changes nothing; a supervised process that is
killed takes at most the counts of its last second with it.
"""

import asyncio
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any, Protocol

import msgspec

from ...errors import SettingsError
from ...observe.endpoint import Endpoint, serve_when_free
from ...observe.process_metrics import REPORT_EVERY_S, Counters, ProcessMetrics, WorkerMetrics, metrics_of_position
from ...protocol.presence import Presence

__all__ = ("FiguresLine", "MetricsPort", "MetricsSink", "NoMetrics", "exposed", "require_prometheus", "told_figures")

COUNTERS_PER_MESSAGE = 200  # a message is to fit into what the line has room for


class MetricsSink(Protocol):
    """Where figures go, while the worker is connected."""

    async def start(self) -> None: ...

    async def stop(self) -> None: ...


class Line(Protocol):
    """The line to the supervisor."""

    def has_room(self) -> bool:
        """A message would be sent at once."""

    def send(self, message: dict[str, Any]) -> None:
        """Send a message."""


class NoMetrics:
    """Nobody has asked for figures."""

    async def start(self) -> None:
        """Nothing."""

    async def stop(self) -> None:
        """Nothing."""


class MetricsPort:
    """Serves the metrics of a process that has no supervisor.

    :param figures: what the process has counted, and how it is
    :param port, host: where
    :raises SettingsError: prometheus_client is not installed
    """

    def __init__(self, figures: Callable[[], ProcessMetrics], port: int, host: str) -> None:
        require_prometheus("metrics_port")
        self._figures = figures
        self._endpoint = Endpoint(self._metrics, port, host)
        self._starting: asyncio.Task[None] | None = None

    @property
    def url(self) -> str:
        """Of the metrics."""
        return self._endpoint.url

    async def start(self) -> None:
        """Begin to serve, as soon as the port is free."""
        self._starting = asyncio.create_task(serve_when_free(self._endpoint))

    async def stop(self) -> None:
        """Serve no more."""
        if self._starting is not None:
            self._starting.cancel()
            await asyncio.gather(self._starting, return_exceptions=True)
        await self._endpoint.stop()

    async def _metrics(self, accept: str) -> tuple[bytes, str]:
        figures = self._figures()
        presence = figures.presence
        return exposed(figures.counters, [metrics_of_position("0", presence.host, [presence])], accept)


class FiguresLine:
    """Tells the supervisor, once a second and at the end.

    :param figures: what the process has counted, and how it is
    :param line: to the supervisor
    :ivar wanted: whether it has asked for that
    """

    def __init__(self, figures: Callable[[], ProcessMetrics], line: Line) -> None:
        self._figures = figures
        self._line = line
        self.wanted = False
        self._told: dict[str, int] = {}
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to tell."""
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Tell the last figures."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            if self.wanted:
                self._tell(patiently=True)

    async def _run(self) -> None:
        while True:
            if self.wanted:
                self._tell()
            await asyncio.sleep(REPORT_EVERY_S)

    def _tell(self, *, patiently: bool = False) -> None:
        """Tell what has changed, as far as the line has room: the loop never waits for a supervisor that does not read.

        :param patiently: wait for it
        """
        counters, presence = self._figures()
        changed = [(field, number) for field, number in counters.items() if self._told.get(field) != number]
        for first in range(0, max(1, len(changed)), COUNTERS_PER_MESSAGE):
            if not patiently and not self._line.has_room():
                return
            piece = dict(changed[first : first + COUNTERS_PER_MESSAGE])
            self._line.send({"figures": piece, "presence": msgspec.to_builtins(presence)})
            self._told.update(piece)


def told_figures(message: dict[str, Any]) -> tuple[Counters, Presence]:
    """What a `FiguresLine` has told."""
    return message["figures"], msgspec.convert(message["presence"], Presence)


def exposed(counters: Counters, workers: list[WorkerMetrics], accept: str) -> tuple[bytes, str]:
    """The metrics of processes as text, and its content type."""
    from ...observe.exposition import families_of_processes, text_of  # prometheus_client is an extra

    return text_of(families_of_processes(counters, workers), accept)


def require_prometheus(what: str) -> None:
    """Raise `SettingsError` if prometheus_client is not installed."""
    if find_spec("prometheus_client") is None:
        raise SettingsError(f"{what}: expected the package prometheus-client: pip install 'arqestra[metrics]'")
