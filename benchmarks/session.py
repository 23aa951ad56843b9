"""One whole run: environments, a server, all rows with the queues interleaved."""

import contextlib
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import redis
from rich.console import Console

from .catalogue import PeerFacts
from .environments import EnvironmentUnavailableError, PeerEnvironment, make_environment
from .figures import Figures
from .processes import Bench, MeasurementFailedError
from .rows import Row
from .server import BenchmarkServer
from .stage import Stage


@dataclass(frozen=True)
class Plan:
    """What to measure, of which queues, how often, how much of it, and on which server."""

    rows: list[Row]
    peers: list[PeerFacts]
    repeat: int
    quick: bool
    server: Path | None = None


@dataclass
class SessionResults:
    """All results of a run, as far as it came.

    Attributes:
        server: name and version.
        versions: key of a queue -> the version that was measured.
        figures: all that was found.
        failures: what could not be measured, and why.
    """

    server: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    figures: Figures = field(default_factory=Figures)
    failures: list[str] = field(default_factory=list)


class Session:
    """Runs a plan. `results` holds what is there at any time, so an interrupted run can still be reported."""

    def __init__(self, plan: Plan, console: Console) -> None:
        self.plan = plan
        self.results = SessionResults()
        self._console = console

    def run(self) -> None:
        """Make the environments, start the server, measure, stop the server."""
        environments = self._environments()
        with tempfile.TemporaryDirectory() as folder, BenchmarkServer(self.plan.server) as server:
            self.results.server = server.version
            stages = [
                Stage(server, Bench(made, server.url, Path(folder)), facts, self.plan.quick)
                for facts, made in environments
            ]
            for number in range(self.plan.repeat):
                for row in self.plan.rows:
                    if number == 0 or not row.once:
                        self._take(row, stages)

    def _environments(self) -> list[tuple[PeerFacts, PeerEnvironment]]:
        made = []
        for facts in self.plan.peers:
            if not any(row.applies(facts) for row in self.plan.rows):
                continue
            self._say(f"environment of {facts.title}")
            try:
                environment = make_environment(facts)
            except EnvironmentUnavailableError as error:
                self._fail(f"{facts.title} is left out: {error}")
                continue
            self.results.versions[facts.key] = environment.version
            made.append((facts, environment))
        return made

    def _take(self, row: Row, stages: list[Stage]) -> None:
        """A row of every queue, one after the other, so that a noisy minute strikes all alike."""
        for stage in stages:
            if not row.applies(stage.facts):
                continue
            with self._reported(f"{stage.facts.title}, {row.name}"):
                found = row.measure(stage)
                self.results.figures.add(row.name, stage.facts.key, found)
                told = ", ".join(f"{name} {value:,.4g}" for name, value in found.items())
                self._say(f"{stage.facts.title}, {row.name}: {told or 'has no such thing'}")

    @contextlib.contextmanager
    def _reported(self, what: str) -> Iterator[None]:
        """A measurement that fails is reported and left out; the others go on."""
        try:
            yield
        except (MeasurementFailedError, redis.RedisError, psutil.Error) as error:
            self._fail(f"{what}: {error}")

    def _fail(self, message: str) -> None:
        self.results.failures.append(message)
        self._console.print(message, style="red", highlight=False, markup=False)

    def _say(self, message: str) -> None:
        self._console.print(message, style="dim", highlight=False, markup=False)
