"""What stands in the queues, and the messages of assertions."""

from __future__ import annotations

from datetime import date
from typing import Any
from unittest.mock import ANY

import pytest

from arqestra import Pool, SettingsError, create_pool
from arqestra.testing import assert_enqueued, enqueued, refute_enqueued
from tests.testing import jobs


@pytest.fixture
async def filled(arqestra_pool: Pool) -> Pool:
    await arqestra_pool.enqueue(jobs.add, 1, b=2)
    await arqestra_pool.enqueue(jobs.add.options(priority=9, headers={"tenant": "a"}), 3)
    await arqestra_pool.enqueue(jobs.send.options(defer_by=600), "you@example.com")
    return arqestra_pool


async def test_all_that_stands_there(filled: Pool) -> None:
    found = await enqueued(filled)
    assert sorted((job.function, job.args, job.kwargs, job.queue, job.state) for job in found) == [
        ("add", (1,), {"b": 2}, "arq:queue", "queued"),
        ("add", (3,), {}, "arq:queue", "queued"),
        ("send", ("you@example.com",), {}, "mail", "deferred"),
    ]
    urgent = next(job for job in found if job.args == (3,))
    assert (urgent.priority, urgent.headers) == (9, {"tenant": "a"})
    assert [job.function for job in await enqueued(filled, jobs.send)] == ["send"]
    assert len(await enqueued(filled, queue="arq:queue")) == 2
    assert 590 < found[-1].due_in_s() <= 600


async def test_what_is_there(filled: Pool) -> None:
    assert len(await assert_enqueued(filled, jobs.add)) == 2
    await assert_enqueued(filled, "add", args=[1], kwargs={"b": 2}, queue="arq:queue", due_within=0.1, count=1)
    await assert_enqueued(filled, jobs.add, args=(3,), kwargs={}, count=1)
    await assert_enqueued(filled, jobs.send, due_within="10 minutes")
    await refute_enqueued(filled, jobs.flaky)
    await refute_enqueued(filled, jobs.send, due_within="9 minutes")
    await refute_enqueued(filled, jobs.add, args=[4])
    await assert_enqueued(filled, jobs.flaky, count=0)


async def test_a_failure_shows_the_nearest_first_and_what_is_otherwise(filled: Pool) -> None:
    with pytest.raises(AssertionError) as failed:
        await assert_enqueued(filled, jobs.add, args=[1], kwargs={"b": 3, "c": 1}, queue="mail")
    assert str(failed.value).splitlines() == [
        "expected one at least of add(1, b=3, c=1) in mail, found 0",
        "in the queues:",
        "  - add(1, b=2) in arq:queue, queued   <- b=2; no c=; queue arq:queue",
        "  - add(3) in arq:queue, queued   <- args[0] 3; no b=; no c=; queue arq:queue",
        "  - send('you@example.com') in mail, due in 0:10:00",
    ]


async def test_other_numbers(filled: Pool) -> None:
    with pytest.raises(AssertionError, match=r"expected 3 of add\(\.\.\.\), found 2\nin the queues:\n    add\("):
        await assert_enqueued(filled, jobs.add, count=3)
    with pytest.raises(AssertionError, match=r"expected no add\(3\), found 1"):
        await refute_enqueued(filled, jobs.add, args=[3])


async def test_a_failure_shows_no_secrets(arqestra_pool: Pool) -> None:
    await arqestra_pool.enqueue(jobs.log_in, "ada@example.com", "s3cret", token="t0ken")
    with pytest.raises(AssertionError) as failed:
        await assert_enqueued(
            arqestra_pool, jobs.log_in, args=["bob@example.com", "0ther"], kwargs={"token": "another"}
        )
    assert str(failed.value).splitlines() == [
        "expected one at least of log_in('bob@example.com', '[redacted]', token='[redacted]'), found 0",
        "in the queues:",
        "  - log_in('ada@example.com', '[redacted]', token='[redacted]') in arq:queue, queued   "
        "<- args[0] 'ada@example.com'; args[1] '[redacted]'; token='[redacted]'",
    ]
    assert "t0ken" not in repr(await enqueued(arqestra_pool))


@pytest.mark.parametrize("serializer", ["pickle", "json", "msgpack"])
async def test_arguments_are_compared_as_they_are_stored(arqestra_redis: str, serializer: str) -> None:
    point, day, names = jobs.Point(1, 2), date(2026, 12, 1), ("ada", "bob")
    async with await create_pool(arqestra_redis, serializer=serializer) as pool:
        await pool.enqueue_job("f", point, day, names=names)
        await assert_enqueued(pool, "f", args=[point, day], kwargs={"names": names})
        await assert_enqueued(pool, "f", args=[ANY, day], kwargs={"names": ANY})
        await refute_enqueued(pool, "f", args=[jobs.Point(1, 3), day])
        await refute_enqueued(pool, "f", kwargs={"names": ("ada",)})


async def test_empty_queues(arqestra_pool: Pool) -> None:
    with pytest.raises(AssertionError, match="the queues are empty"):
        await assert_enqueued(arqestra_pool, jobs.add)


async def test_many_jobs_are_cut(arqestra_pool: Pool) -> None:
    await arqestra_pool.enqueue_many([jobs.add.bind(number) for number in range(1200)])
    assert len(await enqueued(arqestra_pool)) == 1200
    with pytest.raises(AssertionError, match="and 1180 more"):
        await assert_enqueued(arqestra_pool, jobs.flaky)


async def test_a_length_that_is_none(arqestra_pool: Pool) -> None:
    with pytest.raises(SettingsError, match="due_within: expected 0 or more seconds"):
        await assert_enqueued(arqestra_pool, jobs.add, due_within="soon")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"args": "ab"}, "args: expected a list or a tuple, got 'ab'"),
        ({"args": 5}, "args: expected a list or a tuple, got 5"),
        ({"kwargs": ["b"]}, r"kwargs: expected a dict, got \['b'\]"),
        ({"count": "2"}, "count: expected an int of at least 0, got '2'"),
        ({"count": -1}, "count: expected an int of at least 0, got -1"),
        ({"function": None}, "expected a job function or its name, got None"),
        ({"pool": "redis://x:y@nowhere"}, r"expected a pool \(`await create_pool\(...\)`\), got str \[redacted\]"),
    ],
    ids=str,
)
async def test_what_cannot_be_looked_for(arqestra_pool: Pool, given: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=f"^assert_enqueued: {message}$"):
        await assert_enqueued(**{"pool": arqestra_pool, "function": jobs.add, **given})
