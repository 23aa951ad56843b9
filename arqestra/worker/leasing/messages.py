"""What a worker does about a message on its channel. `docs/data-model.md` lists them."""

from typing import TYPE_CHECKING

from ...store.codec import delivered

if TYPE_CHECKING:
    from ..worker import Worker

__all__ = ("handle_message",)


def handle_message(worker: "Worker", data: bytes | None) -> None:
    """A message; None when the subscription has become active, and some may have been lost before."""
    if data is not None and data.startswith(b"job "):
        take_delivery(worker, data)
    elif data is None or data == b"wake":
        worker.sync.look()
        if data is None:
            worker.workflows.tell_all()
    elif data == b"listen":
        worker.reporter.publisher.listened = True
    elif data in (b"drain", b"resume"):
        worker.steer(draining=data == b"drain")
    elif data.startswith(b"due "):
        worker.sync.due_in(int(data[4:]))
    elif data.startswith(b"flow "):
        worker.workflows.tell(data[5:].decode())
    elif data.startswith(b"abort! "):  # of a flow that was cancelled
        worker.slots.abort(data[7:].decode())
    elif data.startswith(b"abort ") and worker.allow_abort_jobs:
        worker.slots.abort(data[6:].decode())


def take_delivery(worker: "Worker", data: bytes) -> None:
    """A job came with the wake-up."""
    delivery = delivered(worker.worker_id, data)
    if delivery.job.id in worker.slots.leases:
        # Its id was enqueued again before the reply came that its last life has ended: the next claim brings it.
        worker.sync.look()
    else:
        worker.sync.take_in(delivery)
