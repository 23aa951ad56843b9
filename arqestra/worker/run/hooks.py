"""The user's hooks around the end of an attempt. Their errors are logged and change nothing."""

import inspect
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .attempt import Attempt
from .outcome import Outcome, State

if TYPE_CHECKING:
    from ..worker import Worker

__all__ = ("call_end_hooks", "call_hook", "has_end_hooks")

faults = logging.getLogger("arq.worker.faults")  # what is no job's own failure: observed.py


async def call_hook(name: str, hook: Callable[..., Any], attempt: Attempt, *args: Any) -> None:
    """Call one hook."""
    try:
        result = hook(*args)
        if inspect.isawaitable(result):
            await result
    except (KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException:
        faults.exception("%s failed for %s", name, attempt.ref)


def has_end_hooks(worker: "Worker", attempt: Attempt, outcome: Outcome) -> bool:
    """Whether somebody wants to know of this kind of end."""
    return (outcome.exhausted or outcome.state is State.EXPIRED) and bool(_hooks(worker, attempt, outcome))


async def call_end_hooks(worker: "Worker", attempt: Attempt, outcome: Outcome) -> None:
    """The function's hook first, then the worker's."""
    for name, hook in _hooks(worker, attempt, outcome):
        args = (attempt.ctx, outcome.value) if outcome.exhausted else (attempt.ctx,)
        await call_hook(name, hook, attempt, *args)


def _hooks(worker: "Worker", attempt: Attempt, outcome: Outcome) -> list[tuple[str, Callable[..., Any]]]:
    job_options, options = attempt.options.job_options, worker.options
    if outcome.exhausted:
        own, general = job_options.on_exhausted if job_options else None, options.on_retries_exhausted
        named = (("on_exhausted", own), ("on_retries_exhausted", general))
    elif outcome.state is State.EXPIRED:
        own, general = job_options.on_expired if job_options else None, options.on_expired
        named = (("on_expired", own), ("on_expired", general))
    else:
        return []
    return [(name, hook) for name, hook in named if hook is not None]
