"""When a worker looks without having been woken."""

from __future__ import annotations

from itertools import pairwise

import pytest

from arqestra.worker.leasing.polling import MAX_DELAY_S, SAFETY_S, UNTOLD_S, Polling, Push

BLIND = Push(messages=True, can_watch=False, since_s=None)


def looks(polling: Polling, push: Push, first_s: float, last_s: float) -> list[float]:
    """The times of its looks, asked each half second."""
    times = []
    for step in range(int((last_s - first_s) * 2)):
        now_s = first_s + step / 2
        if polling.is_due(now_s, push):
            polling.polled(now_s)
            times.append(now_s)
    return times


def test_a_delay_that_was_set_is_kept_to() -> None:
    watched = Push(messages=True, can_watch=True, since_s=0.0)
    assert len(looks(Polling(0.5), watched, 0, 60)) == 120


def test_what_is_watched_is_looked_at_once_more_and_then_once_a_minute() -> None:
    polling = Polling(None)
    assert looks(polling, Push(messages=True, can_watch=True, since_s=None), 0, 2) == [0, 0.5, 1, 1.5]
    assert looks(polling, Push(messages=True, can_watch=True, since_s=1.6), 2, 2 + 2 * SAFETY_S + 1) == [
        2,
        2 + SAFETY_S,
        2 + 2 * SAFETY_S,
    ]
    assert looks(polling, Push(messages=True, can_watch=True, since_s=None), 200, 201) == [200, 200.5]


def test_without_watching_looks_get_rarer() -> None:
    times = looks(Polling(None), BLIND, 0, 120)
    assert times[:5] == [0, 1, 3, 7, 15]
    assert {after - before for before, after in pairwise(times[5:])} == {MAX_DELAY_S}


@pytest.mark.parametrize(("told", "within_s"), [(True, 5), (False, UNTOLD_S)])
def test_a_job_that_nobody_told_of_keeps_a_worker_looking(told: bool, within_s: float) -> None:
    polling = Polling(None)
    looks(polling, BLIND, 0, 100)
    polling.found(100, told=told)
    times = looks(polling, BLIND, 100.5, 100 + UNTOLD_S - 1)
    assert len(times) > 1000 if not told else len(times) < 60
    assert times[1] - times[0] <= 1
    assert len(looks(polling, BLIND, 100 + UNTOLD_S, 100 + UNTOLD_S + 60)) < 10


def test_while_messages_may_not_come_it_looks() -> None:
    for can_watch in (True, False):
        deaf = Push(messages=False, can_watch=can_watch, since_s=0.0 if can_watch else None)
        assert len(looks(Polling(None), deaf, 10, 20)) == 20
