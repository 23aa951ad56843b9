"""The pool of `JobFunction.delay` and `apply_async`: there is none unless somebody sets one."""

from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from arq.jobs import JobDef, JobResult, JobStatus

from ..errors import SettingsError

__all__ = ("DefaultPool", "EnqueuedJob", "default_pool", "use_default_pool")

R_co = TypeVar("R_co", covariant=True)


class EnqueuedJob(Protocol[R_co]):
    """What `delay` and `apply_async` give: a `SyncJob`, as far as this folder knows it."""

    @property
    def job_id(self) -> str: ...

    def result(self, timeout: float | None = None, *, poll_delay: float = 0.5) -> R_co: ...

    def status(self) -> JobStatus: ...

    def info(self) -> JobDef | None: ...

    def result_info(self) -> JobResult | None: ...

    def abort(self, *, timeout: float | None = None, poll_delay: float = 0.5) -> bool: ...

    def retry(self) -> None: ...

    def delete(self) -> bool: ...


class DefaultPool(Protocol):
    """The part of a `SyncPool` that `delay` needs."""

    def enqueue(self, function: Any, /, *args: Any, **kwargs: Any) -> EnqueuedJob[Any] | None: ...


_get_pool: Callable[[], DefaultPool] | None = None


def use_default_pool(get_pool: Callable[[], DefaultPool] | None) -> None:
    """Set what gives the pool; None for none."""
    global _get_pool
    _get_pool = get_pool


def default_pool(where: str) -> DefaultPool:
    """The default pool.

    :param where: who asks, for the message
    :raises SettingsError: there is none
    """
    if _get_pool is None:
        raise SettingsError(
            f"{where}: expected a default pool, none is set; call "
            "arqestra.set_default_pool(arqestra.SyncPool(url)) where your program starts, or enqueue by a pool of your "
            "own: pool.enqueue(function, ...)"
        )
    return _get_pool()
