"""Counts what becomes of this worker's jobs. The counts stay in memory, and are written once a second: a job costs
Redis nothing.

Each queue, function and outcome has an `EndedAttempts`: how many attempts, how long they ran and waited, and the newest
of them for the lists of recent jobs. A function may end thousands of times a second: only as many attempts are kept as
a list holds, and of those that went well only as many as a reader may want to see of one second.
"""

from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator

from ...protocol.attempt_errors import storable
from ...protocol.clock import timestamp_ms
from ...protocol.histogram import bucket_of
from ...protocol.recent_jobs import ENDED_STATES, Failure, encode_recent_job
from ...store.recent import EndedList, write_recent
from ...store.statistics import RUN_BUCKET, WAIT_BUCKET
from ...store.statistics_writer import NAME_CHARACTERS, field_of
from ...store.store import Store
from ..run.attempt import Attempt
from ..run.outcome import State
from .events import EventPublisher

__all__ = ("Counters", "EndedAttempts")

MAX_COMPLETE = 100  # that are listed of a function and a second
UNKNOWN_FUNCTION = "<unknown>"  # whatever name somebody enqueues: statistics have a row for each function

# The counter of each state.
_COUNTER = {
    **{state: state.value for state in (State.COMPLETE, State.FAILED, State.ABORTED, State.EXPIRED, State.RETRIED)},
    **{State.DEAD: "failed", State.RELEASED: "retried", State.SNOOZED: "retried"},
}
_NOT_LISTED = (State.RELEASED, State.SNOOZED)

# When it ended (ms), job id, attempt, when it was enqueued and started (ms; 0 if it was not), function, failure.
Entry = tuple[int, str, int, int, int, str, Failure | None]


class EndedAttempts:
    """The attempts of one function that came to one outcome, since they were written last.

    An attempt costs three appends; the sums are made when they are written.

    :param queue, function: under which they are counted
    :param state: the outcome
    :ivar counter: the name under which the outcome is counted
    """

    __slots__ = ("counter", "function", "newest", "queue", "runs_ms", "waits_ms")

    def __init__(self, queue: str, function: str, state: State) -> None:
        self.queue, self.function = queue, function
        self.counter = _COUNTER[state]
        listed = MAX_COMPLETE if state is State.COMPLETE else ENDED_STATES[self.counter]
        self.newest: deque[Entry] = deque(maxlen=0 if state in _NOT_LISTED else listed)
        self.runs_ms: list[int] = []
        self.waits_ms: list[int] = []

    def clear(self) -> None:
        """Forget them: they are about to be written."""
        self.runs_ms, self.waits_ms = [], []
        self.newest.clear()

    def add(self, run_ms: int, wait_ms: int, entry: Entry) -> None:
        """Count one attempt.

        :param run_ms: ms that it ran
        :param wait_ms: ms from due to start
        """
        self.runs_ms.append(run_ms)
        self.waits_ms.append(wait_ms)
        self.newest.append(entry)

    def sums(self) -> Iterator[tuple[str, int]]:
        """Each counter, and what these attempts add to it."""
        yield self.counter, len(self.runs_ms)
        yield "run_ms_total", sum(self.runs_ms)
        yield "wait_ms_total", sum(self.waits_ms)
        for bucket, lengths_ms in ((RUN_BUCKET, self.runs_ms), (WAIT_BUCKET, self.waits_ms)):
            counts: Counter[int] = Counter()
            for length_ms, count in Counter(lengths_ms).items():  # most have one of few lengths
                counts[bucket_of(length_ms)] += count
            for number, count in sorted(counts.items()):
                yield f"{bucket}{number}", count


class Counters:
    """All counters of a worker.

    :param worker_id: its id
    :param is_known: whether the worker has a function of that name
    :param publisher: tells those who listen what was counted
    """

    def __init__(self, worker_id: str, is_known: Callable[[str], bool], publisher: EventPublisher) -> None:
        self._worker_id = worker_id
        self._is_known = is_known
        self._publisher = publisher
        self._ended: dict[tuple[str, str, State], EndedAttempts] = {}  # by queue, function, outcome
        self._events: dict[str, int] = {}
        self._written: dict[str, int] = {}  # all that was ever handed over to be written, for metrics
        self._unlisted: dict[str, dict[tuple[str, str], EndedList]] = {}  # by queue: Redis has not taken them

    def ended(self, attempt: Attempt) -> None:
        """Redis has taken the outcome of an attempt."""
        assert attempt.ended is not None
        state, failure = attempt.ended
        leased, payload, started_ms = attempt.leased, attempt.payload, attempt.started_ms
        ended_ms = attempt.ended_ms or timestamp_ms()
        run_ms = ended_ms - started_ms if started_ms else 0
        wait_ms = leased.claimed_ms - leased.due_ms
        if wait_ms < 0:
            wait_ms = 0
        function = payload.function
        attempts = self._ended.get((leased.queue, function, state))
        if attempts is None:
            function = storable(function[:NAME_CHARACTERS])
            attempts = self.of(leased.queue, function if self._is_known(function) else UNKNOWN_FUNCTION, state)
        entry = (ended_ms, leased.id, attempt.job_try, payload.enqueued_ms, started_ms, function, failure)
        attempts.add(run_ms, wait_ms, entry)
        if self._publisher.listened:
            self._publisher.job_ended(attempt, run_ms, wait_ms)

    def recovered(self, attempt: Attempt) -> None:
        """A job runs again that ended its worker before, or whose worker was lost."""
        field = field_of(attempt.leased.queue, attempt.payload.function, "recovered")
        self._events[field] = self._events.get(field, 0) + 1

    def of(self, queue: str, function: str, state: State) -> EndedAttempts:
        """The attempts of a function that came to an outcome."""
        key = (queue, function, state)
        attempts = self._ended.get(key)
        if attempts is None:
            attempts = self._ended[key] = EndedAttempts(queue, function, state)
        return attempts

    def totals(self) -> dict[str, int]:
        """All that was ever counted: field -> number."""
        sums = dict(self._written)
        for field, amount in self._events.items():
            sums[field] = sums.get(field, 0) + amount
        for attempts in self._ended.values():
            if attempts.runs_ms:
                _add(attempts, sums)
        return sums

    async def flush(self, store: Store) -> None:
        """Write what was counted since the last time. It is kept if Redis cannot be reached."""
        sums, self._events = self._events, {}
        maxima: dict[str, int] = {}
        for attempts in self._ended.values():
            if attempts.runs_ms:
                self._take_out(attempts, sums, maxima)
        for field, amount in sums.items():
            self._written[field] = self._written.get(field, 0) + amount
        await store.statistics.write(sums, maxima)
        for queue, lists in list(self._unlisted.items()):
            await write_recent(store, queue, lists.values())
            del self._unlisted[queue]

    def _take_out(self, attempts: EndedAttempts, sums: dict[str, int], maxima: dict[str, int]) -> None:
        """Add attempts to what is to be written, and forget them."""
        _add(attempts, sums)
        longest = field_of(attempts.queue, attempts.function, "run_ms_max")
        maxima[longest] = max(max(attempts.runs_ms), maxima.get(longest, 0))
        if attempts.newest:
            encoded = self._encoded(attempts.newest)
            self._list(attempts.queue, EndedList(attempts.counter, attempts.function, encoded))
        attempts.clear()

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


def _add(attempts: EndedAttempts, sums: dict[str, int]) -> None:
    """Add the sums of attempts."""
    for counter, amount in attempts.sums():
        field = field_of(attempts.queue, attempts.function, counter)
        sums[field] = sums.get(field, 0) + amount
