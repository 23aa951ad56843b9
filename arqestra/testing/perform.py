"""`perform`: one attempt at one job, without a server, in the test's own task."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, NoReturn, cast

from arq.connections import ArqRedis

from ..client.pool import Pool
from ..definitions.context import running_attempt
from ..definitions.function import BoundJob, Call, JobFunction
from ..definitions.middleware import checked_headers
from ..definitions.redact import shown_value
from ..errors import SettingsError
from ..protocol.clock import new_job_id, new_worker_id, timestamp_ms
from ..protocol.keys import DEFAULT_QUEUE
from ..protocol.serializers import Serializer, serializer_of
from ..protocol.wire import Payload, encode_payload
from ..store.records import LeasedJob
from ..store.store import Store
from ..store.updates import AcknowledgeEarly, Update
from ..worker.registry import registered
from ..worker.run.attempt import Attempt
from ..worker.run.conclude import conclude
from ..worker.run.context import Hooks, JobCounts, RunContext, StickyWorkflows
from ..worker.run.effective_options import EffectiveOptions, effective_options, options_of_unknown
from ..worker.run.execute import before_call, call
from ..worker.run.executors import Executors
from ..worker.run.outcome import Outcome
from ..worker.run.report import report, report_refusal
from ..worker.settings import WorkerOptions
from .clock import check_pool
from .outcomes import JobOutcome, outcome_of
from .workers import settings_of_tests

__all__ = ("perform",)

DAY_MS = 86_400_000


async def perform(
    function: Any,
    /,
    *args: Any,
    job_try: int = 1,
    ctx: Mapping[Any, Any] | None = None,
    _job_id: str | None = None,
    _headers: Mapping[str, str] | None = None,
    _pool: Pool | None = None,
    _serializer: str | Serializer | None = None,
    _settings: Any = None,
    **kwargs: Any,
) -> JobOutcome:
    """Run one attempt of one job here, as a worker would: the arguments go through the serializer and are coerced to
    the type hints, ctx is filled, time limits and middleware are on, what is raised decides how the attempt ends.

    No server is needed, and nothing is stored. Limits of the fleet, locks and `unique` do not apply. A durable workflow
    is run by `run_workflow`.

    :param function: a job function, also with options of one enqueue: `f.options(...)`
    :param args: its arguments after ctx
    :param job_try: number of the attempt
    :param ctx: what the worker's ctx has beside what every job finds there
    :param _job_id: the job's id; default a new one
    :param _headers: text that travels with the job
    :param _pool: `ctx["redis"]`; without it, whatever touches that raises
    :param _serializer: default that of `_pool` or `_settings`, else pickle
    :param _settings: of the application's worker: its middleware, hooks, time limits
    :param kwargs: keyword arguments of the function
    :returns: what became of the attempt
    :raises ArgumentsError, SerializationError: as an enqueue would
    :raises SettingsError: what is to run is a workflow, or a setting is wrong
    """
    _check_given(job_try, ctx)
    if _pool is not None:
        check_pool("perform: _pool", _pool)
    given = call_of(function, args, kwargs)
    settings = settings_of_tests([_target_of(function)], {}) if _settings is None else settings_of_tests(_settings, {})
    settings["functions"] = [_target_of(function)]
    options = WorkerOptions.of({**settings, "handle_signals": False})
    serializer = _serializer_for(_serializer, _pool, options)
    name, found = next(iter(registered(options.functions, ()).items()))
    terms = effective_options(found, options, serializer)._replace(limited=False)
    if terms.workflow is not None:
        raise SettingsError(f"perform: expected a plain job function, got the workflow {name}; use run_workflow")
    headers = checked_headers({**(given.headers or {}), **(_headers or {})})
    now_ms = timestamp_ms()
    marks: dict[str, Any] = {"x": now_ms + DAY_MS, **({"h": headers} if headers else {})}
    payload = encode_payload(
        serializer,
        Payload(name, tuple(given.args), dict(given.kwargs), job_try=None, enqueued_ms=now_ms, options=marks),
    )
    queue = given.queue or (DEFAULT_QUEUE if _pool is None else _pool.default_queue_name)
    leased = LeasedJob(
        queue, "perform.1", now_ms, _job_id or given.job_id or new_job_id(), payload, job_try, now_ms, 0, ""
    )
    stage = Stage(options, serializer, {name: terms}, _pool, dict(ctx or {}))
    return await stage.play(leased)


def _check_given(job_try: Any, ctx: Any) -> None:
    if type(job_try) is not int or job_try < 1:
        raise SettingsError(f"perform: job_try: expected an int of at least 1, got {shown_value(job_try)}")
    if not isinstance(ctx, Mapping | None):
        raise SettingsError(f"perform: ctx: expected a dict, got {shown_value(ctx)}")


def call_of(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call[Any]:
    """The call, with arguments that fit."""
    if isinstance(function, JobFunction | BoundJob):
        return function.bind(*args, **kwargs)
    return Call(getattr(function, "__name__", str(function)), args, kwargs)


def _target_of(function: Any) -> Any:
    return function.function if isinstance(function, BoundJob) else function


def _serializer_for(chosen: str | Serializer | None, pool: Pool | None, options: WorkerOptions) -> Serializer:
    if chosen is None and pool is not None:
        return pool.serializer
    return serializer_of(chosen or options.serializer, options.job_serializer, options.job_deserializer)


class NoServer:
    """Stands for `ctx["redis"]` where there is none."""

    def __getattr__(self, name: str) -> NoReturn:
        raise RuntimeError(f"perform: the job uses Redis ({name}), and there is none; give one by _pool=")


class NobodyListens:
    """Where a worker counts and tells."""

    listened = False

    def job_started(self, attempt: Attempt) -> None:
        """Nobody is told."""

    def recovered(self, attempt: Attempt) -> None:
        """Nothing is counted."""

    def write_notes_soon(self) -> None:
        """Nothing is written."""


class OwnTask:
    """The test's own task, in which a job runs: the time limits of the job cancel it, and undo only that."""

    def __init__(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._task = task
        self._before, self._ours = task.cancelling(), 0

    def cancel(self) -> bool:
        """For a time limit."""
        self._ours += 1
        return self._task.cancel()

    def cancelling(self) -> int:
        """How many cancellations of ours are not undone."""
        return self._ours

    def uncancel(self) -> int:
        """Undo one of ours; returns how many are left, others' among them."""
        self._ours -= 1
        return self._task.uncancel() - self._before

    def get_coro(self) -> Any:
        """Where it is."""
        return self._task.get_coro()

    def raise_cancellation(self) -> None:
        """If somebody has cancelled the test, it is cancelled.

        :raises asyncio.CancelledError: somebody has
        """
        if self._task.cancelling() > self._before:
            raise asyncio.CancelledError


class Stage:
    """Where one attempt runs: a worker's parts, without a worker.

    :param options: of the worker
    :param serializer: of payload and result
    :param functions: the one function
    :param pool: what `ctx["redis"]` is, or nothing
    :param ctx: of the worker
    """

    def __init__(
        self,
        options: WorkerOptions,
        serializer: Serializer,
        functions: dict[str, EffectiveOptions],
        pool: Pool | None,
        ctx: dict[Any, Any],
    ) -> None:
        self.sticky: dict[str, Attempt] = {}
        self._attempt: Attempt | None = None
        self._outcome: JobOutcome | None = None
        self._concluding: set[asyncio.Task[None]] = set()
        redis = cast(ArqRedis, pool if pool is not None else NoServer())
        self._options_of_unknown = options_of_unknown(options)
        nobody = NobodyListens()
        self.run = RunContext(
            loop=asyncio.get_running_loop(),
            worker_id=new_worker_id(),
            queue_name=DEFAULT_QUEUE,
            pool=redis,
            store=cast(Store, NoServer()) if pool is None else pool.store,
            serializer=serializer,
            options=options,
            functions=functions,
            ctx={**(options.ctx or {}), **ctx, "redis": ctx.get("redis", redis)},
            slots=self,
            outbox=self,
            publisher=nobody,
            counters=nobody,
            reporter=nobody,
            executors=Executors(options.threads, options.processes, options.max_calls_per_process),
            hooks=Hooks(options.on_job_start, options.on_job_end, options.after_job_end),
            counts=JobCounts(),
            workflows=StickyWorkflows(),
            is_stopping=lambda: False,
            cron_id_ms=lambda cron_job: 0,
            retry_jobs=options.retry_jobs,
            on_outcome=self._take,
        )

    async def play(self, leased: LeasedJob) -> JobOutcome:
        """Run the attempt to its outcome."""
        attempt = self._attempt = Attempt(leased, self._options_of_unknown)
        task = OwnTask()
        attempt.task = cast("asyncio.Task[None]", task)
        token = running_attempt.set(attempt)
        try:
            outcome: Outcome | None = await before_call(self.run, attempt)
            if outcome is not None:
                report_refusal(self.run, attempt, outcome)
            else:
                outcome = await call(self.run, attempt)
                if not attempt.handed_over:  # else it has ended late
                    report(self.run, attempt, outcome)
            if not attempt.handed_over:
                await conclude(self.run, attempt, outcome)
            for late in list(self._concluding):
                await late
        finally:
            running_attempt.reset(token)
            attempt.task = None
            await self.run.executors.close()
        task.raise_cancellation()
        assert self._outcome is not None
        return self._outcome

    def _take(self, attempt: Attempt, outcome: Outcome) -> None:
        self._outcome = outcome_of(attempt, outcome, self.run.serializer)

    # -- what the run asks of slots and outbox --------------------------------------------------------------------

    def free(self, attempt: Attempt) -> None:
        """There is no slot."""

    def suspend(self, attempt: Attempt) -> None:
        """No workflow runs here."""

    def conclude(self, task: asyncio.Task[None]) -> None:
        """Its end is waited for."""
        self._concluding.add(task)

    def submit(self, update: Update) -> None:
        """Nothing is stored; whoever waits for that is told at once."""
        attempt = self._attempt
        assert attempt is not None
        waiting = attempt.acknowledged if type(update) is AcknowledgeEarly else attempt.written
        if waiting is not None and not waiting.done():
            waiting.set_result(True)

    def wake(self) -> None:
        """There is no round trip."""
