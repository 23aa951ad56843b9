"""How the function of a workflow is called, and what an error means that ends it: in a worker, and in a test."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from arq.worker import JobExecutionFailed

from ...definitions.coerce import ArgumentCoercer
from ...flow.execution import Execution
from ...protocol.attempt_errors import text_of
from .outcome import Outcome, State, classify

__all__ = ("coerced_arguments", "outcome_of_error")


def coerced_arguments(
    coercer: ArgumentCoercer | None, args: Sequence[Any], kwargs: dict[str, Any], own_kwargs: Mapping[str, Any]
) -> tuple[Sequence[Any], dict[str, Any]]:
    """The arguments as the function's hints want them.

    :param own_kwargs: those of the keywords that its caller gave
    :raises ArgumentsError: a value does not fit its hint
    """
    if coercer is None:
        return args, kwargs
    args, coerced = coercer.coerce(args, own_kwargs)
    return args, {**kwargs, **coerced}


def outcome_of_error(execution: Execution, error: BaseException, life_s: float | None) -> Outcome:
    """What becomes of a workflow whose function raised.

    :param life_s: the workflow's time limit
    """
    if not isinstance(error, asyncio.CancelledError):
        return classify(error, None, retry_jobs=False)
    if execution.timed_out:
        return Outcome(State.FAILED, TimeoutError(f"the workflow did not end within {life_s} s"))
    if execution.cancelled:
        return Outcome(State.ABORTED, error)
    itself = JobExecutionFailed(f"the workflow cancelled itself: {type(error).__name__} {text_of(error)}".rstrip())
    itself.__cause__ = error
    return Outcome(State.FAILED, itself)
