"""Group commit of enqueues: the calls of one tick of the event loop share one script call."""

import asyncio

from .records import NewJob
from .store import CHUNK, Store

__all__ = ("EnqueueBatch",)

CHUNK_BYTES = 8 * 1024 * 1024


class EnqueueBatch:
    """Gathers jobs until the loop's next tick.

    :param store: where they go
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._gathered: list[tuple[NewJob, asyncio.Future[bool]]] = []
        self._sending: set[asyncio.Task[None]] = set()

    def add(self, new: NewJob) -> asyncio.Future[bool]:
        """A future of whether the job was accepted."""
        loop = asyncio.get_running_loop()
        if not self._gathered:
            loop.call_soon(self._send)
        accepted: asyncio.Future[bool] = loop.create_future()
        self._gathered.append((new, accepted))
        return accepted

    def _send(self) -> None:
        gathered, self._gathered = self._gathered, []
        loop = asyncio.get_running_loop()
        for chunk in _chunks(gathered):
            task = loop.create_task(self._send_chunk(chunk))
            self._sending.add(task)
            task.add_done_callback(self._sending.discard)

    async def _send_chunk(self, chunk: list[tuple[NewJob, asyncio.Future[bool]]]) -> None:
        try:
            verdicts = await self._store.enqueue([new for new, _ in chunk])
        except BaseException as error:
            for _, accepted in chunk:
                if not accepted.done():
                    accepted.set_exception(error)
            if not isinstance(error, Exception):
                raise
            return
        for (_, accepted), verdict in zip(chunk, verdicts, strict=True):
            if not accepted.done():  # the caller may have been cancelled
                accepted.set_result(verdict)


def _chunks(
    gathered: list[tuple[NewJob, asyncio.Future[bool]]],
) -> list[list[tuple[NewJob, asyncio.Future[bool]]]]:
    """Pieces that bound the time of one script call and the size of one request."""
    chunks: list[list[tuple[NewJob, asyncio.Future[bool]]]] = [[]]
    size_bytes = 0
    for entry in gathered:
        payload_bytes = len(entry[0].payload)
        if len(chunks[-1]) == CHUNK or (chunks[-1] and size_bytes + payload_bytes > CHUNK_BYTES):
            chunks.append([])
            size_bytes = 0
        chunks[-1].append(entry)
        size_bytes += payload_bytes
    return chunks
