"""One whole run: environments, a server, all measurements with the peers interleaved."""

import contextlib
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import redis
from rich.console import Console

from .catalogue import LEVELS, OURS, PeerFacts
from .engine_only import EngineResults, measure_engine
from .environments import EnvironmentUnavailableError, PeerEnvironment, make_environment
from .measurements import (
    PeerResults,
    measure_against_ping,
    measure_chord,
    measure_latency,
    measure_rate,
    measure_throughput,
    scaled_backlog,
)
from .processes import Bench, MeasurementFailedError
from .server import BenchmarkServer

# Celery, RQ and the polling ones answer a few times a second; the limit keeps them from holding up the run.
LATENCY_LIMIT_S = 15.0


@dataclass(frozen=True)
class Plan:
    """What to measure, and how much of it."""

    peers: list[PeerFacts]
    repeat: int
    quick: bool
    full: bool

    @property
    def latency_jobs(self) -> int:
        """Jobs of a latency measurement."""
        return 100 if self.quick else 400

    @property
    def sequential_jobs(self) -> int:
        """Calls of a sequential measurement."""
        return 500 if self.quick else 3_000


@dataclass
class SessionResults:
    """All results of a run, as far as it came."""

    server: str = ""
    peers: dict[str, PeerResults] = field(default_factory=dict)
    engine: EngineResults | None = None
    failures: list[str] = field(default_factory=list)


@dataclass
class Candidate:
    """A peer that can be measured, and what was found of it."""

    facts: PeerFacts
    environment: PeerEnvironment
    bench: Bench
    results: PeerResults


class Session:
    """Runs a plan. `results` holds what is there at any time, so an interrupted run can still be reported."""

    def __init__(self, plan: Plan, console: Console) -> None:
        self.plan = plan
        self.results = SessionResults()
        self._console = console

    def run(self) -> None:
        """Make the environments, start the server, measure, stop the server."""
        environments = self._environments()
        with tempfile.TemporaryDirectory() as folder, BenchmarkServer() as server:
            self.results.server = server.version
            candidates = [self._candidate(facts, made, server, Path(folder)) for facts, made in environments]
            for _ in range(self.plan.repeat):
                self._one_round(server, candidates)
            for candidate in candidates:
                self._latencies(server, candidate)
            ours = next((candidate for candidate in candidates if candidate.facts.key == OURS), None)
            if self.plan.full and ours is not None:
                with self._reported("arqestra, large loads"):
                    self.results.engine = EngineResults()
                    measure_engine(server, ours.bench, self.results.engine, self._say)

    def _environments(self) -> list[tuple[PeerFacts, PeerEnvironment]]:
        made = []
        for facts in self.plan.peers:
            self._say(f"environment of {facts.title}")
            try:
                made.append((facts, make_environment(facts)))
            except EnvironmentUnavailableError as error:
                self._fail(f"{facts.title} is left out: {error}")
        return made

    def _candidate(
        self, facts: PeerFacts, environment: PeerEnvironment, server: BenchmarkServer, folder: Path
    ) -> Candidate:
        results = PeerResults(facts.key, facts.title, environment.version, facts.unit, facts.note)
        self.results.peers[facts.key] = results
        return Candidate(facts, environment, Bench(environment, server.url, folder), results)

    def _one_round(self, server: BenchmarkServer, candidates: list[Candidate]) -> None:
        """Every measurement that is repeated, once; peer after peer, so that a noisy minute strikes all alike."""
        for level in (1, *LEVELS):
            for candidate in candidates:
                if level in candidate.facts.levels:
                    self._throughput(server, candidate, level)
        for candidate in candidates:
            for way, count in self._enqueue_counts(candidate.facts).items():
                self._rate(server, candidate, way, count)
            if candidate.facts.chord_jobs:
                self._chord(server, candidate, "chord")
            if candidate.facts.key == OURS:
                self._chord(server, candidate, "batch")
                with self._reported("arqestra, enqueue against PING"):
                    measure_against_ping(server, candidate.bench, candidate.results, self.plan.sequential_jobs)

    def _enqueue_counts(self, facts: PeerFacts) -> dict[str, int]:
        many = facts.enqueue_jobs // 5 if self.plan.quick else facts.enqueue_jobs
        return {"sequential": self.plan.sequential_jobs, "gather": many, "bulk": many}

    def _throughput(self, server: BenchmarkServer, candidate: Candidate, level: int) -> None:
        with self._reported(f"{candidate.facts.title}, throughput at {level}"):
            jobs = scaled_backlog(candidate.facts, level, self.plan.quick)
            run = measure_throughput(server, candidate.bench, level, jobs)
            candidate.results.throughput.append(run)
            self._say(f"{candidate.facts.title}, concurrency {level}: {run.jobs_per_s:,.0f} jobs/s")

    def _rate(self, server: BenchmarkServer, candidate: Candidate, way: str, count: int) -> None:
        with self._reported(f"{candidate.facts.title}, {way}"):
            rate = measure_rate(server, candidate.bench, way, count)
            if rate is not None:
                candidate.results.rates_per_s.setdefault(way, []).append(rate)
                self._say(f"{candidate.facts.title}, {way}: {rate:,.0f}/s")

    def _chord(self, server: BenchmarkServer, candidate: Candidate, command: str) -> None:
        with self._reported(f"{candidate.facts.title}, {command}"):
            jobs = candidate.facts.chord_jobs // 5 if self.plan.quick else candidate.facts.chord_jobs
            rate = measure_chord(server, candidate.bench, command, jobs)
            if rate is not None:
                candidate.results.rates_per_s.setdefault(command, []).append(rate)
                self._say(f"{candidate.facts.title}, {command} of {jobs:,}: {rate:,.0f}/s")

    def _latencies(self, server: BenchmarkServer, candidate: Candidate) -> None:
        def measured(command: str) -> Any:
            with self._reported(f"{candidate.facts.title}, {command}"):
                found = measure_latency(server, candidate.bench, command, self.plan.latency_jobs, LATENCY_LIMIT_S)
                if found is not None:
                    self._say(
                        f"{candidate.facts.title}, {command}: p50 {found.p50_ms:.2f} ms, p99 {found.p99_ms:.2f} ms"
                    )
                return found

        candidate.results.start_latency = measured("latency")
        candidate.results.result_latency = measured("result-latency")
        if candidate.facts.key == OURS:
            candidate.results.ping_latency = measured("ping-latency")

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
