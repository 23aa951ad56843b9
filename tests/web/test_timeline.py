"""The picture of a job's life."""

from __future__ import annotations

from arqestra.web.payload_view import PayloadView
from arqestra.web.timeline import FailedAttempt, Life, timeline


def kinds(*args: object) -> list[tuple[str, int]]:
    """Kind and length (ms) of each piece."""
    return [(span.kind, span.end_ms - span.start_ms) for span in timeline(*args)]  # type: ignore[arg-type]


def test_a_job_that_was_retried_and_completed() -> None:
    payload_view = PayloadView("msgpack", "", enqueued_ms=1_000, success=True, started_ms=1_500, ended_ms=1_800)
    failed = [FailedAttempt(1, 1_100, 1_200)]
    found = kinds(Life("complete"), payload_view, failed, 9_999)
    assert found == [("queued", 100), ("failed", 100), ("queued", 300), ("complete", 300)]


def test_the_last_failure_is_not_told_twice() -> None:
    payload_view = PayloadView("msgpack", "", enqueued_ms=1_000, success=False, started_ms=1_100, ended_ms=1_201)
    assert kinds(Life("dead"), payload_view, [FailedAttempt(1, 1_100, 1_200)], 9_999) == [
        ("queued", 100),
        ("failed", 100),
    ]


def test_jobs_that_have_not_ended() -> None:
    payload_view = PayloadView("msgpack", "", enqueued_ms=1_000)
    assert kinds(Life("queued"), payload_view, [], 3_000) == [("queued", 2_000)]
    assert kinds(Life("deferred", 7_000), payload_view, [], 3_000) == [("deferred", 2_000), ("deferred", 4_000)]
    assert kinds(Life("running", None, 2_500), payload_view, [], 3_000) == [("queued", 1_500), ("running", 500)]
    assert kinds(Life("running"), payload_view, [], 3_000) == [("running", 2_000)]
    assert kinds(Life("unknown"), PayloadView("pickle", ""), [], 3_000) == []


def test_the_pieces_fill_the_line() -> None:
    payload_view = PayloadView("msgpack", "", enqueued_ms=0, success=True, started_ms=10, ended_ms=10)
    spans = timeline(Life("complete"), payload_view, [], 99)
    assert spans[0].x == 0
    assert abs(spans[-1].x + spans[-1].width - 1_000) < 1
    assert all(span.width >= 4 for span in spans), "what took no time is still seen"
