"""Whether Redis answers: what the connections of one pool notice."""

import time

__all__ = ("Pulse",)


class Pulse:
    """When Redis last answered a process, and whether it has failed to since.

    A process that asks nothing is not answered, and is not cut off: only what was asked and not answered, or a
    connection that was lost or could not be made, says so. A silent connection is asked by the listener every 10 s.

    :ivar answered_s: by the loop's clock
    """

    __slots__ = ("_failed_s", "answered_s")

    def __init__(self) -> None:
        self.answered_s = time.monotonic()
        self._failed_s = 0.0

    def answered(self) -> None:
        """Something came."""
        self.answered_s = time.monotonic()

    def failed(self) -> None:
        """A connection was lost, could not be made, or was not answered in time."""
        self._failed_s = time.monotonic()

    @property
    def cut_off_s(self) -> float:
        """Seconds since the last answer, if something has failed since; else 0."""
        return time.monotonic() - self.answered_s if self._failed_s > self.answered_s else 0.0
