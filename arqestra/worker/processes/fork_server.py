"""The fork server: `python -m arqestra.worker.processes.fork_server <file descriptor> <settings>`.

It imports the settings once. Then each worker process is a fork of it: there in a few milliseconds, with memory that is
shared until somebody writes to it. The server itself has no thread, no event loop and no connection. If the import
leaves something that forks must not share (`forkable.py`), the server says so and ends, and the supervisor starts
interpreters instead. When the supervisor is gone, the server ends.

The messages are in `ipc.py`. The server answers each before it reads the next. A child that has ended remains a zombie
until the supervisor, which sees its end (`fork_client.py`), asks for the exit code. So a process id that the supervisor
knows is never that of another process.
"""

import atexit
import contextlib
import gc
import os
import signal
import socket
import sys
import threading
from collections.abc import Mapping
from typing import Any, NoReturn

from ...store.scripts import NAMES, script
from .child import import_settings, run
from .forkable import open_descriptors, reason_not_to_fork
from .ipc import MAX_MESSAGE_BYTES, SupervisorLink, decoded, encoded

__all__ = ("main",)

# Signals for all processes of a session or a service: the supervisor decides what they mean.
_LEFT_TO_THE_SUPERVISOR = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def main() -> int:
    """Import, and fork when told to; returns the exit code: the server's own, or in a fork that of its worker."""
    control = socket.socket(fileno=int(sys.argv[1]))
    order = decoded(control.recv(MAX_MESSAGE_BYTES))
    before = open_descriptors()
    try:
        settings = import_settings(order)
    except (Exception, SystemExit):
        return 1  # the process that is started instead reports it
    reason = _declined(settings, order["with"]) or reason_not_to_fork(before)
    _answer(control, {"reason": reason})
    if reason is not None:
        return 0
    for name in NAMES:  # what each process would make for itself
        script(name)
    gc.collect()
    gc.freeze()  # a collection in a fork would write to every object, and so copy its memory
    handlers = {number: signal.signal(number, signal.SIG_IGN) for number in _LEFT_TO_THE_SUPERVISOR}
    line = _serve(control)
    if line is None:
        return 0
    for number, handler in handlers.items():  # the usual ones, or what the settings' import has set
        signal.signal(number, handler)
    control.close()
    os.setsid()
    if (numpy_random := sys.modules.get("numpy.random")) is not None:  # the generator of Python seeds itself
        numpy_random.seed()
    _end(run(SupervisorLink(line), lambda _: settings))


def _end(code: int) -> NoReturn:
    """End a fork, as `multiprocessing` ends its own: with all that Python does at an exit but for taking objects apart.

    That would write to every object, and so copy the memory that the forks share: it takes longer than the start.
    """
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _declined(settings: Any, overrides: Mapping[str, Any]) -> str | None:
    of_settings = settings.get("preload", True) if isinstance(settings, Mapping) else getattr(settings, "preload", True)
    return None if overrides.get("preload", of_settings) else "preload is off"


def _serve(control: socket.socket) -> int | None:
    """Answer until the supervisor is gone: None; in a fork: the descriptor of its line."""
    while True:
        data, descriptors, _, _ = socket.recv_fds(control, MAX_MESSAGE_BYTES, 1)
        if not data:
            return None
        message = decoded(data)
        if "reap" in message:
            _, status = os.waitpid(message["reap"], 0)
            _answer(control, {"code": os.waitstatus_to_exitcode(status)})
            continue
        line = descriptors[0]
        sys.stdout.flush()  # what the import has printed is printed once
        sys.stderr.flush()
        try:
            pid = os.fork()
        except OSError as error:  # too many processes, or too little memory
            _answer(control, {"error": str(error)})
        else:
            if pid == 0:
                return line
            _answer(control, {"pid": pid})
        os.close(line)


def _answer(control: socket.socket, message: dict[str, Any]) -> None:
    with contextlib.suppress(OSError):  # the supervisor is gone: the next message is the end
        control.sendall(encoded(message))


if __name__ == "__main__":
    sys.exit(main())
