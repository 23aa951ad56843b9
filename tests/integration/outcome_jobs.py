"""Jobs that end in ways that nobody wants: what each is to be taken for."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

from arqestra import (
    Backoff,
    Flow,
    Job,
    JobResult,
    Middleware,
    Retry,
    RetryJob,
    RunningJob,
    Snooze,
    current_job,
    job,
    workflow,
)

TOLD: list[Any] = []


class Unpicklable(Exception):
    def __init__(self, code: int) -> None:
        super().__init__(f"code {code}")
        self.lock = threading.Lock()


class Unprintable:
    def __repr__(self) -> str:
        raise ValueError("no repr")


class BadText(Exception):
    def __str__(self) -> str:
        raise ValueError("no str")


async def tell_exhausted(ctx: dict[Any, Any], error: BaseException) -> None:
    TOLD.append(("exhausted", type(error).__name__))


# -- values that no serializer takes ------------------------------------------------------------------------------


@job
async def gives_a_lock(ctx: dict[Any, Any]) -> Any:
    return threading.Lock()


@job
def gives_a_lock_in_a_thread(ctx: dict[Any, Any]) -> Any:
    return threading.Lock()


@job(executor="process")
def gives_a_lock_in_a_process(ctx: dict[Any, Any]) -> Any:
    return threading.Lock()


@job(retry=Backoff(tries=3, base=0.01), on_exhausted=tell_exhausted)
async def gives_locks(ctx: dict[Any, Any]) -> Any:
    TOLD.append(ctx["job_try"])
    return threading.Lock()


@job
async def takes(ctx: dict[Any, Any], value: Any) -> str:
    TOLD.append(("took", value))
    return "took"


@job
async def errback(ctx: dict[Any, Any], error: Any) -> str:
    TOLD.append(("errback", type(error).__name__))
    return "told"


@workflow
async def step_gives_a_lock(flow: Flow) -> str:
    try:
        await flow.run(gives_a_lock.si())
    except Exception as error:
        return type(error).__name__
    return "complete"


@workflow
async def workflow_gives_a_lock(flow: Flow) -> Any:
    return threading.Lock()


# -- interrupted, and the clean-up raises -------------------------------------------------------------------------


@job(retry=Backoff(base=0.01))
async def cleans_up(ctx: dict[Any, Any], how: str) -> int:
    """Waits until it is let go; interrupted before, it raises something while it cleans up."""
    if ctx["let_go"].is_set():
        return int(ctx["job_try"])
    ctx["started"].set()
    try:
        if how == "group":
            async with asyncio.TaskGroup() as group:
                group.create_task(_raises_when_cancelled())
                await asyncio.Event().wait()
        await ctx["let_go"].wait()
    except asyncio.CancelledError as error:
        if how == "exit":
            raise SystemExit(3) from None
        if how == "from":
            raise RuntimeError("in the clean-up") from error
        raise
    finally:
        if how == "finally":
            raise ValueError("in the clean-up")
    raise AssertionError("unreachable")


async def _raises_when_cancelled() -> None:
    try:
        await asyncio.Event().wait()
    finally:
        raise ValueError("in the clean-up")


@workflow
async def waits_in_a_workflow(flow: Flow) -> str:
    TOLD.append("begun")
    await flow.sleep(0.5)
    return "complete"


class Raises(Middleware):
    """A middleware whose clean-up raises whatever happens."""

    def __init__(self, *, swallow: bool = False) -> None:
        self.raises, self.swallow = True, swallow

    @contextlib.asynccontextmanager
    async def around_run(self, job: RunningJob) -> AsyncIterator[None]:
        try:
            yield
        except BaseException:
            if self.raises and not self.swallow:
                raise ValueError("in the clean-up of the middleware") from None
            if not self.swallow:
                raise


@job(soft_timeout=30)
async def cleans_up_within_a_soft_limit(ctx: dict[Any, Any], how: str) -> int:
    return int(await cleans_up.coroutine(ctx, how))


# -- awaitables that come back from plain functions ---------------------------------------------------------------


def plainly(function: Callable[..., Any]) -> Callable[..., Any]:
    """A decorator as many people write it."""

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return wrapper


@plainly
async def behind_a_decorator(ctx: dict[Any, Any], number: int) -> int:
    await asyncio.sleep(0)
    TOLD.append(("ran", number))
    running = current_job()
    assert running is not None
    assert running.job_id == ctx["job_id"]
    return number * 2


@job(name="decorated_process", executor="process")
@plainly
async def decorated_in_a_process(ctx: dict[Any, Any], number: int) -> int:
    await asyncio.sleep(0)
    return number * 2


@job(name="decorated_soft", soft_timeout=0.1, timeout=20)
@plainly
async def decorated_with_a_soft_limit(ctx: dict[Any, Any]) -> str:
    try:
        await asyncio.sleep(60)
    except asyncio.CancelledError as error:
        return type(error).__name__
    return "not told"


@job(name="decorated_hard", timeout=0.1)
@plainly
async def decorated_with_a_hard_limit(ctx: dict[Any, Any]) -> None:
    await asyncio.sleep(60)


async def forgets_an_await(ctx: dict[Any, Any]) -> Any:
    return behind_a_decorator(ctx, 4)


def runs_a_loop_of_its_own(ctx: dict[Any, Any]) -> int:
    async def inner() -> int:
        return 6

    return asyncio.run(inner())


@plainly
async def yields(ctx: dict[Any, Any]) -> AsyncIterator[int]:
    TOLD.append("ran")
    yield 1


@plainly
def yields_plainly(ctx: dict[Any, Any]) -> Iterator[int]:
    TOLD.append("ran")
    yield 1


# -- errors -------------------------------------------------------------------------------------------------------


@job
async def raises(ctx: dict[Any, Any], what: str) -> None:
    class Local(Exception):
        pass

    raise {"unpicklable": Unpicklable(7), "local": Local("here"), "bad text": BadText()}[what]


class Ends(BaseException):
    """No `Exception`, and not to be pickled."""

    def __init__(self, code: int) -> None:
        super().__init__(code, threading.Lock())

    def __str__(self) -> str:
        return f"ends {self.args[0]}"


@job(executor="process", retry=Backoff(tries=2, base=0.01, on=Unpicklable))
def raises_in_a_process(ctx: dict[Any, Any], what: str) -> int:
    if what == "retry in a group" and ctx["job_try"] == 2:
        return 2
    group = ExceptionGroup("several", [Unpicklable(7), Unpicklable(8)])
    asking = ExceptionGroup("several", [Unpicklable(7), Retry(defer=0.01)])
    raise {"alone": Unpicklable(7), "group": group, "retry in a group": asking, "base": Ends(3)}[what]


@job(executor="process", timeout=0.3)
def late_in_a_process(ctx: dict[Any, Any]) -> None:
    time.sleep(60)


@job(timeout=0.1)
def late_in_a_thread(ctx: dict[Any, Any]) -> None:
    time.sleep(0.5)


@job(timeout=0.1)
async def late(ctx: dict[Any, Any]) -> None:
    await asyncio.sleep(60)


@job(soft_timeout=0.1)
async def softly_late(ctx: dict[Any, Any]) -> None:
    await asyncio.sleep(60)


@job(soft_timeout=0.1)
def softly_late_in_a_thread(ctx: dict[Any, Any]) -> None:
    while True:
        time.sleep(0.005)


@job(timeout=0.1)
async def late_and_raises(ctx: dict[Any, Any]) -> None:
    try:
        await asyncio.sleep(60)
    finally:
        raise ValueError("in the clean-up")


@job(max_tries=3)
async def awaits(ctx: dict[Any, Any], child_id: str, how: str) -> str:
    """Awaits another job, which is aborted."""
    TOLD.append(ctx["job_try"])
    child: Job[Any] = Job(child_id, ctx["redis"], ctx["redis"].default_queue_name)
    if how == "group":
        async with asyncio.TaskGroup() as group:
            group.create_task(child.result(timeout=20))
    elif how == "wait_for in a group":
        async with asyncio.TaskGroup() as outer:
            outer.create_task(_in_groups(asyncio.wait_for(child.result(), 20)))
    elif how == "gather in a group":
        async with asyncio.TaskGroup() as group:
            group.create_task(_gathers(child))
    elif how == "handled":
        results = await asyncio.gather(child.result(timeout=20), return_exceptions=True)
        return type(results[0]).__name__
    elif how == "handled in a group":
        async with asyncio.TaskGroup() as group:
            task = group.create_task(_type_of_error(child))
        return task.result()
    else:
        await child.result(timeout=20)
    return "complete"


async def _in_groups(what: Any) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(what)


async def _gathers(child: Job[Any]) -> None:
    await asyncio.gather(child.result(timeout=20), asyncio.sleep(0))


async def _type_of_error(child: Job[Any]) -> str:
    try:
        await child.result(timeout=20)
    except asyncio.CancelledError as error:
        return type(error).__name__
    return ""


@job
async def hangs(ctx: dict[Any, Any]) -> None:
    ctx["started"].set()
    with contextlib.suppress(AssertionError):
        await asyncio.Event().wait()


# -- groups -------------------------------------------------------------------------------------------------------


@job(retry=Backoff(on=(ConnectionError,), unless=(ConnectionRefusedError,), tries=3, base=0.01))
async def fails_in_a_group(ctx: dict[Any, Any], errors: list[str]) -> int:
    if ctx["job_try"] == 1:
        await _in_a_group([_ERRORS[error] for error in errors])
    return int(ctx["job_try"])


@job
async def asks_in_a_group(ctx: dict[Any, Any], what: str) -> int:
    TOLD.append(ctx["job_try"])
    if len(TOLD) == 1:
        await _in_a_group([{"retry": Retry(defer=0.01), "retry job": RetryJob(), "snooze": Snooze(0.01)}[what]])
    return int(ctx["job_try"])


_ERRORS: dict[str, Exception] = {
    "reset": ConnectionResetError("reset"),
    "refused": ConnectionRefusedError("refused"),
    "value": ValueError("value"),
}


async def _in_a_group(errors: list[Exception]) -> None:
    async def fail(error: Exception) -> None:
        raise error

    async with asyncio.TaskGroup() as outer:  # a group in a group

        async def inner() -> None:
            async with asyncio.TaskGroup() as group:
                for error in errors:
                    group.create_task(fail(error))

        outer.create_task(inner())


@job
async def takes_anything(ctx: dict[Any, Any], value: Any) -> str:
    return "ran"


@job
async def loses_a_reply(ctx: dict[Any, Any]) -> str:
    ctx["lose"]()
    return "complete"


ALL: list[Any] = [
    *(gives_a_lock, gives_a_lock_in_a_thread, gives_a_lock_in_a_process, gives_locks, takes, errback),
    *(step_gives_a_lock, workflow_gives_a_lock, waits_in_a_workflow, cleans_up, cleans_up_within_a_soft_limit),
    *(behind_a_decorator, decorated_in_a_process, decorated_with_a_soft_limit, decorated_with_a_hard_limit),
    *(forgets_an_await, runs_a_loop_of_its_own, yields, yields_plainly),
    *(raises, raises_in_a_process, late_in_a_process, late_in_a_thread, late, softly_late, softly_late_in_a_thread),
    late_and_raises,
    *(awaits, hangs, fails_in_a_group, asks_in_a_group, takes_anything, loses_a_reply),
]


def failed(info: JobResult | None) -> BaseException:
    """What a job failed with."""
    assert info is not None
    assert not info.success, info.result
    error = info.result
    assert isinstance(error, BaseException), error
    return error
