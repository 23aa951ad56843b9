"""How the free slots of a worker are shared among several queues. No I/O: `claim.py` asks before each claim.

Strict order: each queue may take all that the queues before it left. Weights: each gets its part of the slots first,
and what nobody wants goes to the others in their order. Parts of a slot are carried over from claim to claim (smooth
weighted round robin, as nginx balances), so the shares also come out where one slot is free at a time.
"""

import math
from collections.abc import Callable, Mapping, Sequence

from ...store.records import Claimed, ClaimRequest, QueueShare

__all__ = ("QueueShares",)


class QueueShares:
    """Shares of several queues, or of one with a cap.

    :param queues: the most urgent first
    :param weights: queue -> weight; None for strict order
    :param caps: queue -> slots that its jobs may occupy at most
    :param running: how many jobs of a queue occupy slots now
    """

    def __init__(
        self,
        queues: Sequence[str],
        weights: Mapping[str, int] | None,
        caps: Mapping[str, int],
        running: Callable[[str], int],
    ) -> None:
        self._queues = tuple(queues)
        self._weights = weights
        self._caps = caps
        self._running = running
        self._credit = dict.fromkeys(queues, 0.0)
        self._due = frozenset(queues)  # queues that may have due jobs

    def expect_jobs(self) -> None:
        """Every queue may have due jobs."""
        self._due = frozenset(self._queues)

    def room(self, slots: int) -> dict[str, int]:
        """Slots that each queue may take at most."""
        return {
            queue: max(0, min(slots, self._caps[queue] - self._running(queue))) if queue in self._caps else slots
            for queue in self._queues
        }

    def worth_asking(self, slots: int) -> bool:
        """A queue that may have due jobs has room."""
        return slots > 0 and any(self.room(slots)[queue] > 0 for queue in self._due)

    def shares(self, slots: int) -> tuple[QueueShare, ...]:
        """What the next claim may take."""
        room = self.room(slots)
        if self._weights is None:
            return tuple(QueueShare(queue, room[queue], room[queue]) for queue in self._queues)
        total = sum(self._weights.values())
        for queue in self._queues:
            self._credit[queue] += slots * self._weights[queue] / total
        quotas = {queue: min(room[queue], max(0, math.floor(self._credit[queue]))) for queue in self._queues}
        left = slots - sum(quotas.values())
        for queue in sorted(self._queues, key=lambda queue: quotas[queue] - self._credit[queue]):
            if left > 0 and quotas[queue] < room[queue]:
                quotas[queue] += 1
                left -= 1
        return tuple(QueueShare(queue, quotas[queue], room[queue]) for queue in self._queues)

    def learn(self, request: ClaimRequest, claimed: Claimed) -> None:
        """Learn from the reply who took how much, and which queues may have more."""
        self._due = claimed.more if len(request.shares) > 1 else frozenset(self._still_due(request, claimed))
        if self._weights is None:
            return
        for job in claimed.jobs:
            self._credit[job.queue] -= 1
        for queue, credit in self._credit.items():
            # An idle queue saves nothing up, and one that took more than its part has nothing to pay back.
            self._credit[queue] = min(1.0, max(-1.0, credit)) if queue in claimed.more else 0.0

    def _still_due(self, request: ClaimRequest, claimed: Claimed) -> Sequence[str]:
        """Of a single queue: whether it gave all that there was room for."""
        return self._queues if len(claimed.jobs) >= min(share.most for share in request.shares) else ()
