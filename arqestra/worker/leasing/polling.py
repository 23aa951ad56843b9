"""When a worker polls its queues. No I/O: the main loop asks at each tick.

Wake-ups tell a worker of nearly all jobs. Polls find the rest: jobs of stock arq producers, which send no wake-up, and
jobs whose wake-up was lost. The first of these rules that applies decides:

- Messages do not arrive (the subscription is not active, or the server does not answer a PING): poll at the default
  delay.
- `poll_delay` was set: poll at this delay, always.
- The server tells of changes (`store/listener.py`): poll within the default delay after a change in the queues, and
  otherwise once a minute.
- It does not: each poll that finds nothing doubles the delay, up to 15 s. After a poll that found a job of which no
  message had told, poll at the default delay for ten minutes: some producer sends no wake-ups.
"""

from dataclasses import dataclass

__all__ = ("SAFETY_S", "Polling", "Push")

DEFAULT_DELAY_S = 0.5  # arq's
SAFETY_S = 60.0
MAX_DELAY_S = 15.0
UNTOLD_S = 600.0


@dataclass(frozen=True, slots=True)
class Push:
    """What comes by push at present.

    :ivar messages: wake-ups arrive
    :ivar can_watch: the server can tell of changes
    :ivar since_s: since when it would tell of one; None: it would not
    """

    messages: bool
    can_watch: bool
    since_s: float | None


class Polling:
    """Decides when to poll.

    :param delay_s: the setting `poll_delay`; None if it was not set
    """

    def __init__(self, delay_s: float | None) -> None:
        self.delay_s = DEFAULT_DELAY_S if delay_s is None else delay_s
        self._always = delay_s is not None
        self._polled_s: float | None = None
        self._interval_s = self.delay_s
        self._untold_s: float | None = None  # when a job was found that nobody had told of

    @property
    def longest_s(self) -> float:
        """Seconds between two polls at most."""
        return self.delay_s if self._always else SAFETY_S

    def is_due(self, now_s: float, push: Push) -> bool:
        """Whether to poll now."""
        if self._always or self._polled_s is None or not push.messages:
            return True
        silent_s = now_s - self._polled_s
        if push.can_watch:
            return push.since_s is None or self._polled_s <= push.since_s or silent_s >= SAFETY_S
        if self._untold_s is not None and now_s - self._untold_s < UNTOLD_S:
            return True
        return silent_s >= self._interval_s

    def polled(self, now_s: float) -> None:
        """The worker polls. The next poll is later, unless `found` says otherwise."""
        self._polled_s = now_s
        self._interval_s = min(MAX_DELAY_S, self._interval_s * 2)

    def found(self, now_s: float, *, told: bool) -> None:
        """Jobs were found.

        :param told: a message had come, or the worker was at work
        """
        self._interval_s = self.delay_s
        if not told:
            self._untold_s = now_s
