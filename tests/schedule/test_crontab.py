"""`crontab(...)` means what it means in Celery, and arq's `cron(...)` is due when arq says that it is."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import arq
import pytest
from arq.cron import next_cron
from arq.utils import to_unix_ms
from hypothesis import given, settings
from hypothesis import strategies as st

from arqestra import SettingsError, cron, crontab
from arqestra.scheduling.crontab import cron_of_arq
from arqestra.scheduling.timing import Cron

NEW_YEAR = datetime(2026, 1, 1, tzinfo=UTC)


async def tidy(ctx: Any) -> None: ...


def first_ticks(timing: Cron, count: int, start: datetime = NEW_YEAR) -> list[datetime]:
    found: list[datetime] = []
    after_ms: int | None = to_unix_ms(start) - 1
    for _ in range(count):
        assert after_ms is not None
        after_ms = timing.next_after(after_ms, UTC)
        assert after_ms is not None
        found.append(datetime.fromtimestamp(after_ms / 1000, UTC))
    return found


# -- Celery -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "fits"),
    [
        ({}, lambda t: True),
        ({"minute": 15}, lambda t: t.minute == 15),
        ({"minute": "0,30", "hour": "8-17"}, lambda t: t.minute in (0, 30) and 8 <= t.hour <= 17),
        ({"minute": 0, "hour": "*/7"}, lambda t: t.minute == 0 and t.hour % 7 == 0),
        ({"minute": "*/25", "hour": 3}, lambda t: t.hour == 3 and t.minute in (0, 25, 50)),
        ({"minute": 0, "hour": "22-2"}, lambda t: t.minute == 0 and t.hour in (22, 23, 0, 1, 2)),
        ({"minute": 0, "hour": "20-4/3"}, lambda t: t.minute == 0 and t.hour in (20, 23, 2)),
        ({"minute": "1-10/4,59", "hour": 0}, lambda t: t.hour == 0 and t.minute in (1, 5, 9, 59)),
        ({"minute": {0, 20, 40}}, lambda t: t.minute in (0, 20, 40)),
        ({"minute": [7, 7], "hour": (1, 2)}, lambda t: t.minute == 7 and t.hour in (1, 2)),
        ({"minute": range(0, 60, 2), "hour": 12}, lambda t: t.minute % 2 == 0 and t.hour == 12),
        ({"minute": 0, "hour": 0, "day_of_week": 0}, lambda t: (t.hour, t.minute, t.isoweekday()) == (0, 0, 7)),
        (
            {"minute": 0, "hour": 0, "day_of_week": "mon-fri"},
            lambda t: (t.hour, t.minute) == (0, 0) and t.weekday() < 5,
        ),
        ({"minute": 0, "hour": 0, "day_of_week": "Sunday"}, lambda t: (t.hour, t.minute, t.weekday()) == (0, 0, 6)),
        (
            {"minute": 0, "hour": 0, "day_of_week": "fri-mon"},
            lambda t: (t.hour, t.minute) == (0, 0) and t.weekday() in (4, 5, 6, 0),
        ),
        (
            {"minute": 0, "hour": 9, "day_of_month": "1-7", "day_of_week": "tue"},  # all fields have to fit
            lambda t: (t.hour, t.minute, t.weekday()) == (9, 0, 1) and t.day <= 7,
        ),
        (
            {"minute": 0, "hour": 9, "day_of_month": "2-31/2", "month_of_year": "jan,February"},
            lambda t: (t.hour, t.minute) == (9, 0) and t.day % 2 == 0 and t.month in (1, 2),
        ),
        (
            {"minute": 0, "hour": 0, "day_of_month": 1, "month_of_year": "*/3"},
            lambda t: (t.hour, t.minute, t.day) == (0, 0, 1) and t.month in (1, 4, 7, 10),
        ),
    ],
    ids=lambda value: None if callable(value) else str(value),  # a function's str has its address
)
def test_crontab_is_due_when_all_fields_fit(fields: dict[str, Any], fits: Callable[[datetime], bool]) -> None:
    days = timedelta(days=100 if "month_of_year" in fields or "day_of_month" in fields else 9)
    minutes = (NEW_YEAR + timedelta(minutes=number) for number in range(days // timedelta(minutes=1)))
    expected = [minute for minute in minutes if fits(minute)]
    assert expected

    assert first_ticks(crontab(**fields), len(expected)) == expected


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"minute": 60}, "crontab: minute: expected numbers from 0 to 59, got 60"),
        ({"minute": -1}, "crontab: minute: expected numbers from 0 to 59, got -1"),
        ({"minute": "60"}, "crontab: minute: expected 0 to 59"),
        ({"minute": ""}, "crontab: minute: expected 0 to 59"),
        ({"minute": "1,"}, "crontab: minute: expected 0 to 59"),
        ({"minute": "*/0"}, "crontab: minute: expected 0 to 59"),
        ({"minute": "*/x"}, "crontab: minute: expected 0 to 59"),
        ({"minute": "-5"}, "crontab: minute: expected 0 to 59"),
        ({"minute": "+5"}, "crontab: minute: expected 0 to 59"),
        ({"minute": "mon"}, "crontab: minute: expected 0 to 59"),
        ({"minute": 1.5}, "crontab: minute: expected a number from 0 to 59"),
        ({"minute": None}, "crontab: minute: expected a number from 0 to 59"),
        ({"minute": True}, "crontab: minute: expected a number from 0 to 59"),
        ({"minute": []}, "crontab: minute: expected a number from 0 to 59"),
        ({"minute": ["1"]}, "crontab: minute: expected numbers from 0 to 59, got '1'"),
        ({"hour": "24"}, "crontab: hour: expected 0 to 23"),
        ({"day_of_week": 7}, "crontab: day_of_week: expected numbers from 0 to 6, got 7"),
        ({"day_of_week": "foo"}, "crontab: day_of_week: expected 0 to 6 or sun to sat"),
        ({"day_of_week": "mo"}, "crontab: day_of_week: expected 0 to 6 or sun to sat"),
        ({"day_of_month": 0}, "crontab: day_of_month: expected numbers from 1 to 31, got 0"),
        ({"month_of_year": "13"}, "crontab: month_of_year: expected 1 to 12 or jan to dec"),
        ({"day_of_month": 30, "month_of_year": 2}, "fits some"),
    ],
    ids=str,
)
def test_a_bad_field_of_crontab_is_named(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        crontab(**fields)


# -- arq --------------------------------------------------------------------------------------------------------------


def numbers(least: int, most: int) -> st.SearchStrategy[Any]:
    """A field of arq's `cron`: none, a number, or a set of them."""
    number = st.integers(least, most)
    return st.one_of(st.none(), number, st.sets(number, min_size=1, max_size=5))


WEEKDAYS = st.one_of(numbers(0, 6), st.sampled_from(["mon", "tues", "wed", "thurs", "fri", "sat", "sun"]))
FIELDS = st.fixed_dictionaries(
    {
        "second": numbers(0, 59),
        "minute": numbers(0, 59),
        "hour": numbers(0, 23),
        "day": numbers(1, 28),
        "month": numbers(1, 12),
        "weekday": WEEKDAYS,
        "microsecond": st.integers(0, 999_999),
    }
)


@settings(deadline=None)
@given(fields=FIELDS, start_s=st.integers(1_577_836_800, 1_924_992_000))
def test_an_arq_cron_job_is_due_when_arq_says_and_its_job_has_the_id_that_arq_gives_it(
    fields: dict[str, Any], start_s: int
) -> None:
    timing = cron_of_arq(cron(tidy, **fields))
    # arq looks from one second later on: start at one that is no tick.
    moment = datetime.fromtimestamp(start_s, UTC)
    after_ms = to_unix_ms(moment + timedelta(seconds=1)) - 1
    for _ in range(3):
        moment = next_cron(moment, **fields)
        found = timing.next_after(after_ms, UTC)
        assert found == to_unix_ms(moment), (fields, moment)
        after_ms = found


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"hour": 24}, "cron: hour: expected numbers from 0 to 23, got 24"),
        ({"minute": {70}}, "cron: minute: expected numbers from 0 to 59, got 70"),
        ({"weekday": "caturday"}, "cron: weekday: expected one of mon"),
        ({"weekday": 7}, "cron: weekday: expected numbers from 0 to 6, got 7"),
        ({"day": "5"}, "cron: day: expected a number from 1 to 31"),
        ({"day": 31, "month": {2, 4}}, "fits some"),
    ],
    ids=str,
)
def test_a_bad_field_of_an_arq_cron_job_is_named(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        cron(tidy, **fields)
    with pytest.raises(SettingsError, match=words):
        cron_of_arq(arq.cron(tidy, **fields))
