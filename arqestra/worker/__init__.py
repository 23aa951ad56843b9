"""What runs jobs.

`worker.py` is the life of a worker and arq's API of it; `exchange.py` the one conversation with Redis: outcomes go
out and claimed jobs come in, in the same round trip; `claim.py` decides when and how much to claim; `execute.py` is
the life of one job; `heartbeat.py` renews the leases from a thread of its own; `bookkeeper.py` writes once a second
what was counted and told; `command_line.py` lets arq's command line build our worker.
"""

from .worker import Worker

__all__ = ("Worker",)
