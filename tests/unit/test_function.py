"""`@job`: options, calls, bound calls, and what is refused in the producer."""

from __future__ import annotations

import inspect
from datetime import UTC, datetime, timedelta
from functools import wraps
from typing import Any

import arq.worker
import pytest

from arqestra import ArgumentsError, JobFunction, SettingsError, cron, func, job
from arqestra.worker.registry import registered


@job
async def greet(ctx: Any, name: str, *, loud: bool = False) -> str:
    """Say hello."""
    return f"hello {name}".upper() if loud else f"hello {name}"


def test_a_job_function_is_arqs_function_with_arqs_name() -> None:
    assert isinstance(greet, arq.worker.Function)
    assert greet.name == "greet"
    assert arq.worker.func(greet) is greet  # stock arq takes it as it is
    assert (greet.timeout_s, greet.keep_result_s, greet.keep_result_forever, greet.max_tries) == (None,) * 4


async def test_calling_it_calls_the_coroutine() -> None:
    assert await greet(None, "Kim", loud=True) == "HELLO KIM"


def test_it_looks_like_the_function_it_was_made_of() -> None:
    assert greet.__doc__ == "Say hello."
    assert vars(greet)["__name__"] == "greet"
    assert greet.__module__ == __name__
    assert greet.result_type is str


def test_options_are_kept_in_seconds() -> None:
    @job(name="n", queue="q", timeout=timedelta(minutes=2), keep_result=0, keep_result_forever=True, max_tries=7)
    async def other(ctx: Any) -> None:
        """Nothing."""

    assert (other.name, other.queue, other.timeout_s, other.keep_result_s) == ("n", "q", 120, 0)
    assert (other.keep_result_forever, other.max_tries) == (True, 7)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"timeout": 0}, r"timeout: expected more than 0 seconds, .*, got 0"),
        ({"timeout": -1}, "timeout: expected more than 0 seconds"),
        ({"timeout": "5"}, r"timeout: expected .* seconds, .* \(int, float or timedelta\), got '5'"),
        ({"timeout": True}, r"timeout: expected .* seconds, .* \(int, float or timedelta\), got True"),
        ({"keep_result": timedelta(seconds=-1)}, "keep_result: expected 0 or more seconds"),
        ({"max_tries": 0}, r"max_tries: expected an int of at least 1 \(below 2\*\*31\), got 0"),
        ({"max_tries": 1.5}, "max_tries: expected an int"),
        ({"max_tries": True}, "max_tries: expected an int"),
    ],
)
def test_impossible_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        job(**options)(greet.coroutine)


def test_a_plain_function_is_a_job_too_and_calling_it_gives_its_value() -> None:
    @job
    def double(ctx: Any, number: int) -> int:
        return number * 2

    assert double(None, 4) == 8
    assert double.job_options.executor == "thread"
    assert double.result_type is int


def test_what_is_no_function_is_refused() -> None:
    with pytest.raises(SettingsError, match="expected a function"):
        job(3)  # type: ignore[call-overload]


def test_an_unknown_option_is_refused() -> None:
    with pytest.raises(TypeError, match="retries"):
        job(retries=3)  # type: ignore[call-overload]


# -- bound calls --------------------------------------------------------------------------------------------------


def test_a_bound_call_carries_arguments_and_options() -> None:
    moment = datetime(2030, 1, 1, tzinfo=UTC)
    call = greet.options(queue="q", defer_until=moment, expires=9, job_id="id1").bind("Kim", loud=True)

    assert (call.name, tuple(call.args), dict(call.kwargs)) == ("greet", ("Kim",), {"loud": True})
    assert (call.queue, call.defer_until, call.defer_by, call.expires, call.job_id) == ("q", moment, None, 9, "id1")
    assert call.result_type is str


def test_the_functions_own_queue_is_the_default() -> None:
    @job(queue="own")
    async def other(ctx: Any) -> None:
        """Nothing."""

    assert other.bind().queue == "own"
    assert other.options(queue="given").bind().queue == "given"


def test_options_leave_the_function_as_it_is() -> None:
    greet.options(queue="q", job_id="id1")

    assert greet.queue is None
    assert greet.bind("Kim").job_id is None


def test_two_ways_to_defer_are_one_too_many() -> None:
    with pytest.raises(SettingsError, match="expected defer_by or defer_until or neither, got both"):
        greet.options(defer_by=1, defer_until=datetime.now(UTC))


@pytest.mark.parametrize(
    ("args", "kwargs", "what"),
    [
        ((), {}, "missing a required argument: 'name'"),
        (("Kim", "Lee"), {}, "too many positional arguments"),
        (("Kim",), {"lout": True}, "got an unexpected keyword argument 'lout'"),
        (("Kim",), {"name": "Lee"}, "multiple values for argument 'name'"),
    ],
)
def test_arguments_that_do_not_fit_are_refused_in_the_producer(
    args: tuple[Any, ...], kwargs: dict[str, Any], what: str
) -> None:
    with pytest.raises(ArgumentsError) as caught:
        greet.bind(*args, **kwargs)

    assert what in str(caught.value)
    assert "greet(ctx" in str(caught.value)
    assert isinstance(caught.value, TypeError)


# -- arq's own ways -----------------------------------------------------------------------------------------------


def test_an_import_string_works() -> None:
    made = func("tests.unit.test_function.raw")

    assert made.name == "tests.unit.test_function.raw"
    assert inspect.iscoroutinefunction(made.coroutine)
    assert job("tests.unit.test_function.raw", name="short").name == "short"  # type: ignore[call-overload]


def test_an_import_string_of_a_job_function_is_that_function_with_its_name_and_options() -> None:
    where = "tests.unit.test_function.greet"
    made = cron(where, minute=0)

    assert func(where) is greet
    assert registered([where], []) == {"greet": greet}
    assert (made.name, made.timeout_s, made.job_options) == ("cron:greet", greet.timeout_s, greet.job_options)  # type: ignore[attr-defined]


def test_arqs_func_works_on_raw_coroutines_and_job_functions() -> None:
    made = func(raw, name="renamed", timeout=3)

    assert (made.name, made.timeout_s) == ("renamed", 3)
    assert not isinstance(made, JobFunction)
    assert func(greet) is greet


async def raw(ctx: Any) -> None:
    """As an arq user writes it."""


async def test_a_coroutine_function_behind_a_plain_decorator_runs_under_stock_arq_too() -> None:
    async def double(ctx: Any, number: int) -> int:
        return number * 2

    @wraps(double)
    def decorated(*args: Any, **kwargs: Any) -> Any:
        return double(*args, **kwargs)

    made: Any = job(decorated)

    assert await made.coroutine({}, 3) == 6
