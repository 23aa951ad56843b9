"""What a worker's slots know of the jobs that ran in them (`worker/leasing/slots.py`)."""

from __future__ import annotations

from typing import Any, cast

from arqestra.store.records import LeasedJob
from arqestra.worker.leasing.slots import Slots
from arqestra.worker.run.attempt import Attempt
from tests.support.updates import RawUpdate


def _run(slots: Slots, started_ms: int, ended_ms: int) -> None:
    """A job has run, and Redis has taken its outcome."""
    attempt = Attempt(LeasedJob("q", "w1.1", 0, "a", b"", 1, 0, 0, ""), cast(Any, None))
    attempt.started_ms, attempt.ended_ms = started_ms, ended_ms
    slots.leases["a"] = attempt
    slots.resolve(RawUpdate("a", "q", "w1.1", "end").update(), written=True)


def test_jobs_count_as_short_when_several_in_a_row_were() -> None:
    slots = Slots(suspect_from=2)
    assert slots.mean_run_ms() == 1000.0

    for _ in range(100):
        _run(slots, 5_000, 5_001)
    assert 1.0 <= slots.mean_run_ms() < 1.1


def test_a_long_job_counts_at_once() -> None:
    slots = Slots(suspect_from=2)
    _run(slots, 5_000, 65_000)

    assert slots.mean_run_ms() == 60_000.0


def test_a_job_that_was_not_called_or_runs_on_says_nothing_of_how_long_jobs_run() -> None:
    slots = Slots(suspect_from=2)
    _run(slots, 0, 0)
    _run(slots, 5_000, 0)  # it does not end after its time limit

    assert slots.mean_run_ms() == 1000.0
