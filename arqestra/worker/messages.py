"""What a worker does about a message on its channel. `docs/data-model.md` lists them."""

from collections.abc import Callable
from dataclasses import dataclass

from ..store.codec import delivered
from .leasing.slots import Slots
from .leasing.sync_loop import SyncLoop
from .run.context import StickyWorkflows
from .telemetry.events import EventPublisher

__all__ = ("MessageHandler",)


@dataclass(frozen=True, slots=True)
class MessageHandler:
    """Passes each message on to what it concerns.

    :ivar worker_id: whose channel it is
    :ivar aborts: requests to abort a job are heeded
    :ivar drain: called with whether the worker is to take no more jobs
    """

    worker_id: str
    aborts: bool
    sync: SyncLoop
    slots: Slots
    workflows: StickyWorkflows
    publisher: EventPublisher
    drain: Callable[[bool], None]

    def handle(self, data: bytes | None) -> None:
        """A message; None when the subscription has become active, and some may have been lost before."""
        if data is not None and data.startswith(b"job "):
            self._take_delivery(data)
        elif data is None or data == b"wake":
            self.sync.claim_soon()
            if data is None:
                self.workflows.tell_all()
        elif data == b"listen":
            self.publisher.listened = True
        elif data in (b"drain", b"resume"):
            self.drain(data == b"drain")
        elif data.startswith(b"due "):
            self.sync.due_in(int(data[4:]))
        elif data.startswith(b"flow "):
            self.workflows.tell(data[5:].decode())
        elif data.startswith(b"abort! "):  # of a flow that was cancelled
            self.slots.abort(data[7:].decode())
        elif data.startswith(b"abort ") and self.aborts:
            self.slots.abort(data[6:].decode())

    def _take_delivery(self, data: bytes) -> None:
        """A job came with the wake-up."""
        delivery = delivered(self.worker_id, data)
        if delivery.job.id in self.slots.leases:
            # Its id was enqueued again before the reply came that its last life has ended: the next claim brings it.
            self.sync.claim_soon()
        else:
            self.sync.accept(delivery)
