"""What this worker's jobs came to, folded in memory and written once a second: no cost in Redis for each job.

There is an account for each queue, function and outcome: how many attempts, how long they ran and waited, and the
newest of them for the lists of recent jobs. Of a function that ends thousands of times a second no more are kept than
a list holds, and of what went well no more than a reader can want to see of a second.
"""

from collections import Counter, deque
from collections.abc import Iterable, Iterator

from ...protocol.histogram import bucket_of
from ...protocol.recent_jobs import ENDED_STATES, Failure, encode_recent_job
from ...store.recent import EndedList, write_recent
from ...store.statistics import RUN_BUCKET, WAIT_BUCKET
from ...store.statistics_writer import field_of
from ...store.store import Store
from ..run.outcome import State

__all__ = ("Counters", "Counts")

MAX_COMPLETE = 100  # that are listed of a function and a second

# The figure that a state counts for.
_COUNTS_AS = {
    **{state: state.value for state in (State.COMPLETE, State.FAILED, State.ABORTED, State.EXPIRED, State.RETRIED)},
    **{State.DEAD: "failed", State.RELEASED: "retried", State.SNOOZED: "retried"},
}
_NOT_LISTED = (State.RELEASED, State.SNOOZED)

# When it ended (ms), job id, attempt, when it was enqueued and started (ms; 0 if it was not), function, failure.
Entry = tuple[int, str, int, int, int, str, Failure | None]


class Counts:
    """The attempts of one function that came to one outcome, since the last time that they were written.

    An attempt costs three appends; what they come to is worked out when they are written.

    :param queue, function: under which they are counted
    :param state: the outcome
    """

    __slots__ = ("figure", "function", "newest", "queue", "runs_ms", "waits_ms")

    def __init__(self, queue: str, function: str, state: State) -> None:
        self.queue, self.function = queue, function
        self.figure = _COUNTS_AS[state]
        listed = MAX_COMPLETE if state is State.COMPLETE else ENDED_STATES[self.figure]
        self.newest: deque[Entry] = deque(maxlen=0 if state in _NOT_LISTED else listed)
        self.runs_ms: list[int] = []
        self.waits_ms: list[int] = []

    def clear(self) -> None:
        """Begin anew."""
        self.runs_ms, self.waits_ms = [], []
        self.newest.clear()

    def take(self, run_ms: int, wait_ms: int, entry: Entry) -> None:
        """Take in one attempt.

        :param run_ms: ms that it ran
        :param wait_ms: ms from due to start
        """
        self.runs_ms.append(run_ms)
        self.waits_ms.append(wait_ms)
        self.newest.append(entry)

    def figures(self) -> Iterator[tuple[str, int]]:
        """What is counted, and how much of it."""
        yield self.figure, len(self.runs_ms)
        yield "run_ms_total", sum(self.runs_ms)
        yield "wait_ms_total", sum(self.waits_ms)
        for bucket, lengths_ms in ((RUN_BUCKET, self.runs_ms), (WAIT_BUCKET, self.waits_ms)):
            counts: Counter[int] = Counter()
            for length_ms, count in Counter(lengths_ms).items():  # most are of few lengths
                counts[bucket_of(length_ms)] += count
            for place, count in sorted(counts.items()):
                yield f"{bucket}{place}", count


class Counters:
    """All accounts of a worker.

    :param worker_id: whose
    """

    def __init__(self, worker_id: str) -> None:
        self._worker_id = worker_id
        self._accounts: dict[tuple[str, str, State], Counts] = {}
        self._events: dict[str, int] = {}
        self._written: dict[str, int] = {}  # all that was ever handed over to be written, for metrics
        self._unlisted: dict[str, dict[tuple[str, str], EndedList]] = {}  # by queue: what Redis has not taken

    def of(self, queue: str, function: str, state: State) -> Counts:
        """The account of a function and an outcome."""
        key = (queue, function, state)
        account = self._accounts.get(key)
        if account is None:
            account = self._accounts[key] = Counts(queue, function, state)
        return account

    def count_event(self, queue: str, function: str, figure: str) -> None:
        """Take in what is no end of an attempt, such as a job that was recovered from a lost worker."""
        field = field_of(queue, function, figure)
        self._events[field] = self._events.get(field, 0) + 1

    def totals(self) -> dict[str, int]:
        """All that was ever taken in: field -> number."""
        sums = dict(self._written)
        for field, amount in self._events.items():
            sums[field] = sums.get(field, 0) + amount
        for account in self._accounts.values():
            if account.runs_ms:
                _add(account, sums)
        return sums

    async def flush(self, store: Store) -> None:
        """Write what was taken in since the last time. It is kept if Redis cannot be reached."""
        sums, self._events = self._events, {}
        maxima: dict[str, int] = {}
        for account in self._accounts.values():
            if account.runs_ms:
                self._take_out(account, sums, maxima)
        for field, amount in sums.items():
            self._written[field] = self._written.get(field, 0) + amount
        await store.statistics.write(sums, maxima)
        for queue, lists in list(self._unlisted.items()):
            await write_recent(store, queue, lists.values())
            del self._unlisted[queue]

    def _take_out(self, account: Counts, sums: dict[str, int], maxima: dict[str, int]) -> None:
        """Take out of an account what is to be written."""
        _add(account, sums)
        longest = field_of(account.queue, account.function, "run_ms_max")
        maxima[longest] = max(max(account.runs_ms), maxima.get(longest, 0))
        if account.newest:
            encoded = self._encoded(account.newest)
            self._list(account.queue, EndedList(account.figure, account.function, encoded))
        account.clear()

    def _list(self, queue: str, ended: EndedList) -> None:
        """Have attempts listed, with those of the same list that could not be written; no more than it holds."""
        lists = self._unlisted.setdefault(queue, {})
        kept = lists.get((ended.state, ended.function))
        entries = ended.entries if kept is None else [*kept.entries, *ended.entries]
        lists[ended.state, ended.function] = ended._replace(entries=entries[-ENDED_STATES[ended.state] :])

    def _encoded(self, entries: Iterable[Entry]) -> list[tuple[int, bytes]]:
        worker_id = self._worker_id
        return [
            (
                ended_ms,
                encode_recent_job(
                    job_id,
                    attempt,
                    enqueued_ms=enqueued_ms,
                    started_ms=started_ms,
                    worker_id=worker_id,
                    function=function,
                    failure=failure,
                ),
            )
            for ended_ms, job_id, attempt, enqueued_ms, started_ms, function, failure in entries
        ]


def _add(account: Counts, sums: dict[str, int]) -> None:
    """Add what an account holds."""
    for figure, amount in account.figures():
        field = field_of(account.queue, account.function, figure)
        sums[field] = sums.get(field, 0) + amount
