"""The counters of a worker: attempts folded in memory, written as sums, maxima and lists, kept while Redis is away."""

from __future__ import annotations

from typing import Any

import pytest

from arqestra.protocol.histogram import bucket_of
from arqestra.protocol.keys import Keys
from arqestra.protocol.recent_jobs import ENDED_STATES, Failure, decode_recent_job
from arqestra.store.records import LeasedJob
from arqestra.store.statistics_writer import StatisticsWriter
from arqestra.store.store import Store
from arqestra.worker.run.attempt import Attempt
from arqestra.worker.run.outcome import State
from arqestra.worker.telemetry.counters import Counters, EndedAttempts, Entry
from arqestra.worker.telemetry.events import EventPublisher
from tests.support.run_context import NOTHING


class NotingStore(Store):
    """Keeps what its scripts are given, or is out of reach.

    :ivar recorded: of each call to `record`: number, sums, maxima
    :ivar listed: entries by list
    """

    def __init__(self) -> None:
        self.keys = Keys()
        self.statistics = StatisticsWriter(self.call, self.keys)
        self.is_away = False
        self.recorded: list[tuple[int, dict[str, int], dict[str, int]]] = []
        self.listed: dict[str, list[tuple[int, bytes]]] = {}

    async def call(self, name: str, *args: Any) -> Any:
        if self.is_away:
            raise ConnectionError("away")
        if name == "record":
            number, queues = args[7], args[8]
            triples = args[9 + queues :]
            found: dict[str, dict[str, int]] = {"+": {}, ">": {}}
            for at in range(0, len(triples), 3):
                found[triples[at + 2]][triples[at]] = triples[at + 1]
            self.recorded.append((number, found["+"], found[">"]))
        else:
            assert name == "recent"
            at = 3
            while at < len(args):
                list_name, _, count = args[at : at + 3]
                entries = args[at + 3 : at + 3 + 2 * count]
                self.listed.setdefault(list_name, []).extend(zip(entries[::2], entries[1::2], strict=True))
                at += 3 + 2 * count
        return 1


def counters_of(worker_id: str) -> Counters:
    """Of a worker that knows each function, and that nobody listens to."""
    return Counters(worker_id, lambda _: True, EventPublisher(worker_id))


def take(
    attempts: EndedAttempts, run_ms: int, wait_ms: int, *, job_id: str = "a", failure: Failure | None = None
) -> None:
    entry: Entry = (1_000 + run_ms, job_id, 1, 500, 1_000, attempts.function, failure)
    attempts.add(run_ms, wait_ms, entry)


def attempt_at(function: str) -> Attempt:
    """An attempt at a job in queue "q" whose worker was lost once."""
    attempt = Attempt(LeasedJob("q", "w.1", 0, "a", b"", 1, 0, 1, ""), NOTHING)
    attempt.payload = attempt.payload._replace(function=function)
    return attempt


async def test_attempts_of_one_function_are_summed() -> None:
    counters, store = counters_of("w"), NotingStore()
    take(counters.of("q", "f", State.COMPLETE), 10, 1)
    take(counters.of("q", "f", State.COMPLETE), 30, 2)
    take(counters.of("q", "f", State.FAILED), 5, 0)
    take(counters.of("q", "g", State.ABORTED), 0, 7)

    await counters.flush(store)

    ((_, sums, maxima),) = store.recorded
    assert sums == {
        "q|f|complete": 2,
        "q|f|run_ms_total": 45,
        "q|f|wait_ms_total": 3,
        **{f"q|f|run_le_{bucket_of(10)}": 1, f"q|f|run_le_{bucket_of(30)}": 1, f"q|f|run_le_{bucket_of(5)}": 1},
        **{"q|f|wait_le_0": 2, f"q|f|wait_le_{bucket_of(2)}": 1},
        "q|f|failed": 1,
        "q|g|aborted": 1,
        "q|g|run_ms_total": 0,
        "q|g|wait_ms_total": 7,
        **{"q|g|run_le_0": 1, f"q|g|wait_le_{bucket_of(7)}": 1},
    }
    assert maxima == {"q|f|run_ms_max": 30, "q|g|run_ms_max": 0}


@pytest.mark.parametrize(
    ("state", "counter", "is_listed"),
    [
        (State.COMPLETE, "complete", True),
        (State.FAILED, "failed", True),
        (State.DEAD, "failed", True),
        (State.RETRIED, "retried", True),
        (State.RELEASED, "retried", False),
        (State.SNOOZED, "retried", False),
        (State.ABORTED, "aborted", True),
        (State.EXPIRED, "expired", True),
    ],
)
async def test_each_state_has_its_counter_and_its_list(state: State, counter: str, is_listed: bool) -> None:
    counters, store = counters_of("w"), NotingStore()
    take(counters.of("q", "f", state), 0, 0)
    await counters.flush(store)

    assert store.recorded[0][1][f"q|f|{counter}"] == 1
    assert list(store.listed) == ([f"{counter}|f"] if is_listed else [])


async def test_what_is_listed_of_a_failure_is_what_errors_are_grouped_by() -> None:
    counters, store = counters_of("w1"), NotingStore()
    failure = Failure("ValueError", "no", "jobs/mail.py:3 in send")
    take(counters.of("q", "f", State.FAILED), 7, 0, job_id="x", failure=failure)
    await counters.flush(store)

    ((ended_ms, data),) = store.listed["failed|f"]
    job = decode_recent_job("q", "failed", ended_ms, data)
    assert (job.job_id, job.queue, job.function, job.state, job.attempt) == ("x", "q", "f", "failed", 1)
    assert (job.worker_id, job.failure, job.run_s) == ("w1", failure, 0.007)


async def test_the_newest_are_listed() -> None:
    counters, store = counters_of("w"), NotingStore()
    for number in range(5_000):
        take(counters.of("q", "f", State.COMPLETE), 0, 0, job_id=f"c{number}")
        take(counters.of("q", "f", State.FAILED), 0, 0, job_id=f"f{number}")
    await counters.flush(store)

    failed = [decode_recent_job("q", "failed", *entry).job_id for entry in store.listed["failed|f"]]
    assert failed == [f"f{number}" for number in range(5_000 - ENDED_STATES["failed"], 5_000)]
    assert [decode_recent_job("q", "complete", *entry).job_id for entry in store.listed["complete|f"]][-1] == "c4999"
    assert len(store.listed["complete|f"]) == 100
    assert store.recorded[0][1]["q|f|complete"] == 5_000


async def test_what_was_written_is_not_written_again() -> None:
    counters, store = counters_of("w"), NotingStore()
    take(counters.of("q", "f", State.COMPLETE), 1, 1)
    counters.recovered(attempt_at("f"))
    await counters.flush(store)
    await counters.flush(store)

    assert len(store.recorded) == 1
    assert store.recorded[0][1]["q|f|recovered"] == 1
    assert len(store.listed["complete|f"]) == 1


async def test_what_was_taken_in_is_kept_while_redis_is_away() -> None:
    counters, store = counters_of("w"), NotingStore()
    store.is_away = True
    for run_ms in (9, 4, 2):
        take(counters.of("q", "f", State.COMPLETE), run_ms, 1, job_id=f"j{run_ms}")
        with pytest.raises(ConnectionError):
            await counters.flush(store)
    store.is_away = False
    await counters.flush(store)

    assert sum(sums["q|f|complete"] for _, sums, _ in store.recorded) == 3
    assert sum(sums["q|f|run_ms_total"] for _, sums, _ in store.recorded) == 15
    assert max(maxima["q|f|run_ms_max"] for *_, maxima in store.recorded) == 9
    assert len({number for number, *_ in store.recorded}) == len(store.recorded)
    listed = {decode_recent_job("q", "complete", *entry).job_id for entry in store.listed["complete|f"]}
    assert listed == {"j9", "j4", "j2"}
