"""Workers in a test's own event loop."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Self, TypeVar

from ..client.connect import sibling
from ..client.pool import Pool
from ..errors import SettingsError
from ..protocol.serializers import SERIALIZERS, Serializer
from ..worker.beside import running
from ..worker.session import Session
from ..worker.settings_source import settings_in
from ..worker.worker import Worker
from .clock import Traveller, check_pool, travellers

__all__ = ("TestWorker", "make_worker", "new_worker", "pool_beside", "settings_of_tests")

POLL_DELAY_S = 0.05
W = TypeVar("W", bound=Worker)


class TestWorker(Worker):
    """A worker in the event loop of a test. It looks again when the time has moved."""

    __test__ = False  # for pytest: it is none

    async def _work(self, session: Session) -> None:
        traveller = Traveller(lambda: self.loop.call_soon_threadsafe(self._look, session))
        travellers.add(traveller)
        try:
            await super()._work(session)
        finally:
            travellers.discard(traveller)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Self]:
        """Within this the worker runs beside the test, waiting for jobs; at the end it stops and is closed."""
        async with running(self):
            yield self

    def _look(self, session: Session) -> None:
        if session.is_open and session.claims.active:
            session.sync.claim_soon()
            self.workflows.tell_all()
            self.schedule_runner.look()


def make_worker(pool: Pool, functions: Any = (), **settings: Any) -> TestWorker:
    """A worker for a test, not started yet: `await worker.main()` runs until the queue is empty, and within
    `async with worker.running():` it runs beside the test. `await worker.close()` is the caller's after `main`.

    :param pool: the worker gets a pool of its own on the same Redis, with the same settings
    :param functions: job functions, or the settings class of an application's worker
    :param settings: further settings
    """
    check_pool("make_worker", pool)
    return new_worker(TestWorker, pool, {"burst": True, **settings_of_tests(functions, settings)})


def new_worker(kind: type[W], pool: Pool, given: dict[str, Any]) -> W:
    """A worker on a pool of its own beside this one.

    :param kind: its class
    :param given: settings; what they do not say is as of the pool
    """
    defaults: dict[str, Any] = {
        "queue_name": pool.default_queue_name,
        "serializer": pool.serializer,
        "middleware": pool.middleware,
        "key_prefix": pool.key_prefix,
        "poll_delay": POLL_DELAY_S,
        "unknown_functions": "fail",
    }
    if "job_serializer" in given or "job_deserializer" in given:
        del defaults["serializer"]
    if "queues" in given or "queue_name" in given:
        del defaults["queue_name"]
    _check_serializer(given.get("serializer"), pool.serializer)
    here = {"redis_pool": pool_beside(pool), "redis_settings": None, "handle_signals": False, "metrics_port": None}
    return kind(**{**defaults, **given, **here})


def _check_serializer(of_settings: str | Serializer | None, of_pool: Serializer) -> None:
    """A worker that cannot read the pool's jobs fails them all, and each says only that it was not readable."""
    name = of_settings.name if isinstance(of_settings, Serializer) else of_settings
    if name is not None and name != of_pool.name and name in SERIALIZERS:
        raise SettingsError(
            f"serializer: expected the settings and the pool to have the same, got {name} and {of_pool.name}; "
            f'give the pool serializer="{name}" (the fixture arqestra_pool takes it from arqestra_pool_settings)'
        )


def settings_of_tests(functions: Any, settings: dict[str, Any]) -> dict[str, Any]:
    """The settings of a worker in a test.

    :param functions: job functions, or a settings class (dict, module) of an application's worker
    :param settings: what is to be otherwise; `ctx` goes over that of the class
    """
    if isinstance(functions, list | tuple | set | frozenset):
        return {"functions": list(functions), **settings}
    if callable(functions) and not isinstance(functions, type):
        return {"functions": [functions], **settings}
    if isinstance(functions, str) or functions is None:
        raise SettingsError(f"expected job functions or a worker's settings, got {functions!r}")
    found = settings_in(functions)
    if "ctx" in settings and found.get("ctx"):
        settings = {**settings, "ctx": {**found["ctx"], **(settings["ctx"] or {})}}
    return {**found, **settings}


def pool_beside(pool: Pool) -> Pool:
    """Another pool on the same Redis, with the same settings: a worker closes its own at its end."""
    other = Pool(
        sibling(pool.connection_pool),
        default_queue_name=pool.default_queue_name,
        expires_extra_ms=pool.expires_extra_ms,
        serializer=pool.serializer,
        max_payload_bytes=pool.max_payload_bytes,
        middleware=pool.middleware,
        key_prefix=pool.key_prefix,
    )
    other.clock_offset_ms = pool.clock_offset_ms
    return other
