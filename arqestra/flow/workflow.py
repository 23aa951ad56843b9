"""`@workflow`: makes a durable workflow of an async function of a `Flow` and arguments."""

import inspect
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, ClassVar, Concatenate, Generic, ParamSpec, Protocol, TypeVar, overload

from arq.utils import to_seconds

from ..definitions.durations import Duration, seconds_of
from ..definitions.function import JobFunction, Seconds
from ..definitions.job_options import JobOptions
from ..definitions.options import check_options
from ..definitions.unique import Unique
from ..errors import SettingsError
from .orchestrator import Flow

__all__ = ("WorkflowFunction", "workflow")

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(eq=False)
class WorkflowFunction(JobFunction[P, R], Generic[P, R]):
    """A workflow: enqueued, awaited, aborted and listed like any job. Made by `@workflow`.

    :ivar life_s: seconds from its first start after which it is cancelled; None for no limit
    """

    is_workflow: ClassVar[bool] = True
    life_s: float | None = None


class _Decorator(Protocol):
    def __call__(
        self, function: Callable[Concatenate[Flow, P], Coroutine[Any, Any, R]], /
    ) -> WorkflowFunction[P, R]: ...


@overload
def workflow(function: Callable[Concatenate[Flow, P], Coroutine[Any, Any, R]], /) -> WorkflowFunction[P, R]: ...
@overload
def workflow(
    *,
    name: str | None = ...,
    queue: str | None = ...,
    timeout: Duration | None = ...,
    keep_result: Seconds | None = ...,
    keep_result_forever: bool | None = ...,
    priority: int = ...,
    unique: Unique | bool | None = ...,
    expires: Duration | None = ...,
) -> _Decorator: ...


def workflow(
    function: Any = None,
    /,
    *,
    name: str | None = None,
    queue: str | None = None,
    timeout: Duration | None = None,
    keep_result: Seconds | None = None,
    keep_result_forever: bool | None = None,
    priority: int = 0,
    unique: Unique | bool | None = None,
    expires: Duration | None = None,
) -> Any:
    """Make a durable workflow of an async function, with or without options.

    The function gets a `Flow` and its arguments. It may depend on its arguments and the results of its steps, and on
    nothing else. Time, chance and I/O come through the `Flow`.

    :param name: name in payloads; default the function's `__qualname__`
    :param queue: queue that `Pool.enqueue` puts it in; default the pool's
    :param timeout: seconds from its first start after which it is cancelled, and fails with `TimeoutError`
    :param keep_result: seconds that result and history are kept after its end; default the worker's
    :param keep_result_forever: keep the result until it is deleted
    :param priority: from 0 to 9, the most urgent, within its queue
    :param unique: as of `@job`
    :param expires: seconds after the enqueue after which it is not started any more
    :raises SettingsError: an impossible value, or no async function
    """

    check_options(
        "@workflow",
        {"name": name, "queue": queue, "keep_result": keep_result, "keep_result_forever": keep_result_forever},
    )

    def wrap(target: Any) -> WorkflowFunction[..., Any]:
        if not inspect.iscoroutinefunction(target):
            raise SettingsError(f"@workflow: expected an async function, got {target!r}")
        job_options = JobOptions.of(
            "@workflow",
            is_async=True,
            signature=inspect.signature(target),
            timeout_s=None,
            **_NO_OPTIONS | {"priority": priority, "unique": unique or None, "expires": expires},
        )
        return WorkflowFunction(
            name or target.__qualname__,
            target,
            timeout_s=None,
            keep_result_s=to_seconds(keep_result),
            keep_result_forever=keep_result_forever,
            max_tries=None,
            queue=queue,
            job_options=job_options,
            sync_function=None,
            life_s=None if timeout is None else seconds_of(timeout, "@workflow: timeout"),
        )

    return wrap if function is None else wrap(function)


_NO_OPTIONS: dict[str, Any] = {
    **dict.fromkeys(("soft_timeout", "retry", "rate_limit", "concurrency", "debounce", "executor")),
    **dict.fromkeys(("on_exhausted", "on_expired")),
    "acks": "late",
}
