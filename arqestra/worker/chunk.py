"""The function that every worker has: several calls of one job function in one job, for `JobFunction.chunks`."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from arq.worker import JobExecutionFailed

from ..function import JobFunction
from ..signature import CHUNK_FUNCTION

if TYPE_CHECKING:
    from .worker import Worker

__all__ = ("chunk_function",)


def chunk_function(worker: "Worker") -> JobFunction[..., list[Any]]:
    """It calls one after the other, each with arguments as the function's type hints want them."""

    async def chunk(ctx: dict[Any, Any], name: str, calls: Sequence[Sequence[Any]]) -> list[Any]:
        terms = worker.terms.get(name)
        if terms is None or terms.function is None:
            raise JobExecutionFailed(f"function {name!r} not found")
        results = []
        for call in calls:
            args: tuple[Any, ...] = tuple(call)
            kwargs: dict[str, Any] = {}
            if terms.rebuilder is not None:
                args, kwargs = terms.rebuilder.rebuild(args, kwargs)
            results.append(await terms.function.coroutine(ctx, *args, **kwargs))
        return results

    return JobFunction(CHUNK_FUNCTION, chunk, None, None, None, None)
