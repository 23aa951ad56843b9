"""An impossible value of an option is refused where it is written, whichever way the option comes in."""

from __future__ import annotations

import numbers
import sys
import time
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

import arq
import arq.worker
import pytest

from arqestra import (
    Debounce,
    Middleware,
    Pool,
    RateLimit,
    Retry,
    SettingsError,
    Snooze,
    Unique,
    Worker,
    create_pool,
    cron,
    func,
    job,
    workflow,
)
from arqestra.worker.run.outcome import State, classify
from arqestra.worker.settings import WorkerOptions

NAN, INF, HUGE = float("nan"), float("inf"), 10**400
MOMENT = datetime(2030, 1, 1, tzinfo=UTC)


async def work(ctx: Any) -> None:
    """A job."""


task = job(work)

NO_SECONDS = ["5", "5s", True, False, NAN, INF, -INF, HUGE, MOMENT, date(2030, 1, 1), [5], b"5", -timedelta(1)]
TOO_LONG = [timedelta.max, 10**11, 1e18]
NO_COUNT = [0, -1, 1.5, "3", True, NAN, 2**31, HUGE]
NO_TEXT = [5, b"q", "", "\ud800", ["q"]]
NO_FLAG = [1, 0, "yes"]
NO_HEADERS = [5, "a", [("a", "b")], {"a": 1}, {1: "a"}]
NO_PRIORITY = [-1, 10, 1.5, "3", True, NAN, HUGE]
NO_DUE_TIME = [5, "2030-01-01", date(2030, 1, 1), True, datetime.min, datetime.max, datetime(9999, 1, 1, tzinfo=UTC)]
WRONG = {
    "timeout": [*NO_SECONDS, *TOO_LONG, 0, -1, 0.0001],
    "keep_result": [*NO_SECONDS, -1],
    "keep_result_forever": NO_FLAG,
    "max_tries": NO_COUNT,
    "name": NO_TEXT,
    "queue": NO_TEXT,
    "job_id": NO_TEXT,
    "defer_by": [*NO_SECONDS, *TOO_LONG, -1],
    "defer_until": NO_DUE_TIME,
    "expires": [*NO_SECONDS, *TOO_LONG, 0, -1],
    "headers": NO_HEADERS,
    "priority": NO_PRIORITY,
    "unique": NO_FLAG,
    "run_at_startup": NO_FLAG,
}
ARQ_OPTIONS = ("name", "timeout", "keep_result", "keep_result_forever", "max_tries")
BY_FUNCTION = ("name", "queue", "keep_result", "keep_result_forever")
BOUND = ("queue", "job_id", "defer_by", "defer_until", "expires", "headers", "priority")
WAYS: dict[str, tuple[Callable[..., Any], tuple[str, ...]]] = {
    "@job": (lambda **options: job(**options)(work), (*BY_FUNCTION, "timeout", "max_tries", "priority")),
    "@workflow": (lambda **options: workflow(**options)(work), (*BY_FUNCTION, "priority")),
    "func": (lambda **options: func(work, **options), ARQ_OPTIONS),
    "cron": (lambda **options: cron(work, **options), (*ARQ_OPTIONS, "job_id", "unique", "run_at_startup")),
    "options": (task.options, BOUND),
    "set": (lambda **options: task.s().set(**options), BOUND),
}
CASES = [(way, name, value) for way, (_, names) in WAYS.items() for name in names for value in WRONG[name]]


@pytest.mark.parametrize(("way", "name", "value"), CASES, ids=lambda value: ascii(value)[:30])
def test_it_is_refused_where_it_is_defined(way: str, name: str, value: Any) -> None:
    with pytest.raises(SettingsError, match=rf"{way if name != 'priority' else ''}.*{name}: expected "):
        WAYS[way][0](**{name: value})


OF_ENQUEUE = {
    "_defer_by": [value for value in WRONG["defer_by"] if value not in (-1, -timedelta(1))],
    "_defer_until": WRONG["defer_until"],
    "_expires": [value for value in WRONG["expires"] if value != 0 or value is False],
    "_job_try": [-1, 1.5, "3", True, NAN, 2**31, HUGE],
    "_priority": NO_PRIORITY,
    "_job_id": [value for value in NO_TEXT if value],
    "_queue_name": [value for value in NO_TEXT if value],
    "_headers": NO_HEADERS,
}


@pytest.mark.parametrize(
    ("name", "value"),
    [(name, value) for name, values in OF_ENQUEUE.items() for value in values],
    ids=lambda value: ascii(value)[:30],
)
async def test_enqueue_job_refuses_it_too(name: str, value: Any) -> None:
    pool = Pool(host="127.0.0.1", port=1)  # nothing is sent
    with pytest.raises(TypeError, match="expected "):  # SettingsError, or ArgumentsError of ids, queues and headers
        await pool.enqueue_job("work", **{name: value})
    await pool.aclose()


@numbers.Integral.register
class OfNumpy:
    """As numpy's ints are: a number, and no int."""

    def __init__(self, value: int) -> None:
        self.value = value

    def __mul__(self, other: int) -> int:
        return self.value * other

    def __float__(self) -> float:
        return float(self.value)


@pytest.mark.parametrize("seconds", [OfNumpy(100), Decimal("100"), Fraction(200, 2)])
async def test_numbers_out_of_data_are_seconds_of_a_call(redis_url: str, seconds: Any) -> None:
    pool = await create_pool(redis_url)
    now_ms = time.time() * 1000
    await pool.enqueue_job("work", _job_id="a", _defer_by=seconds, _expires=seconds)
    await pool.enqueue(task.options(job_id="b", defer_by=seconds, expires=seconds))
    await pool.enqueue_flow(task.s().set(job_id="c", defer_by=seconds, expires=seconds))
    queued = {each.job_id: each.score for each in await pool.queued_jobs()}
    assert set(queued) == {"a", "b", "c"}
    # The clocks of this process and of Redis show other milliseconds.
    assert all(score is not None and abs(score - now_ms - 100_000) < 5_000 for score in queued.values())
    await pool.aclose()


async def test_arqs_meaning_of_nothing_and_of_the_past_stays(redis_url: str) -> None:
    pool = await create_pool(redis_url)
    past = datetime(2020, 1, 1, tzinfo=UTC)
    options: list[dict[str, Any]] = [
        *({"_expires": 0}, {"_defer_by": 0}, {"_defer_by": -5}, {"_defer_by": -timedelta(days=3)}),
        *({"_defer_until": past}, {"_job_try": 0}, {"_job_id": ""}),
    ]
    made = [await pool.enqueue_job("work", **each) for each in options]
    worker = Worker([func(work, name="work")], redis_settings=redis_url, burst=True, handle_signals=False)
    await worker.async_run()
    assert [await each.result(timeout=5) for each in made if each is not None] == [None] * len(options)
    await worker.close()
    await pool.aclose()


@pytest.mark.parametrize("keep_result", [-1, "1", NAN, INF, True])
async def test_a_flow_is_not_kept_for_what_is_no_time(keep_result: Any) -> None:
    pool = Pool(host="127.0.0.1", port=1)
    with pytest.raises(SettingsError, match="enqueue_flow: keep_result: expected "):
        await pool.enqueue_flow(task.s(), keep_result=keep_result)
    await pool.aclose()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("default_queue_name", value) for value in NO_TEXT),
        *(("expires_extra_ms", value) for value in (-1, 1.5, "5", True, HUGE)),
        *(("max_payload_bytes", value) for value in NO_COUNT),
        *(("middleware", value) for value in (Middleware(), "m", [1], [Middleware])),
    ],
    ids=lambda value: ascii(value)[:30],
)
async def test_a_pool_refuses_it(name: str, value: Any) -> None:
    with pytest.raises(SettingsError, match=rf"Pool: {name}: expected "):
        Pool(host="127.0.0.1", port=1, **{name: value})
    with pytest.raises(SettingsError, match=rf"create_pool: {name}: expected "):
        await create_pool("redis://127.0.0.1:1", **{name: value})


# -- workers ------------------------------------------------------------------------------------------------------

OF_TIME = ["job_timeout", "keep_result", "poll_delay", "health_check_interval", "job_completion_wait", "lease"]
OF_TIME += ["stuck_after", "keep_dead", "cancel_grace"]


@pytest.mark.parametrize("name", OF_TIME)
@pytest.mark.parametrize("value", NO_SECONDS, ids=lambda value: ascii(value)[:30])
def test_a_setting_of_time_is_a_time(name: str, value: Any) -> None:
    with pytest.raises(SettingsError, match=rf"{name}: expected .* seconds"):
        WorkerOptions(**{name: value})


@pytest.mark.parametrize("name", sorted(set(OF_TIME) - {"keep_result"}))
@pytest.mark.parametrize("value", TOO_LONG)
def test_no_setting_of_time_is_longer_than_a_century(name: str, value: Any) -> None:
    with pytest.raises(SettingsError, match=rf"{name}: expected .* seconds"):
        WorkerOptions(**{name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *((name, value) for name in ("max_tries", "max_jobs", "max_crashes", "threads") for value in NO_COUNT),
        *(("expires_extra_ms", value) for value in (HUGE, 10**13)),
        *(("lease", value) for value in (0.001, timedelta(microseconds=1))),
        *(("max_memory_per_child", value) for value in (NAN, INF, True)),
    ],
    ids=lambda value: ascii(value)[:30],
)
def test_a_setting_that_is_a_number_can_be_counted(name: str, value: Any) -> None:
    with pytest.raises(SettingsError, match=rf"{name}: expected "):
        WorkerOptions(**{name: value})


@pytest.mark.parametrize("options", [{"timeout": -1}, {"timeout": INF}, {"keep_result": -1}, {"max_tries": 0}], ids=str)
async def test_a_worker_checks_functions_that_arq_made(options: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match=r"functions: work: .*: expected "):
        Worker([arq.worker.func(work, **options)])
    with pytest.raises(SettingsError, match=r"cron_jobs: cron:work: .*: expected "):
        Worker([], cron_jobs=[arq.cron(work, **options)])


CRON_FIELDS: list[dict[str, Any]] = [
    *({"second": 61}, {"second": -1}, {"minute": 60}, {"hour": {24}}, {"day": 0}, {"day": 32}, {"month": 13}),
    *({"weekday": 7}, {"weekday": "caturday"}, {"microsecond": 1_000_000}, {"microsecond": -1}, {"microsecond": "1"}),
    *({"day": 31, "month": 2}, {"hour": "3"}, {"minute": set()}, {"second": True}, {"second": 1.5}),
]


@pytest.mark.parametrize("unique", [True, False])
@pytest.mark.parametrize("fields", CRON_FIELDS, ids=str)
async def test_a_cron_job_that_is_never_due_is_refused(fields: dict[str, Any], unique: bool) -> None:
    with pytest.raises(SettingsError, match=r"cron|fits some"):
        cron(work, unique=unique, **fields)
    with pytest.raises(SettingsError, match=r"cron|fits some"):
        Worker([], cron_jobs=[arq.cron(work, unique=unique, **fields)])


def test_any_iterable_of_numbers_is_a_field_of_a_cron_job_as_in_ours_so_in_arqs_arithmetic() -> None:
    made = cron(work, unique=False, minute=range(0, 60, 15), hour=frozenset([3]), second=iter([5]))

    made.calculate_next(MOMENT)

    assert made.next_run == datetime(2030, 1, 1, 3, 0, 5, 123_456, tzinfo=UTC)


# -- others that take times ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [INF, NAN, HUGE, timedelta.max, 10**11, True, "5", "9" * 400 + "d", -1, MOMENT])
@pytest.mark.parametrize("make", [Snooze, Debounce, lambda value: Unique(until=value)])
def test_a_duration_can_be_waited_for(make: Callable[[Any], Any], value: Any) -> None:
    with pytest.raises(SettingsError, match=r"expected .* seconds"):
        make(value)


@pytest.mark.parametrize("rate", ["1/" + "9" * 5000 + "d", "1/9999999999d", "1/0s", "1/00m", "9" * 30 + "/s", "١/s"])
def test_a_rate_has_a_period_that_can_be_waited_for(rate: str) -> None:
    with pytest.raises(SettingsError, match="rate limit: expected"):
        RateLimit(rate)


def test_a_retry_that_would_never_come_fails_the_job() -> None:
    outcome = classify(Retry(defer=timedelta.max), None, retry_jobs=True)

    assert outcome.state is State.FAILED
    assert isinstance(outcome.value, SettingsError)
    assert classify(Retry(defer=5), None, retry_jobs=True).delay_ms == 5000


def test_a_number_too_long_to_be_written_is_still_refused_with_a_sentence() -> None:
    with pytest.raises(SettingsError, match="options: defer_by: expected "):
        task.options(defer_by=10 ** (sys.int_info.default_max_str_digits + 1))
    with pytest.raises(SettingsError, match="cron: hour: expected numbers from 0 to 23, got <int of "):
        cron(work, hour=10 ** (sys.int_info.default_max_str_digits + 1))
