"""Ports that nobody listens on."""

from __future__ import annotations

import socket
from contextlib import ExitStack

__all__ = ("HOST", "free_port", "free_ports")

HOST = "127.0.0.1"


def free_ports(count: int) -> list[int]:
    """So many different ports of loopback that are free at this moment."""
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind((HOST, 0))
        return [int(probe.getsockname()[1]) for probe in probes]


def free_port() -> int:
    """One of them."""
    return free_ports(1)[0]
