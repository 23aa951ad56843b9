"""Ids: unique, ordered by the time at which they were made, also across threads."""

from __future__ import annotations

import re
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from arqestra.protocol.clock import new_job_id, new_worker_id


def test_a_job_id_looks_like_arqs() -> None:
    assert re.fullmatch(r"[0-9a-f]{32}", new_job_id())


def test_ids_made_one_after_the_other_are_in_order() -> None:
    made = [new_job_id() for _ in range(20_000)]

    assert made == sorted(made)
    assert len(set(made)) == len(made)


def test_ids_of_one_millisecond_are_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: 1_800_000_000.123)
    made = [new_job_id() for _ in range(5_000)]
    monkeypatch.undo()

    assert {job_id[:12] for job_id in made} == {f"{1_800_000_000_123:012x}"}
    assert made == sorted(made)


def test_ids_of_several_threads_are_unique_and_in_order_within_each() -> None:
    with ThreadPoolExecutor(8) as threads:
        made = list(threads.map(lambda _: [new_job_id() for _ in range(2_000)], range(8)))

    assert all(ids == sorted(ids) for ids in made)
    assert len({job_id for ids in made for job_id in ids}) == 16_000


def test_a_worker_id_has_no_separator_of_a_token() -> None:
    ids = {new_worker_id() for _ in range(1_000)}

    assert len(ids) == 1_000
    assert all(re.fullmatch(r"[0-9a-f]{16}", worker_id) for worker_id in ids)
