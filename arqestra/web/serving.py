"""Serving the dashboard by uvicorn, in a process of its own."""

import signal
import socket

import uvicorn
from starlette.applications import Starlette

__all__ = ("serve",)

GRACE_S = 5


class _Server(uvicorn.Server):
    """One that ends the streams of open pages before it waits for its connections."""

    def __init__(self, config: uvicorn.Config, app: Starlette) -> None:
        super().__init__(config)
        self._app = app

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await self._app.state.end_streams()
        await super().shutdown(sockets)


def serve(app: Starlette, listening: socket.socket, root_path: str = "") -> None:
    """Serve until SIGTERM or Ctrl-C, then return.

    :param listening: a bound socket
    :param root_path: at which a proxy serves it
    """
    config = uvicorn.Config(
        app,
        root_path=root_path,
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=GRACE_S,
        h11_max_incomplete_event_size=256 * 1024,  # a page of selected jobs is a long address
    )
    server = _Server(config, app)
    for number in (signal.SIGINT, signal.SIGTERM):
        # At its end uvicorn raises the signal again: the process would be killed by it, and not end with 0.
        signal.signal(number, server.handle_exit)
    server.run(sockets=[listening])
