"""The line between a supervisor and a worker process: JSON, one message a line, over a pair of sockets.

| from | message | means |
|---|---|---|
| supervisor | `{"run": settings, "with": overrides}` | the first one: what to run |
| supervisor | `{"do": "drain"}`, `{"do": "hurry"}` | stop claiming and let jobs end; give them back at once |
| supervisor | `{"do": "drain", "within": seconds}` | the same; jobs have at least that long |
| supervisor | `{"do": "tell"}` | metrics are served: tell the figures |
| worker | `{"ready": worker id, "wait": seconds, "burst": bool}` | it claims; how long jobs have to end; a burst |
| worker | `{"recycle": reason}` | it wants to be replaced, and goes on until it is told to drain |
| worker | `{"stuck": reason}` | it has given its jobs back and ends now |
| worker | `{"serve": [port, host]}` | its settings want the metrics of all processes there |
| worker | `{"figures": {field: number}, "presence": ...}` | if asked, once a second: what has changed |

The end of the line is a message, too: whoever is left knows that the other is gone.

Between the supervisor and a fork server, one message a packet; each of the supervisor's is answered:

| from | message | means |
|---|---|---|
| supervisor | `{"run": settings, "with": overrides}` | the first one: what to import |
| server | `{"reason": null or text}` | imported; or why it forks none, and ends |
| supervisor | `{"do": "fork"}`, and a descriptor | start a worker process with this line |
| server | `{"pid": number}`, `{"error": text}` | its process id; or why the system refuses |
| supervisor | `{"reap": pid}` | that one has ended |
| server | `{"code": number}` | its exit code |
"""

import json
import select
import socket
import threading
from collections.abc import Iterator
from typing import Any

__all__ = ("CANNOT_START", "MAX_MESSAGE_BYTES", "STUCK", "SupervisorLink", "decoded", "encoded")

# Exit codes, as in sysexits.h: EX_CONFIG, EX_SOFTWARE.
CANNOT_START = 78
STUCK = 70
MAX_MESSAGE_BYTES = 256 * 1024  # of a packet


def encoded(message: dict[str, Any]) -> bytes:
    """One message."""
    return json.dumps(message).encode() + b"\n"


def decoded(line: bytes) -> dict[str, Any]:
    """One message."""
    message: dict[str, Any] = json.loads(line)
    return message


class SupervisorLink:
    """A worker's end of the line; it blocks, and is read in a thread of its own.

    :param number: the file descriptor that the process inherited
    """

    def __init__(self, number: int) -> None:
        self._socket = socket.socket(fileno=number)
        self._file = self._socket.makefile("rb")
        self._sending = threading.Lock()  # the loop's thread, the lease renewer's and the line's own

    def send(self, message: dict[str, Any]) -> None:
        """Tell the supervisor; nothing happens if it is gone."""
        try:
            with self._sending:
                self._socket.sendall(encoded(message))
        except OSError:
            return

    def close(self) -> None:
        """Say no more."""
        self._file.close()
        self._socket.close()

    def has_room(self) -> bool:
        """Whether the next message, if it is no large one, is sent without waiting for the supervisor to read."""
        poll = select.poll()
        poll.register(self._socket, select.POLLOUT)  # of a Unix socket: three quarters of its buffer are free
        return bool(poll.poll(0))

    def messages(self) -> Iterator[dict[str, Any]]:
        """What the supervisor says, until it is gone."""
        try:
            for line in self._file:
                yield decoded(line)
        except (OSError, ValueError):
            return
