"""The arguments of scripts: what several jobs have in common is said once, and their order is kept."""

from __future__ import annotations

from arqestra.store.codec import flat_jobs, flat_updates
from arqestra.store.records import NewJob
from tests.support.updates import RawUpdate


def test_jobs_with_the_same_terms_are_one_group() -> None:
    assert flat_jobs([NewJob("q", "a", b"1"), NewJob("q", "b", b"2")]) == ["q", "", "", 0, b"", 2, "a", b"1", "b", b"2"]


def test_a_job_with_other_terms_begins_a_group_and_the_order_stays() -> None:
    jobs = [NewJob("q", "a", b"1"), NewJob("q", "b", b"2", "+5", "nonce", 1, b"x"), NewJob("q", "c", b"3")]

    first, third = ["q", "", "", 0, b"", 1, "a", b"1"], ["q", "", "", 0, b"", 1, "c", b"3"]
    assert flat_jobs(jobs) == [*first, "q", "+5", "nonce", 1, b"x", 1, "b", b"2", *third]
    assert flat_jobs([]) == []


def test_outcomes_with_the_same_terms_are_one_group() -> None:
    updates = [
        RawUpdate("a", "q", "w.1", "end", 0, 60, b"1"),
        RawUpdate("b", "q", "w.1", "end", 0, 60, b"2"),
        RawUpdate("c", "q", "w.1", "end", 0, 60, b"3", b"", True),
        RawUpdate("d", "q", "w.2", "retry", 9, -1, b"", b"error"),
        RawUpdate("e", "q", "w.2", "retry", 9, -1, b"", b"other error"),
        RawUpdate("f", "q", "w.2", "dead", 0, 60, b"4", b"error"),
        RawUpdate("g", "q", "w.2", "dead", 0, 60, b"5", b"+"),
    ]

    assert flat_updates([each.update() for each in updates]) == [
        *("q", "w.1", "end", 0, 60, b"", 2, "a", b"1", "b", b"2"),
        *("q", "w.1", "end!", 0, 60, b"", 1, "c", b"3"),
        *("q", "w.2", "retry", 9, -1, b"=", 2, "d", b"", b"error", "e", b"", b"other error"),
        *("q", "w.2", "dead", 0, 60, b"=", 1, "f", b"4", b"error"),
        *("q", "w.2", "dead", 0, 60, b"+", 1, "g", b"5"),
    ]
    assert flat_updates([]) == []
