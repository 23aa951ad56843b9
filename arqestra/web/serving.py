"""Serves the dashboard with uvicorn, for `arqestra dashboard`."""

import signal
import socket

import uvicorn
from starlette.applications import Starlette

__all__ = ("serve",)

GRACE_S = 5


class _Server(uvicorn.Server):
    """Ends the streams of open pages at shutdown, before it waits for its connections to close."""

    def __init__(self, config: uvicorn.Config, app: Starlette) -> None:
        super().__init__(config)
        self._app = app

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await self._app.state.end_streams()
        await super().shutdown(sockets)


def serve(app: Starlette, listening: socket.socket, root_path: str = "") -> None:
    """Serve until SIGTERM or Ctrl-C, then return.

    :param listening: a bound socket
    :param root_path: the path at which a proxy serves it
    """
    config = uvicorn.Config(
        app,
        root_path=root_path,
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=GRACE_S,
        h11_max_incomplete_event_size=256 * 1024,  # an address that selects many jobs is long
    )
    server = _Server(config, app)
    for number in (signal.SIGINT, signal.SIGTERM):
        # uvicorn raises the signal again at its end. With a handler of ours the process ends with 0 and is not killed.
        signal.signal(number, server.handle_exit)
    server.run(sockets=[listening])
