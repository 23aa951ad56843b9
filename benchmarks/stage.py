"""What a measurement gets: a server, the queue that it measures, and how large it shall be."""

from dataclasses import dataclass

from .catalogue import PeerFacts
from .processes import Bench
from .server import BenchmarkServer

QUICK_DIVISOR = 5


@dataclass(frozen=True)
class Stage:
    """One queue on the run's server.

    Attributes:
        server: the run's server; a measurement begins with `renew`.
        bench: starts the queue's adapter.
        facts: the queue's row of the catalogue.
        quick: whether a fifth of the jobs or of the time is enough.
    """

    server: BenchmarkServer
    bench: Bench
    facts: PeerFacts
    quick: bool

    def scaled(self, amount: int) -> int:
        """This many jobs, or a fifth of them."""
        return amount // QUICK_DIVISOR if self.quick else amount
