"""`Flow`: what a workflow function gets as its first argument. All that it does goes through an `Execution`."""

import asyncio
import inspect
import random
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, NoReturn, TypeVar, cast

from ..definitions.durations import Duration, seconds_of
from ..definitions.graph import graph_of
from ..definitions.signature import Canvas, Signature
from ..errors import ArgumentsError
from .canvas_run import run_graph
from .execution import ContinueAsNew, Execution

__all__ = ("Flow",)

R = TypeVar("R")


class Flow:
    """What a workflow function gets as its first argument: how it runs jobs, waits and learns of the world."""

    def __init__(self, execution: Execution) -> None:
        self._execution = execution
        self._uuids = 0
        self.id = execution.flow_id
        self.random = random.Random(execution.seed)  # the same numbers in each run

    @property
    def replaying(self) -> bool:
        """Whether this is a replay: the code runs through what it did before. Do not log then."""
        return self._execution.replaying

    @property
    def history_size(self) -> int:
        """Steps, timers and events so far; a history holds 10,000 steps and timers."""
        return self._execution.size

    async def run(self, call: Canvas[R]) -> R:
        """Run a job, or a chain or group of jobs, and wait for the result.

        A canvas means what it means in `Pool.enqueue_flow`: the same jobs run with the same arguments. You get what
        `result()` of that flow would return or raise, after its callbacks have ended. Jobs beside a failed one run on,
        as long as the workflow does.

        :param call: `function.s(...)`, a chain, a group or a chord
        :raises Exception: what the job at fault raised
        :raises ArgumentsError, GraphError, SerializationError, PayloadTooLarge: nothing was run then
        """
        if not isinstance(call, Canvas):
            raise ArgumentsError(f"flow.run: expected function.s(...), a chain or a group, got {call!r}")
        if isinstance(call, Signature) and not (call.errbacks or call.links):
            return cast(R, await self._execution.step(call))
        return cast(R, await run_graph(self._execution, graph_of(call)))

    async def gather(
        self, *calls: Canvas[R] | Awaitable[R], limit: int | None = None, return_exceptions: bool = False
    ) -> list[R]:
        """Run jobs at the same time, and return their results in this order. If one fails, the others are aborted.

        :param limit: how many run at once
        :param return_exceptions: return exceptions instead of results
        """
        if limit is not None and limit < 1:
            raise ArgumentsError(f"gather: limit: expected at least 1, got {limit!r}")
        slots = asyncio.Semaphore(limit or len(calls) or 1)

        async def within_limit(call: Canvas[R] | Awaitable[R]) -> R:
            try:
                async with slots:
                    return await self._awaited(call)
            finally:
                # The workflow is parked while this one waits for its turn: without a close Python warns of it.
                if inspect.iscoroutine(call) and inspect.getcoroutinestate(call) == inspect.CORO_CREATED:
                    call.close()

        tasks = [asyncio.ensure_future(within_limit(call)) for call in calls]
        try:
            return list(await asyncio.gather(*tasks, return_exceptions=return_exceptions))  # type: ignore[arg-type]
        except BaseException:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            raise
        finally:
            tasks.clear()  # break the reference cycle of an error's traceback and this frame

    async def map(
        self, function: Any, items: Iterable[Any], *, limit: int | None = None, return_exceptions: bool = False
    ) -> list[Any]:
        """Run a job function for each item at the same time."""
        calls = [function.s(item) for item in items]
        return await self.gather(*calls, limit=limit, return_exceptions=return_exceptions)

    async def as_completed(self, *calls: Canvas[R] | Awaitable[R]) -> AsyncIterator[R]:
        """The results as they come; raises what a job raised when it is that job's turn."""
        tasks = [asyncio.ensure_future(self._awaited(call)) for call in calls]
        try:
            for done in asyncio.as_completed(tasks):
                yield await done
        finally:
            for task in tasks:
                task.cancel()

    async def first(self, *calls: Canvas[R] | Awaitable[R]) -> R:
        """The result of the job that ends first. The others are aborted."""
        tasks = [asyncio.ensure_future(self._awaited(call)) for call in calls]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            return next(task for task in tasks if task in done).result()
        finally:
            for task in tasks:
                task.cancel()

    async def _awaited(self, call: Canvas[R] | Awaitable[R]) -> R:
        return await (self.run(call) if isinstance(call, Canvas) else call)

    async def sleep(
        self,
        delay: Duration | None = None,
        *,
        seconds: float = 0,
        minutes: float = 0,
        hours: float = 0,
        days: float = 0,
    ) -> None:
        """Wait. The time passes also while no worker runs.

        :param delay: seconds, a timedelta or text such as "90s"; or the keywords
        """
        wanted_s = 0.0 if delay is None else seconds_of(delay, "flow.sleep", zero=True)
        more = timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)
        await asyncio.sleep(wanted_s + more.total_seconds())

    def now(self) -> datetime:
        """The time of the last event, on Redis' clock; the same in each run."""
        return datetime.fromtimestamp(self._execution.now_ms / 1000, tz=UTC)

    def uuid(self) -> uuid.UUID:
        """A new UUID; the same in each run."""
        self._uuids += 1
        return uuid.uuid5(uuid.NAMESPACE_OID, f"{self._execution.seed}:{self._uuids}")

    async def side_effect(self, function: Callable[..., Awaitable[R] | R], *args: Any) -> R:
        """Call a function outside of the workflow, and remember its value: a random number, the text of a file.

        It is called once, unless its worker dies or stops before the value is written. An exception is remembered too.
        What takes long, or must be tried again, belongs into a job.
        """
        label = getattr(function, "__qualname__", type(function).__qualname__)
        return cast(R, await self._execution.effect(label, partial(function, *args)))

    async def wait_for(self, event: str, *, timeout: Duration | None = None) -> Any:
        """Wait for an event that `pool.signal(flow_id, event, value)` sends. Each is received once, in order.

        :param timeout: seconds to wait at most
        :returns: its value
        :raises TimeoutError: it did not come
        """
        limit_s = None if timeout is None else seconds_of(timeout, "flow.wait_for: timeout")
        async with asyncio.timeout(limit_s):
            return await self._execution.signal(event)

    def patched(self, name: str) -> bool:
        """Whether a run may take the new way: True if it began after this line was added, False if it is older.

        if flow.patched("check the stock first"):
            await flow.run(check_stock.s(order))
        """
        return self._execution.patched(name)

    def continue_as_new(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Run the workflow once more, with these arguments, an empty history and the same id.

        Steps that still run are aborted. Events that it has not asked for go along.
        """
        raise ContinueAsNew(args, kwargs)
