"""Puts the wrappers that tools put around arq's functions around ours too.

Sentry's integration and `opentelemetry-instrumentation-arq` observe arq by replacing `ArqRedis.enqueue_job`,
`Worker.run_job` and `arq.worker.create_worker` with wrappers that call the original. arqestra has functions of its own,
which such a wrapper does not know. `rewrapped` makes a copy of the wrapper, with our function inside. That changes
neither arq nor the tool, and it does not matter which was imported first, the tool or arqestra.

It understands a wrapper that is a closure over what it calls (a function, decorated or not), and wrapt's wrappers. For
any other, `rewrapped` returns None, and the caller logs that this tool does not see arqestra.
"""

import logging
import types
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import cache
from inspect import getattr_static
from typing import Any, NamedTuple, TypeVar

import arq.worker
from arq.connections import ArqRedis

__all__ = (
    "PLAIN_ENQUEUE",
    "EnqueueArguments",
    "Stored",
    "bottom_of",
    "contents_of",
    "create_worker_before",
    "enqueue_batch_through",
    "enqueue_through",
    "enqueues_are_observed",
    "mention_unknown_wrapper",
    "name_of",
    "rewrapped",
)

logger = logging.getLogger("arq.connections")

R = TypeVar("R")
OWN_PACKAGES = ("arq", __name__.partition(".")[0])
OBSERVED = ("enqueue_job", "run_job", "create_worker", "_create_either_worker")  # the last is ours in arq's place
WRAPT = ("FunctionWrapper", "BoundFunctionWrapper")
MAX_LAYERS = 20  # functions that refer to each other must not be followed for ever
# What arqestra's own switch, which `import arqestra` puts in its place, would cover up.
create_worker_before = arq.worker.create_worker
POSITIONAL = ("self", "function")  # parameters of `enqueue_job`: a wrapper cannot take keywords of these names


def bottom_of(patched: Any, layers: int = MAX_LAYERS) -> Callable[..., Any] | None:
    """The function of arq (or of arqestra) that a wrapper calls in the end; None if none is found."""
    if _is_own(patched):
        own: Callable[..., Any] = patched
        return own
    below = () if layers == 0 else contents_of(patched)
    return next((found for content in below if (found := bottom_of(content, layers - 1)) is not None), None)


def rewrapped(patched: Any, ours: Callable[..., Any], layers: int = MAX_LAYERS) -> Any:
    """The wrapper of a function of arq, around a function of ours.

    :param patched: what has replaced arq's function, not bound to an object. If it is arq's own, `ours` is returned
    :param ours: replaces the function that the wrapper calls in the end
    :returns: a new wrapper, or None if this kind of wrapper is not understood
    """
    if _is_own(patched):
        return ours
    if layers == 0 or bottom_of(patched, layers) is None:
        return None
    if _is_of_wrapt(patched):
        return type(patched)(rewrapped(patched.__wrapped__, ours, layers - 1), patched._self_wrapper)
    cells = [
        types.CellType(again) if (again := rewrapped(content, ours, layers - 1)) is not None else cell
        for cell, content in zip(patched.__closure__, contents_of(patched), strict=True)
    ]
    made = types.FunctionType(
        patched.__code__, patched.__globals__, patched.__name__, patched.__defaults__, tuple(cells)
    )
    made.__kwdefaults__ = patched.__kwdefaults__
    made.__dict__.update(patched.__dict__)
    return made


def _is_own(function: Any) -> bool:
    # By code and globals: with `functools.wraps` a wrapper claims to be of arq's module.
    return (
        type(function) is types.FunctionType
        and function.__code__.co_name in OBSERVED
        and str(function.__globals__.get("__name__")).partition(".")[0] in OWN_PACKAGES
    )


def _is_of_wrapt(patched: Any) -> bool:
    # By the names of its classes: tools may have their own copy of wrapt, and a mock has every attribute.
    return any(cls.__name__ in WRAPT for cls in type(patched).__mro__)


def contents_of(patched: Any) -> Sequence[Any]:
    """What a wrapper refers to."""
    if _is_of_wrapt(patched):
        return (patched.__wrapped__,)
    if type(patched) is not types.FunctionType:
        return ()
    return [_content(cell) for cell in patched.__closure__ or ()]


def _content(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # its function has not set it yet
        return None


# -- enqueues ---------------------------------------------------------------------------------------------------------

# arq's own `enqueue_job`: asked for at each enqueue. None if it was replaced before arqestra was imported.
PLAIN_ENQUEUE = ArqRedis.enqueue_job if _is_own(ArqRedis.enqueue_job) else None


class EnqueueArguments(NamedTuple):
    """What `ArqRedis.enqueue_job` would be called with.

    :ivar options: arq's keywords with an underscore, as far as they were given
    :ivar job_id, queue: of a job in a batch
    """

    function: str
    args: Sequence[Any]
    kwargs: Mapping[str, Any]
    options: Mapping[str, Any]
    job_id: str = ""
    queue: str = ""


class Stored(NamedTuple):
    """What came through the wrappers, to be stored.

    :ivar added: keywords that wrappers added to the caller's. The function gets them, limits and locks do not
    """

    args: Sequence[Any]
    kwargs: Mapping[str, Any]
    added: Mapping[str, Any]


class _BatchedJob:
    """What a wrapper gets for a job that is stored a moment later, with the others of its batch."""

    def __init__(self, job_id: str, queue: str) -> None:
        self.job_id = job_id
        self._queue_name = queue


def enqueues_are_observed() -> bool:
    """Whether a tool has replaced `ArqRedis.enqueue_job`."""
    return ArqRedis.enqueue_job is not PLAIN_ENQUEUE


async def enqueue_through(client: Any, given: EnqueueArguments, enqueue: Callable[[Stored], Awaitable[R]]) -> R:
    """Enqueue a job within the wrappers of `ArqRedis.enqueue_job`.

    :param client: what the wrappers see as the redis client
    :param enqueue: stores the job with what the wrappers let through
    """
    kept = {name: given.kwargs[name] for name in POSITIONAL if name in given.kwargs}

    async def store(_client: Any, _function: str, *args: Any, **kwargs: Any) -> R:
        through = {name: value for name, value in kwargs.items() if name not in given.options}
        added = {name: through.pop(name) for name in list(through) if name not in given.kwargs}
        return await enqueue(Stored(args, {**through, **kept}, added))

    patched = getattr_static(ArqRedis, "enqueue_job")
    wrapper = rewrapped(patched, store)
    if wrapper is None:
        mention_unknown_wrapper("ArqRedis.enqueue_job", name_of(patched))
        return await enqueue(Stored(given.args, given.kwargs, {}))
    shown = {name: value for name, value in given.kwargs.items() if name not in kept}
    enqueued: R = await wrapper.__get__(client, type(client))(given.function, *given.args, **{**shown, **given.options})
    return enqueued


async def enqueue_batch_through(
    client: Any,
    given: Sequence[EnqueueArguments],
    enqueue: Callable[[list[Stored]], Awaitable[R]],
) -> R:
    """Enqueue several jobs at once, each within the wrappers of `ArqRedis.enqueue_job`.

    The wrappers are called one after the other, as if each job were enqueued by itself. The last one stores them all.

    :param given: not empty
    :param enqueue: stores the jobs with what the wrappers let through
    """
    stored: list[Stored] = []
    result: list[R] = []
    for arguments in given:

        async def store(through: Stored, job: EnqueueArguments = arguments) -> _BatchedJob:
            stored.append(through)
            if len(stored) == len(given):
                result.append(await enqueue(stored))
            return _BatchedJob(job.job_id, job.queue)

        await enqueue_through(client, arguments, store)
    return result[0]


@cache
def mention_unknown_wrapper(replaced: str, by: str) -> None:
    """Log, once per process, that a tool does not see arqestra."""
    logger.warning(
        "arq's %s was replaced by %s, in a way that arqestra cannot follow: its own enqueues and jobs do not go "
        "through it; a Middleware (middleware=[...] of worker and pool) sees them",
        replaced,
        by,
    )


def name_of(patched: Any) -> str:
    """The name of what replaced a function of arq, for people."""
    return f"{getattr(patched, '__module__', type(patched).__module__)}.{getattr(patched, '__qualname__', patched)}"
