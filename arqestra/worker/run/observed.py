"""A worker's jobs within what others have put around arq's functions: Sentry's transactions and errors, spans.

When the worker starts, after `on_startup` (which may be what sets Sentry up), `observe` looks at what is in the place
of `arq.worker.Worker.run_job`, of `arq.worker.create_worker`, and of the attribute `coroutine` of arq's `Function`; see
`instrumentation.py`. Usually that is arq's own, and nothing is done. Otherwise:

- an attempt runs within the wrapper of `run_job`, from its payload to its outcome, as in a stock worker;
- each function gets `Observed.through`: what the wrappers of `create_worker` and of `coroutine` make of a stand-in that
  calls it. The functions themselves are not touched: other workers have them too.

A failure is shown to the wrappers if it comes out of the function or its middleware. What they never see, such as a
result that cannot be stored, is logged as a fault instead: Sentry mutes the logger `arq.worker`, and not
`arq.worker.faults`.
"""

import logging
from collections.abc import Awaitable, Callable, Coroutine
from contextvars import ContextVar
from dataclasses import replace
from functools import partial, wraps
from inspect import getattr_static, iscoroutinefunction
from types import FrameType, SimpleNamespace, TracebackType
from typing import Any

import arq.worker
from arq.cron import CronJob
from arq.worker import Function, JobExecutionFailed, Retry, RetryJob

from ...definitions.context import running_attempt
from ...drop_in.instrumentation import (
    bottom_of,
    contents_of,
    create_worker_before,
    mention_unknown_wrapper,
    name_of,
    rewrapped,
)
from .attempt import Attempt
from .context import RunContext
from .decision import decide
from .effective_options import EffectiveOptions, Observed
from .outcome import CancelReason, State

__all__ = ("faults", "observe_functions", "observe_runs", "run_observed", "was_shown")

Execute = Callable[[Attempt], Coroutine[Any, Any, None]]

# Errors that are not a job's own, or that the job's wrappers have not seen.
faults = logging.getLogger("arq.worker.faults")

# Packages whose frames are between a function's wrapper and the function.
_BETWEEN = frozenset({__name__.partition(".")[0], "asyncio", "concurrent", "contextlib"})

_inside: ContextVar[Callable[[], Awaitable[Any]]] = ContextVar("arqestra_inside")
_shown: ContextVar[bool] = ContextVar("arqestra_failure_shown", default=False)


def observe_functions(functions: dict[str, EffectiveOptions], timezone: Any) -> bool:
    """Let each function be called within what others have put around arq's `create_worker` and `coroutine`.

    :param functions: the options of each function, of which `observed` and `invoked` are set
    :param timezone: of the worker, which such a wrapper may read
    :returns: whether somebody has put anything there
    """
    wrapper = _create_worker_wrapper(timezone)
    if wrapper is None and not any("coroutine" in vars(cls) for cls in (Function, CronJob)):
        return False
    own = [options.function for options in functions.values() if options.function is not None]
    stand_ins = {each.name: _stand_in(each) for each in own}
    settings = SimpleNamespace(
        functions=[
            Function(
                name=each.name,
                coroutine=stand_ins[each.name],
                timeout_s=None,
                keep_result_s=None,
                keep_result_forever=None,
                max_tries=None,
            )
            for each in own
            if not isinstance(each, CronJob)
        ],
        cron_jobs=[replace(each, coroutine=stand_ins[each.name]) for each in own if isinstance(each, CronJob)],
    )
    if wrapper is not None:
        wrapper(settings)
    for made in (*settings.functions, *settings.cron_jobs):
        options = functions[made.name]
        through, bare = made.coroutine, _bare(vars(options.function)["coroutine"], made.coroutine, stand_ins[made.name])
        functions[made.name] = options._replace(observed=Observed(through, bare), invoked=True)
    return True


def observe_runs(worker: Any, execute: Execute) -> Execute:
    """Put what others have put around arq's `Worker.run_job` around the life of an attempt.

    :param worker: what such a wrapper sees as the worker
    :param execute: the life of an attempt
    :returns: the same, within the wrappers if there are any
    """
    patched = getattr_static(arq.worker.Worker, "run_job")
    wrapper = rewrapped(patched, _run_job)
    if wrapper is None:
        mention_unknown_wrapper("Worker.run_job", name_of(patched))
    if wrapper is None or wrapper is _run_job:
        return execute
    return partial(_execute_through, wrapper, worker, execute)


class _JobRun:
    """What a wrapper of `Worker.run_job` sees as the worker: ours, with the queue that the job came from."""

    def __init__(self, worker: Any, execute: Execute, attempt: Attempt) -> None:
        self._worker = worker
        self.execute = execute
        self.attempt = attempt
        self.queue_name = attempt.leased.queue
        self.entered = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._worker, name)


async def _run_job(run: _JobRun, _job_id: str, _score: int) -> None:
    run.entered = True
    await run.execute(run.attempt)


async def _execute_through(wrapper: Any, worker: Any, execute: Execute, attempt: Attempt) -> None:
    run = _JobRun(worker, execute, attempt)
    try:
        await wrapper.__get__(run, _JobRun)(attempt.leased.id, attempt.leased.due_ms)
    except Exception:  # `execute` raises none: the wrapper's own must not cost the job its run, or the worker its slot
        faults.exception("%s failed around job %s", name_of(wrapper), attempt.leased.id)
        if not run.entered:
            await execute(attempt)


# -- functions --------------------------------------------------------------------------------------------------------


def _create_worker_wrapper(timezone: Any) -> Any:
    """What others have put around `arq.worker.create_worker`, to be called with settings; None if nothing."""

    def create_worker(settings: Any, **_: Any) -> Any:
        return SimpleNamespace(cron_jobs=settings.cron_jobs, functions=settings.functions, timezone=timezone)

    patched, before = arq.worker.create_worker, create_worker_before
    bottom = bottom_of(patched)
    arqs = bottom is not None and bottom.__module__ == arq.worker.__name__
    inner = create_worker if arqs else rewrapped(before, create_worker)
    wrapper = None if inner is None else rewrapped(patched, inner)
    if wrapper is None:
        mention_unknown_wrapper("create_worker", name_of(patched if bottom is None else before))
    return None if wrapper is create_worker else wrapper


def _stand_in(function: Function | CronJob) -> Any:
    """A coroutine function for the wrappers: it goes on with the attempt that it is called for."""

    @wraps(getattr(function, "sync_function", None) or vars(function)["coroutine"])
    async def run(ctx: Any, *args: Any, **kwargs: Any) -> Any:
        attempt = running_attempt.get()
        assert isinstance(attempt, Attempt)
        attempt.args, attempt.kwargs = args, kwargs  # without what the wrappers have taken out of them
        try:
            return await _inside.get()()
        except Exception as error:
            _cut_tracebacks(error)
            raise

    return run


def _cut_tracebacks(error: BaseException) -> None:
    """Let a job's traceback begin in the job's code, as below a wrapper in a stock worker.

    Sentry tells the variables of each frame, and masks them by their names. In our frames a job's arguments have other
    names than in the job's. An error that arose in our frames alone keeps none, nor do those that caused it.
    """
    error.__traceback__ = _foreign(error.__traceback__)
    ours = error.__traceback__ is None
    seen: set[int] = set()
    chained: list[BaseException | None] = [error]
    while chained:
        each = chained.pop()
        if each is None or id(each) in seen:
            continue
        seen.add(id(each))
        each.__traceback__ = _foreign(each.__traceback__) or (None if ours else each.__traceback__)
        chained += [each.__cause__, each.__context__]


def _foreign(traceback: TracebackType | None) -> TracebackType | None:
    """A traceback from its first frame that is not ours, nor of what we call jobs through; None if it has none."""
    while traceback is not None and _root_of(traceback.tb_frame) in _BETWEEN:
        traceback = traceback.tb_next
    return traceback


def _root_of(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__")).partition(".")[0]


def _bare(coroutine: Any, through: Any, stand_in: Any) -> Any:
    """A coroutine function without the wrappers that `through` has, if it was given to arq's `create_worker` before.
    Of wrappers that are no functions (an object, a partial) that is not known.
    """
    codes = set()
    while through is not None and through is not stand_in:
        codes.add(getattr(through, "__code__", None))
        through = _wrapped_by(through)
    while getattr(coroutine, "__code__", None) in codes - {None} and _wrapped_by(coroutine) is not None:
        coroutine = _wrapped_by(coroutine)
    return coroutine


def _wrapped_by(wrapper: Any) -> Any:
    """The coroutine function that a wrapper of one calls, if that is known."""
    return next((content for content in contents_of(wrapper) if iscoroutinefunction(content)), None)


# -- a run ------------------------------------------------------------------------------------------------------------


async def run_observed(run: RunContext, attempt: Attempt, inside: Callable[[], Awaitable[Any]]) -> Any:
    """Run a job within the wrappers of its function.

    In the place of what is no failure they are shown a `RetryJob`, which arq's users raise to be run again: of an error
    that the retry policy lets run again, of what a job asks for by `Snooze` and `Cancel`, and of what the clean-up of
    an interrupted job raises.

    :param inside: calls the function
    """
    observed = attempt.options.observed
    assert observed is not None
    hidden: Exception | None = None

    async def shown() -> Any:
        nonlocal hidden
        try:
            return await inside()
        except Exception as error:
            if isinstance(error, Retry | RetryJob) or _is_failure(run, attempt, error):
                raise
            hidden = error
            raise RetryJob(str(error)) from error

    token = _inside.set(shown)
    try:
        return await observed.through(attempt.ctx, *attempt.args, **attempt.kwargs)
    except Exception as error:
        if hidden is None or not isinstance(error, RetryJob):
            _shown.set(True)
            raise
    finally:
        _inside.reset(token)
    try:
        raise hidden
    finally:
        hidden = None  # its traceback has this frame: a circle


def _is_failure(run: RunContext, attempt: Attempt, error: Exception) -> bool:
    """Whether the attempt fails of it: it is not run again, and nobody has interrupted it."""
    if attempt.options.workflow is not None:  # then it is decided already
        return True
    return decide(run, attempt, error).state is State.FAILED


def was_shown(attempt: Attempt, error: BaseException) -> bool:
    """Whether a failure is one that the wrappers of its function have seen, or would not see in a stock worker either:
    a time limit, and what arq itself says of a job.
    """
    return _shown.get() or attempt.reason is CancelReason.TIMEOUT or isinstance(error, JobExecutionFailed)
