"""The function that every worker has: several calls of one job function in one job, for `JobFunction.chunks`."""

from collections.abc import Mapping, Sequence
from typing import Any

from arq.worker import JobExecutionFailed

from ...definitions.function import JobFunction
from ...definitions.redact import Redactor
from ...definitions.signature import CHUNK_FUNCTION
from .effective_options import EffectiveOptions

__all__ = ("chunk_function",)


def chunk_function(functions: Mapping[str, EffectiveOptions]) -> JobFunction[..., list[Any]]:
    """It calls one after the other, each with arguments as the function's type hints want them.

    :param functions: the options of the worker's functions by name; complete when the first job runs
    """

    async def chunk(ctx: dict[Any, Any], *given: Any) -> list[Any]:
        *before, name, calls = given  # in a flow the result of what comes before is the first argument of each call
        options = functions.get(name)
        if options is None or options.function is None:
            raise JobExecutionFailed(f"function {name!r} not found")
        results = []
        for call in calls:
            args: tuple[Any, ...] = (*before, *call)
            kwargs: dict[str, Any] = {}
            if options.coercer is not None:
                args, kwargs = options.coercer.coerce(args, kwargs)
            results.append(await options.function.coroutine(ctx, *args, **kwargs))
        return results

    made: JobFunction[..., list[Any]] = JobFunction(
        name=CHUNK_FUNCTION,
        coroutine=chunk,
        timeout_s=None,
        keep_result_s=None,
        keep_result_forever=None,
        max_tries=None,
    )
    made.redactor = ChunkRedactor(functions)
    return made


class ChunkRedactor(Redactor):
    """Masks the arguments of the calls in a chunk, as their function's are."""

    __slots__ = ("_functions",)

    def __init__(self, functions: Mapping[str, EffectiveOptions]) -> None:
        super().__init__(None)
        self._functions = functions

    def redacted(
        self, args: Sequence[Any], kwargs: Mapping[str, Any], skipped: int = 0
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The name and the calls for showing them."""
        if kwargs or len(args) != 2 or not isinstance(args[1], list | tuple):
            return super().redacted(args, kwargs, skipped)
        name, calls = args
        options = self._functions.get(name)
        if options is None or options.redactor is None:
            return super().redacted(args, kwargs)
        return (name, [list(options.redactor.redacted(call, {}, skipped)[0]) for call in calls]), {}
