"""Options of a job function: what each refuses, and what the policies decide."""

from __future__ import annotations

import asyncio
import random
from datetime import timedelta
from typing import Any

import pytest

from arqestra import Backoff, ConcurrencyLimit, Debounce, RateLimit, SettingsError, Snooze, Unique, cron, job
from arqestra.definitions.durations import seconds_of
from arqestra.definitions.limits import encode_limit_spec, key_text, limit_changes_of, limit_spec_with
from arqestra.errors import ArgumentsError
from arqestra.worker.run.outcome import Outcome, State, retried_by


async def work(ctx: Any, tenant: str = "") -> None:
    """Async."""


def plain(ctx: Any) -> None:
    """Not async."""


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"soft_timeout": 0}, "soft_timeout: expected more than 0 seconds"),
        ({"soft_timeout": "soon"}, "soft_timeout: expected more than 0 seconds"),
        ({"soft_timeout": 5, "timeout": 5}, "soft_timeout: expected less than timeout"),
        ({"retry": 3}, r"retry: expected Backoff\(...\), got 3"),
        ({"rate_limit": "10"}, "expected a count and a period, such as '10/m'"),
        ({"rate_limit": "0/m"}, "expected a count and a period"),
        ({"rate_limit": 10}, "expected a count and a period"),
        ({"concurrency": 0}, "concurrency: expected an int of at least 1 .*, got 0"),
        ({"concurrency": True}, "concurrency: expected an int of at least 1"),
        ({"unique": "yes"}, r"unique: expected Unique\(...\) or True"),
        ({"unique": True, "debounce": 5}, "expected unique or debounce or neither, got both"),
        ({"debounce": -1}, "debounce: expected more than 0 seconds"),
        ({"priority": 10}, r"priority: expected an int from 0 \(default\) to 9"),
        ({"priority": 1.5}, "priority: expected an int from 0"),
        ({"expires": 0}, "expires: expected more than 0 seconds"),
        ({"acks": "never"}, "acks: expected one of 'late', 'early', got 'never'"),
        ({"executor": "thread"}, "executor: expected none for a coroutine function"),
        ({"on_exhausted": 1}, "on_exhausted: expected an async function"),
        ({"on_expired": "x"}, "on_expired: expected an async function"),
    ],
)
def test_a_wrong_option_is_refused_where_it_is_defined(options: dict[str, Any], words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        job(**options)(work)


def test_an_executor_of_a_plain_function() -> None:
    assert job(executor="process")(plain).job_options.executor == "process"
    with pytest.raises(SettingsError, match="executor: expected one of 'thread', 'process', got 'loop'"):
        job(executor="loop")(plain)  # type: ignore[call-overload]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Backoff(on="ConnectionError"), "Backoff: on: expected exception classes"),  # type: ignore[arg-type]
        (lambda: Backoff(unless=(int,)), "Backoff: unless: expected exception classes"),  # type: ignore[arg-type]
        (lambda: Backoff(tries=0), "Backoff: tries: expected an int of at least 1"),
        (lambda: Backoff(factor=0.5), "Backoff: factor: expected a number from 1 to 1000"),
        (lambda: Backoff(jitter="some"), "Backoff: jitter: expected one of full, equal, none"),  # type: ignore[arg-type]
        (lambda: Backoff(base=-1), "Backoff: base: expected 0 or more seconds"),
        (lambda: RateLimit("1/s", burst=0), "burst: expected an int of at least 1"),
        (lambda: RateLimit("1/s", key="tenant"), "key: expected a function"),  # type: ignore[arg-type]
        (lambda: ConcurrencyLimit(1, name=""), "name: expected a str"),
        (lambda: Unique(until="later"), "Unique: until"),
        (lambda: Unique(on_conflict="ignore"), "on_conflict: expected one of reject, return, replace"),  # type: ignore[arg-type]
        (lambda: Debounce(5, max_wait=1), "max_wait: expected at least quiet"),
        (lambda: Snooze("tomorrow"), "Snooze: defer: expected 0 or more seconds"),
    ],
)
def test_a_wrong_value_is_refused_where_it_is_made(make: Any, words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        make()


@pytest.mark.parametrize(
    ("value", "seconds"),
    [(3, 3.0), (0.5, 0.5), (timedelta(minutes=2), 120.0), ("90s", 90.0), ("1h30m", 5400.0), ("250ms", 0.25)],
)
def test_durations(value: Any, seconds: float) -> None:
    assert seconds_of(value, "it") == seconds


@pytest.mark.parametrize("value", ["", "3", "1x", "1h 30m", None, True, float("inf"), float("nan"), -1, b"3s"])
def test_what_is_no_duration(value: Any) -> None:
    with pytest.raises(SettingsError, match="it: expected"):
        seconds_of(value, "it", zero=True)


def test_delays_grow_to_their_maximum() -> None:
    policy = Backoff(base=10, factor=3, max=100, jitter="none")

    assert [policy.delay_s(attempt) for attempt in (1, 2, 3, 4, 5000)] == [10, 30, 90, 100, 100]


@pytest.mark.parametrize(("jitter", "least"), [("full", 0.0), ("equal", 5.0)])
def test_jitter_stays_within_its_range(jitter: Any, least: float) -> None:
    source = random.Random(1)
    delays = [Backoff(base=10, jitter=jitter).delay_s(1, source) for _ in range(500)]

    assert least <= min(delays) < least + 1
    assert 9 < max(delays) <= 10


def test_which_errors_a_policy_is_about() -> None:
    policy = Backoff(on=(OSError,), unless=(FileNotFoundError,))

    assert policy.retries(ConnectionResetError())
    assert policy.retries(TimeoutError())
    assert not policy.retries(FileNotFoundError())
    assert not policy.retries(ValueError())
    assert not Backoff(on=BaseException).retries(asyncio.CancelledError())
    assert not Backoff(on=BaseException).retries(KeyboardInterrupt())


@pytest.mark.parametrize(
    ("state", "job_try", "expected", "exhausted"),
    [
        (State.FAILED, 1, State.RETRIED, False),
        (State.FAILED, 3, State.FAILED, True),
        (State.ABORTED, 1, State.ABORTED, False),
        (State.RETRIED, 9, State.RETRIED, False),
    ],
)
def test_what_a_policy_makes_of_an_outcome(state: State, job_try: int, expected: State, exhausted: bool) -> None:
    outcome = retried_by(Backoff(base=1, jitter="none"), Outcome(state, ValueError()), job_try, 3)

    assert (outcome.state, outcome.exhausted) == (expected, exhausted)


def test_a_function_of_the_arguments_is_the_key() -> None:
    assert key_text(lambda tenant, **_: tenant, ("a",), {"b": 1}, "it") == "a"
    assert key_text(None, ("a",), {}, "it") == ""
    long = key_text(lambda text: text, ("x" * 500,), {}, "it")
    assert len(long) == 80
    assert long != key_text(lambda text: text, ("x" * 501,), {}, "it")
    with pytest.raises(ArgumentsError, match="it: its key function failed: TypeError"):
        key_text(lambda tenant: tenant, (), {}, "it")


def test_without_a_key_calls_with_the_same_arguments_are_the_same() -> None:
    @job(unique=True)
    async def greet(ctx: Any, name: str, title: str = "Dr") -> None: ...

    unique = greet.job_options.unique
    assert unique is not None
    same = [(("Ada",), {}), (("Ada", "Dr"), {}), ((), {"title": "Dr", "name": "Ada"}), (("Ada",), {"title": "Dr"})]
    assert len({unique.lock("greet", args, kwargs).name for args, kwargs in same}) == 1
    assert unique.lock("greet", ("Ada", "Ms"), {}) != unique.lock("greet", ("Ada",), {})


def test_generators_are_refused() -> None:
    def counting(ctx: Any) -> Any:
        yield 1

    async def awaiting(ctx: Any) -> Any:
        yield 1

    for function in (counting, awaiting):
        with pytest.raises(SettingsError, match="got a generator"):
            job(function)


def test_a_cron_job_of_a_job_function_keeps_its_options() -> None:
    @job(rate_limit="10/m")
    def tidy(ctx: Any) -> None: ...

    made = cron(tidy, minute=0)
    assert made.job_options.rate_limit == tidy.job_options.rate_limit  # type: ignore[attr-defined]
    assert made.sync_function == tidy.sync_function == tidy.plain  # type: ignore[attr-defined]


def test_a_spec_with_other_limits_keeps_its_locks_and_counts_the_changes() -> None:
    lock = ("u", "f:k", "finished")
    old = encode_limit_spec([("c", "c:f:", 2), lock])

    once = limit_spec_with(old, [("c", "c:f:", 3)])
    twice = limit_spec_with(once, [("c", "c:f:", 4)])

    assert once == encode_limit_spec([("c", "c:f:", 3), ("v", 1), lock])
    assert (limit_changes_of(old), limit_changes_of(once), limit_changes_of(twice)) == (0, 1, 2)
    assert limit_spec_with(twice, [("c", "c:f:", 4)]) == twice
    assert limit_spec_with(twice, []) == encode_limit_spec([lock])
    assert limit_spec_with(b"", []) == b""
