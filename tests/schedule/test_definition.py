"""`schedule(...)`: what it takes, what it refuses and how it says so."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import pytz
from hypothesis import given, settings
from hypothesis import strategies as st

from arqestra import ArgumentsError, Debounce, SettingsError, Timetable, at, cron, crontab, every, func, job, schedule
from arqestra.scheduling.definition import Schedule, checked_schedules

EVERY_MINUTE = every(60)


@job(queue="reports", priority=3, expires="5m")
async def report(ctx: Any, month: int, *, draft: bool = False) -> None: ...


@job(debounce=Debounce(30))
async def settle(ctx: Any) -> None: ...


async def plain(ctx: Any) -> None: ...


class Jobs:
    @staticmethod
    async def nested(ctx: Any) -> None: ...


# -- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "expected", "got"),
    [
        ({"name": ""}, "name: expected a str", "''"),
        ({"name": 5}, "name: expected a str", "5"),
        ({"name": "two\nlines"}, "name: expected a str", "'two\\nlines'"),
        ({"queue": ""}, "queue: expected a str", "''"),
        ({"queue": 5}, "queue: expected a str", "5"),
        ({"timezone": "Mars/Olympus"}, 'timezone: expected a time zone such as "Asia/Seoul"', "'Mars/Olympus'"),
        ({"timezone": ""}, "timezone: expected a time zone", "''"),
        ({"timezone": "Europe"}, "timezone: expected a time zone", "'Europe'"),
        ({"timezone": "../../etc/passwd"}, "timezone: expected a time zone", "'../../etc/passwd'"),
        ({"timezone": "+99:00"}, "timezone: expected a time zone", "'+99:00'"),
        ({"timezone": 9}, "timezone: expected a time zone", "9"),
        ({"jitter": -1}, "jitter: expected 0 or more seconds", "-1"),
        ({"jitter": "soon"}, "jitter: expected 0 or more seconds", "'soon'"),
        ({"jitter": True}, "jitter: expected 0 or more seconds", "True"),
        ({"jitter": 60}, "jitter: expected less than the interval", "60"),
        ({"start": datetime(2026, 1, 1)}, "start: expected a datetime with time zone", "datetime.datetime(2026"),
        ({"start": "2026-01-01"}, "start: expected a datetime with time zone", "'2026-01-01'"),
        ({"start": 5}, "start: expected a datetime with time zone", "5"),
        ({"end": "never"}, "end: expected a datetime with time zone", "'never'"),
        (
            {"start": "2026-01-02T00:00Z", "end": "2026-01-01T00:00Z"},
            "expected start before end",
            "'2026-01-02T00:00Z'",
        ),
        ({"missed": "some"}, "missed: expected one of 'skip', 'last', 'all'", "'some'"),
        ({"missed": None}, "missed: expected one of", "None"),
        ({"missed": ["all"]}, "missed: expected one of", "['all']"),
        ({"grace": -1}, "grace: expected 0 or more seconds", "-1"),
        ({"grace": None}, "grace: expected 0 or more seconds", "None"),
        ({"most_missed": 0}, "most_missed: expected an int from 1 to 1000", "0"),
        ({"most_missed": 1001}, "most_missed: expected an int from 1 to 1000", "1001"),
        ({"most_missed": True}, "most_missed: expected an int from 1 to 1000", "True"),
        ({"most_missed": 2.0}, "most_missed: expected an int from 1 to 1000", "2.0"),
        ({"overlap": "both"}, "overlap: expected one of 'allow', 'skip', 'queue'", "'both'"),
        ({"expires": 0}, "expires: expected more than 0 seconds", "0"),
        ({"expires": "later"}, "expires: expected more than 0 seconds", "'later'"),
        ({"priority": 10}, "priority: expected an int from 0", "10"),
        ({"priority": -1}, "priority: expected an int from 0", "-1"),
        ({"priority": True}, "priority: expected an int from 0", "True"),
    ],
    ids=str,
)
def test_a_bad_option_is_refused_with_what_was_expected_and_got(
    options: dict[str, Any], expected: str, got: str
) -> None:
    with pytest.raises(SettingsError) as refusal:
        schedule(EVERY_MINUTE, "report", **options)

    assert expected in str(refusal.value)
    assert f"got {got}" in str(refusal.value)


@pytest.mark.parametrize("when", [None, 60, timedelta(minutes=1), datetime(2026, 1, 1), ["* * * * *"], cron(plain)])
def test_what_is_no_timing_is_refused(when: object) -> None:
    with pytest.raises(
        SettingsError, match=r"expected a cron expression, crontab\(...\), every\(...\) or at\(...\), got"
    ):
        schedule(when, "report")  # type: ignore[arg-type]


def test_a_bad_expression_is_refused_where_it_is_written() -> None:
    with pytest.raises(SettingsError, match=r"minute \(0-59\): got '61'"):
        schedule("61 * * * *", "report")


@pytest.mark.parametrize("function", ["", None, 5, {"name": "report"}])
def test_what_is_no_function_is_refused(function: Any) -> None:
    with pytest.raises(SettingsError, match="expected a job function or its name, got"):
        schedule(EVERY_MINUTE, function)


@pytest.mark.parametrize(
    "options",
    [{"defer_by": 5}, {"defer_until": datetime(2030, 1, 1, tzinfo=UTC)}, {"job_id": "mine"}],
    ids=str,
)
def test_options_of_a_single_enqueue_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match="without defer_by, defer_until and job_id"):
        schedule(EVERY_MINUTE, report.options(**options), args=[1])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "missing a required argument: 'month'"),
        ({"args": [1, 2]}, "too many positional arguments"),
        ({"args": [1], "kwargs": {"colour": "red"}}, "colour"),
        ({"args": "1"}, "args: expected a list or tuple, got str"),
        ({"args": {"month": 1}}, "args: expected a list or tuple"),
        ({"args": 1}, "args: expected a list or tuple, got int"),
        ({"kwargs": [("month", 1)]}, "kwargs: expected a dict"),
    ],
    ids=str,
)
def test_arguments_that_do_not_fit_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ArgumentsError, match=words):
        schedule(EVERY_MINUTE, report, **options)


# -- what is taken ----------------------------------------------------------------------------------------------------


def test_a_job_function_brings_its_own_options() -> None:
    made = schedule(EVERY_MINUTE, report, args=[1], kwargs={"draft": True})

    assert (made.name, made.function, made.queue, made.priority, made.expires_ms) == (
        *("report", "report"),
        *("reports", 3, 300_000),
    )
    assert (made.args, made.kwargs) == ((1,), {"draft": True})


def test_options_of_the_schedule_come_before_those_of_the_enqueue_and_these_before_the_functions() -> None:
    bound = report.options(queue="urgent", priority=5, expires=60, headers={"tenant": "a"})

    made = schedule(EVERY_MINUTE, bound, args=[1])
    assert (made.queue, made.priority, made.expires_ms, made.headers) == ("urgent", 5, 60_000, {"tenant": "a"})
    made = schedule(EVERY_MINUTE, bound, args=[1], queue="own", priority=0, expires="2h")
    assert (made.queue, made.priority, made.expires_ms) == ("own", 0, 7_200_000)


def test_a_debounced_function_keeps_its_quiet_time() -> None:
    assert schedule(EVERY_MINUTE, settle).defer_ms == 30_000


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (report, "report"),
        (report.options(queue="q"), "report"),
        (plain, "plain"),
        (Jobs.nested, "Jobs.nested"),
        (func(plain, name="other"), "other"),
        ("by_name", "by_name"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_schedule_has_the_name_of_its_function_unless_it_has_its_own(function: Any, name: str) -> None:
    arguments: dict[str, Any] = {"args": [1]} if name == "report" else {}

    assert schedule(EVERY_MINUTE, function, **arguments).name == name
    named = schedule(EVERY_MINUTE, function, name="mine", **arguments)
    assert (named.name, named.function) == ("mine", name)


@pytest.mark.parametrize(
    ("zone", "offset_h"),
    [
        ("Asia/Seoul", 9),
        (ZoneInfo("Asia/Seoul"), 9),
        (pytz.timezone("Asia/Seoul"), 9),
        ("+09:00", 9),
        ("-03:30", -3.5),
        (timezone(timedelta(hours=9)), 9),
        (UTC, 0),
    ],
    ids=str,
)
def test_a_zone_is_known_by_name_offset_or_object(zone: Any, offset_h: float) -> None:
    made = schedule(at("2026-01-31 09:00"), "report", timezone=zone)

    assert made.next_after(0) == (datetime(2026, 1, 31, 9, tzinfo=UTC) - timedelta(hours=offset_h)).timestamp() * 1000


def test_no_tick_is_before_the_start_nor_after_the_end() -> None:
    made = schedule(
        "0 * * * *", "report", timezone=UTC, start="2026-01-01T10:00:00Z", end=datetime(2026, 1, 1, 12, tzinfo=UTC)
    )
    found = []
    tick = made.next_after(0)
    while tick is not None:
        found.append(datetime.fromtimestamp(tick / 1000, UTC).hour)
        tick = made.next_after(tick)

    assert found == [10, 11, 12]


def test_an_interval_is_counted_from_the_start_unless_it_has_an_anchor() -> None:
    start = datetime(2026, 1, 1, 0, 0, 7, tzinfo=UTC)
    started = schedule(every(60), "report", start=start).in_zone(UTC)
    anchored = schedule(every(60, anchor=datetime(2026, 1, 1, tzinfo=UTC)), "report", start=start).in_zone(UTC)

    first_ms = round(start.timestamp() * 1000)
    assert started.next_after(0) == first_ms
    assert anchored.next_after(0) == first_ms + 53_000


# -- jitter -----------------------------------------------------------------------------------------------------------


def test_jitter_is_the_same_for_whoever_asks_and_differs_between_ticks_and_schedules() -> None:
    one, same, other = (schedule(every(60), "report", name=name, jitter=30, timezone=UTC) for name in ("a", "a", "b"))
    ticks = range(60_000, 60_000 * 200, 60_000)

    delays = [one.due_ms(tick) - tick for tick in ticks]
    assert delays == [same.due_ms(tick) - tick for tick in ticks]
    assert all(0 <= delay < 30_000 for delay in delays)
    assert len(set(delays)) > 150
    assert min(delays) < 3_000 < 27_000 < max(delays)
    assert delays != [other.due_ms(tick) - tick for tick in ticks]


@settings(deadline=None)
@given(jitter_s=st.integers(1, 7200), start_s=st.integers(1_700_000_000, 1_800_000_000))
def test_jitter_changes_no_order(jitter_s: int, start_s: int) -> None:
    """A jitter over the time between two ticks would let a tick overtake the one before it, which is then lost."""
    made = schedule("*/10 * * * *", "report", jitter=jitter_s, timezone=UTC)
    tick = made.next_after(start_s * 1000)
    assert tick is not None
    for _ in range(5):
        following = made.next_after(tick)
        assert following is not None
        assert made.due_ms(tick) < made.due_ms(following)
        tick = following


# -- lists ------------------------------------------------------------------------------------------------------------


def test_schedules_have_different_names_whatever_their_queues() -> None:
    again = schedule("0 9 * * *", report, args=[2])

    with pytest.raises(SettingsError, match="expected each name once, got 'report' twice"):
        checked_schedules([schedule(EVERY_MINUTE, report, args=[1]), again])
    with pytest.raises(SettingsError, match="expected each name once, got 'report' twice"):
        checked_schedules([schedule(EVERY_MINUTE, report, args=[1], queue="other"), again])
    assert len(checked_schedules([schedule(EVERY_MINUTE, report, args=[1], name="other"), again])) == 2


def test_cron_jobs_of_one_name_are_told_apart_by_a_number() -> None:
    found = checked_schedules([cron(plain, hour=1), cron(plain, hour=2), cron(plain, hour=3)])

    assert [each.name for each in found] == ["cron:plain", "cron:plain#2", "cron:plain#3"]
    assert {each.prefix for each in found} == {"cron:plain"}
    assert [each.job_id_of(5) for each in found] == ["cron:plain:5"] * 3


def test_cron_jobs_that_are_each_workers_own_are_no_schedules() -> None:
    assert checked_schedules([cron(plain, unique=False)], beside_cron_jobs=True) == []
    with pytest.raises(SettingsError, match="expected unique cron jobs outside of workers, got 'cron:plain'"):
        checked_schedules([cron(plain, unique=False)])


def test_a_cron_job_keeps_its_job_id() -> None:
    (made,) = checked_schedules([cron(plain, job_id="only one")])

    assert made.job_id_of(5) == made.job_id_of(6) == "only one"


def test_the_jobs_of_two_ticks_have_different_ids() -> None:
    made = schedule(EVERY_MINUTE, "report")

    assert len({made.job_id_of(tick) for tick in range(100)}) == 100


@pytest.mark.parametrize("other", [plain, report, "report", "* * * * *", None, crontab(), [schedule("@daily", "a")]])
def test_what_is_no_schedule_is_refused_in_a_list(other: Any) -> None:
    with pytest.raises(SettingsError, match=r"expected schedule\(...\) or cron\(...\), got"):
        checked_schedules([other])


def test_a_timetable_is_a_list_of_schedules_that_knows_how_they_are_fired() -> None:
    made = Timetable([schedule("@daily", "a"), cron(plain)], serializer="msgpack", timezone="Asia/Seoul", queue="q")

    assert len(made) == 2
    assert isinstance(made[0], Schedule)
    assert (made.timezone, made.serializer, made.queue) == (ZoneInfo("Asia/Seoul"), "msgpack", "q")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"schedules": [schedule("@daily", "a"), schedule("@hourly", "a")]}, "each name once, got 'a' twice"),
        ({"schedules": [plain]}, "expected schedule"),
        ({"serializer": "yaml"}, "serializer.*'yaml'"),
        ({"timezone": "Mars"}, "Timetable: timezone: expected a time zone"),
        ({"queue": ""}, "Timetable: queue: expected a str, got ''"),
        ({"queue": 5}, "Timetable: queue: expected a str, got 5"),
    ],
    ids=["name twice", "no schedule", "serializer", "timezone", "no queue name", "queue of another type"],
)
def test_a_timetable_refuses_what_is_wrong(options: dict[str, Any], words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        Timetable(**options)
