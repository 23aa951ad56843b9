"""A worker process under a supervisor: a fork of the fork server, or an interpreter of its own,
`python -m arqestra.worker.processes.child <file descriptor>`.

It runs one worker, tells the supervisor what it needs to know, and does what it is told. When the supervisor is gone it
drains and ends. A thread reads the line, so that this works while a job blocks the event loop: after the time that jobs
have to end, and some more, the process ends whatever its jobs do.
"""

import logging
import logging.config
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping
from signal import Signals
from typing import Any

from arq.utils import import_string
from arq.version import VERSION as ARQ_VERSION

from ..command_line import create_worker, get_kwargs, use_uvloop
from ..telemetry.metrics_port import FiguresLine
from ..worker import Worker
from .ipc import CANNOT_START, STUCK, SupervisorLink

__all__ = ("import_settings", "main", "run")

logger = logging.getLogger("arq.worker")
faults = logging.getLogger("arq.worker.faults")  # what is no job's own failure: observed.py

MERCY_S = 10.0  # beyond the time that jobs have to end: for writing outcomes, on_shutdown and closing connections


class SupervisedWorker:
    """A worker and its line to the supervisor.

    :param worker: not running yet
    :param line: to the supervisor
    """

    def __init__(self, worker: Worker, line: SupervisorLink) -> None:
        self._worker = worker
        self._line = line
        self._asked = False
        worker.on_ready = self._say_that_it_is_ready
        worker.on_recycle = self._ask_for_replacement
        worker.stuck_callback = lambda attempt: self._ask_for_replacement(f"job {attempt.ref} does not end")
        worker.on_blocked = self._end_stuck
        worker.metrics = self._figures = FiguresLine(worker.reporter.figures, line)

    def run(self) -> None:
        """Run until the supervisor says otherwise, or is gone."""
        threading.Thread(target=self._obey, name="arqestra-control", daemon=True).start()
        self._worker.run()

    def _say_that_it_is_ready(self) -> None:
        worker = self._worker
        self._line.send({"ready": worker.worker_id, "wait": worker.completion_wait_s, "burst": worker.burst})

    def _ask_for_replacement(self, reason: str) -> None:
        if not self._asked:
            self._asked = True
            self._line.send({"recycle": reason})

    def _end_stuck(self, reason: str) -> None:
        self._line.send({"stuck": reason})
        logging.shutdown()
        os._exit(STUCK)

    def _obey(self) -> None:
        for message in self._line.messages():
            if message.get("do") == "drain":
                self._worker.grant_completion_wait(message.get("within", 0))
                self._stop(self._worker.handle_sig_wait_for_completion)
            elif message.get("do") == "tell":
                self._figures.wanted = True
            elif message.get("do") == "hurry":
                self._stop(self._worker.handle_sig)
        logger.warning("the supervisor is gone; this worker ends")
        self._stop(self._worker.handle_sig_wait_for_completion)

    def _stop(self, handler: Any) -> None:
        self._worker.loop.call_soon_threadsafe(handler, Signals.SIGTERM)
        limit = threading.Timer(self._worker.completion_wait_s + MERCY_S, os._exit, [STUCK])
        limit.daemon = True
        limit.start()


def import_settings(order: Mapping[str, Any]) -> Any:
    """Set up logging and import the settings.

    :param order: the message that says which
    """
    sys.path.insert(0, os.getcwd())
    lines = order["logging"]
    logging.config.dictConfig(import_string(lines) if isinstance(lines, str) else lines)
    return import_string(order["run"])


def run(line: SupervisorLink, settings_of: Callable[[Mapping[str, Any]], Any]) -> int:
    """Run what the supervisor's first message says; returns the exit code.

    :param settings_of: called with the message
    """
    order = next(line.messages(), None)
    if order is None:
        return 0
    try:
        settings = {**get_kwargs(settings_of(order)), **order["with"]}
        use_uvloop(settings)
        worker = create_worker(settings)
        if worker.options.metrics_port is not None:
            line.send({"serve": [worker.options.metrics_port, worker.options.metrics_host]})
        worker.schedule_runner.code_age_s = max(0.0, time.monotonic() - order["since"])
    except (Exception, SystemExit):
        faults.exception("%s cannot be run (arq %s)", order["run"], ARQ_VERSION)
        return CANNOT_START
    SupervisedWorker(worker, line).run()
    return 0


def main() -> int:
    """An interpreter of its own; returns the exit code."""
    return run(SupervisorLink(int(sys.argv[1])), import_settings)


if __name__ == "__main__":
    sys.exit(main())
