"""`set_default_pool`: the pool that `JobFunction.delay` and `apply_async` enqueue with."""

import threading
from collections.abc import Callable

from ..definitions.default_pool import use_default_pool
from ..definitions.redact import shown_value
from ..errors import SettingsError
from .sync_pool import SyncPool

__all__ = ("set_default_pool",)


def set_default_pool(pool: SyncPool | Callable[[], SyncPool] | None) -> None:
    """Let `function.delay(...)` and `function.apply_async(...)` enqueue by this pool, in the whole process.

    Call it once, where the program starts. It is not closed by another call.

    :param pool: a `SyncPool`; or a function without parameters that makes one when it is first needed; None for none
    :raises SettingsError: it is something else
    """
    if pool is None:
        use_default_pool(None)
    elif isinstance(pool, SyncPool):
        use_default_pool(lambda: pool)
    elif callable(pool):
        use_default_pool(_Made(pool))
    else:
        raise SettingsError(
            f"set_default_pool: expected a SyncPool or a function that makes one, got {shown_value(pool)}"
        )


class _Made:
    """The pool that a function makes, once."""

    def __init__(self, make: Callable[[], SyncPool]) -> None:
        self._make = make
        self._making = threading.RLock()
        self._pool: SyncPool | None = None

    def __call__(self) -> SyncPool:
        if self._pool is None:
            with self._making:
                self._pool = self._pool or self._checked(self._make())
        return self._pool

    def _checked(self, made: SyncPool) -> SyncPool:
        if not isinstance(made, SyncPool):
            raise SettingsError(f"set_default_pool: expected its function to make a SyncPool, got {shown_value(made)}")
        return made
