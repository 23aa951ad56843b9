"""The queues that are measured: what each one is, how much of it is measured, and with which settings."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

PEERS_FOLDER = Path(__file__).parent / "peers"
LEVELS = (1, 10, 100)


@dataclass(frozen=True)
class PeerFacts:
    """One row of the tables.

    Attributes:
        key: name on the command line and in results.json.
        title: name in tables and in the chart.
        unit: what a concurrency of 100 means for it.
        backlog: jobs of a throughput run, by concurrency; a few seconds' worth.
        enqueue_jobs: jobs of a run of concurrent or bulk enqueueing.
        distribution: package that gives the version.
        chord_jobs: members of a chord; 0 where the peer has none.
        folder: folder below benchmarks/peers and benchmarks/.envs, the key unless two rows share one.
        variables: environment variables that switch the adapter.
        note: the settings that matter, one line.
    """

    key: str
    title: str
    unit: str
    backlog: Mapping[int, int]
    enqueue_jobs: int
    distribution: str
    folder: str
    variables: Mapping[str, str] = field(default_factory=dict)
    note: str = ""
    chord_jobs: int = 0

    @property
    def is_sequential(self) -> bool:
        """Whether it runs one job at a time in a process, whatever the concurrency."""
        return tuple(self.backlog) == (1,)


def _jobs(one_at_a_time: int, more: int) -> dict[int, int]:
    """The same backlog at all levels but the first."""
    return {level: one_at_a_time if level == 1 else more for level in LEVELS}


OURS = "ours"
ARQ = "arq"
ARQ_TUNED = "arq-tuned"
BULLMQ = "bullmq"

PEERS = (
    PeerFacts(
        key=OURS,
        title="arqestra",
        unit="coroutines",
        backlog={1: 10_000, 10: 50_000, 100: 100_000},
        enqueue_jobs=50_000,
        distribution="arqestra",
        folder="arqestra",
        note="defaults, uvloop",
        chord_jobs=10_000,
    ),
    PeerFacts(
        key=ARQ,
        title="arq",
        unit="coroutines",
        # A poll every 0.5 s takes max(5 x max_jobs, 100) jobs: 200 a second at 10. At 1 it starts one job a poll.
        backlog={1: 40, 10: 1_500, 100: 6_000},
        enqueue_jobs=5_000,
        distribution="arq",
        folder="arq",
        note="defaults, uvloop; its polling (poll_delay 0.5 s) bounds it at low concurrency",
    ),
    PeerFacts(
        key=ARQ_TUNED,
        title="arq (tuned)",
        unit="coroutines",
        backlog=_jobs(1_000, 6_000),
        enqueue_jobs=5_000,
        distribution="arq",
        folder="arq",
        variables={"BENCH_ARQ_TUNED": "1"},
        note="poll_delay 10 ms in worker and result(), queue_read_limit 10,000, uvloop",
    ),
    PeerFacts(
        key="saq",
        title="SAQ",
        unit="coroutines",
        backlog=_jobs(2_000, 6_000),
        enqueue_jobs=5_000,
        distribution="saq",
        folder="saq",
        note="Redis queue, max_concurrent_ops = concurrency, uvloop, hiredis",
    ),
    PeerFacts(
        key="taskiq",
        title="taskiq",
        unit="coroutines",
        backlog=_jobs(2_000, 6_000),
        enqueue_jobs=5_000,
        distribution="taskiq",
        folder="taskiq",
        note="RedisStreamBroker (faster here than ListQueueBroker), prefetch = concurrency, uvloop",
    ),
    PeerFacts(
        key="streaq",
        title="streaQ",
        unit="coroutines",
        backlog=_jobs(2_000, 5_000),
        enqueue_jobs=10_000,
        distribution="streaq",
        folder="streaq",
        note="asyncio backend with uvloop, default prefetch",
    ),
    PeerFacts(
        key="dramatiq",
        title="dramatiq",
        unit="threads",
        backlog=_jobs(2_000, 5_000),
        enqueue_jobs=5_000,
        distribution="dramatiq",
        folder="dramatiq",
        note="Redis broker, Results middleware, prefetch 2 x threads (its default)",
    ),
    PeerFacts(
        key="huey",
        title="huey",
        unit="threads",
        backlog=_jobs(2_000, 6_000),
        enqueue_jobs=5_000,
        distribution="huey",
        folder="huey",
        note="RedisHuey, blocking pop, immediate off",
    ),
    PeerFacts(
        key="celery",
        title="Celery",
        unit="threads",
        backlog=_jobs(1_500, 3_000),
        enqueue_jobs=2_000,
        distribution="celery",
        folder="celery",
        note="thread pool, prefetch multiplier 10, no gossip, mingle, heartbeat, events or rate limits",
        chord_jobs=2_000,
    ),
    PeerFacts(
        key="rq",
        title="RQ",
        unit="one job at a time",
        backlog={1: 1_000},
        enqueue_jobs=5_000,
        distribution="rq",
        folder="rq",
        note="SimpleWorker, which does not fork; it has no concurrency within a process",
    ),
    PeerFacts(
        key=BULLMQ,
        title="BullMQ",
        unit="promises",
        backlog=_jobs(8_000, 60_000),
        enqueue_jobs=20_000,
        distribution="bullmq",
        folder="bullmq",
        note="ioredis, addBulk, completed jobs kept (its default)",
        chord_jobs=10_000,
    ),
)


def peers_named(keys: list[str]) -> list[PeerFacts]:
    """The facts of these keys, in the catalogue's order; all for an empty list.

    Raises:
        ValueError: a key is unknown.
    """
    known = {peer.key for peer in PEERS}
    unknown = [key for key in keys if key not in known]
    if unknown:
        raise ValueError(f"expected peers among {', '.join(sorted(known))}, got {', '.join(unknown)}")
    return [peer for peer in PEERS if not keys or peer.key in keys]
