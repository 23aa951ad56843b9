"""What else the machine is busy with while a worker is measured."""

import time

import psutil

from .processes import AdapterProcess
from .server import BenchmarkServer


class OtherLoad:
    """Watches, from its making on, the processor time that is neither the worker's, the server's nor ours.

    A figure taken beside a test suite is not wrong, it is of a smaller machine; and a peer that mostly waits for its
    poll suffers less from that than one that is busy. So a run says how much of the machine it did not have.
    """

    def __init__(self, server: BenchmarkServer) -> None:
        self._server = server
        self._started = time.monotonic()
        self._used_before_s = self._used_s() - server.cpu_s()

    def processors(self, worker: AdapterProcess) -> float:
        """How many processors others used on average; the worker must have been started after this was made."""
        used_s = self._used_s() - self._server.cpu_s() - self._used_before_s - worker.cpu_s()
        return max(0.0, used_s / (time.monotonic() - self._started))

    def _used_s(self) -> float:
        machine, us = psutil.cpu_times(), psutil.Process().cpu_times()
        idle = machine.idle + getattr(machine, "iowait", 0.0)
        # On Linux the guests' time is counted in user time already.
        return (
            sum(machine)
            - idle
            - getattr(machine, "guest", 0.0)
            - getattr(machine, "guest_nice", 0.0)
            - us.user
            - us.system
        )
