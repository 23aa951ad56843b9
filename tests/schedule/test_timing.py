"""When a schedule is due: cron expressions, intervals, single times; each tick is later than the one before it."""

from __future__ import annotations

import bisect
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arqestra import SettingsError
from arqestra.scheduling.timing import At, Cron, Timing, at, every, last_until

SEOUL = ZoneInfo("Asia/Seoul")
ZONES = [
    *map(
        ZoneInfo, ("UTC", "Asia/Seoul", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Africa/Casablanca")
    ),
    timezone(timedelta(hours=5, minutes=45)),
]
NEW_YEAR = datetime(2026, 1, 1, tzinfo=UTC)


def milliseconds(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)


def ticks(timing: Timing) -> Iterator[str]:
    """The ticks after New Year, in UTC."""
    after_ms = milliseconds(NEW_YEAR)
    while (found := timing.next_after(after_ms, UTC)) is not None:
        assert found > after_ms
        after_ms = found
        yield f"{datetime.fromtimestamp(found / 1000, UTC):%Y-%m-%d %H:%M:%S}"


@st.composite
def expressions(draw: st.DrawFn) -> str:
    """Cron expressions of five and six fields that fit some time."""

    def of(least: int, most: int, *others: str) -> st.SearchStrategy[str]:
        number = st.integers(least, most)
        pairs = st.tuples(number, number).map(sorted)
        return st.one_of(
            st.just("*"),
            number.map(str),
            st.lists(number, min_size=2, max_size=4).map(lambda numbers: ",".join(map(str, numbers))),
            pairs.map(lambda pair: f"{pair[0]}-{pair[1]}"),
            st.tuples(pairs, st.integers(1, 20)).map(lambda found: f"{found[0][0]}-{found[0][1]}/{found[1]}"),
            st.integers(1, most).map(lambda step: f"*/{step}"),
            *map(st.just, others),
        )

    # Every second day and the second Tuesday have both to fit, and may never do: such expressions are refused.
    days = of(1, 28, "L", "LW").filter(lambda text: not text.startswith("*/"))
    weekdays = of(0, 7, "MON-FRI", "SUN", "5L", "TUE#2").filter(lambda text: not text.startswith("*/"))
    fields = [draw(of(0, 59)), draw(of(0, 23)), draw(days), draw(of(1, 12, "FEB", "MAR-OCT")), draw(weekdays)]
    return " ".join(fields if draw(st.booleans()) else [draw(of(0, 59)), *fields])


def timings() -> st.SearchStrategy[Timing]:
    periods = st.integers(100, 90_000_000).map(lambda period_ms: every(period_ms / 1000))
    crons = st.builds(Cron, expressions(), offset_ms=st.integers(0, 999))
    return st.one_of(crons, periods)


# -- cron expressions -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("30 9 * * *", ["2026-01-01 09:30:00", "2026-01-02 09:30:00"]),
        ("*/20 * * * * *", ["2026-01-01 00:00:20", "2026-01-01 00:00:40", "2026-01-01 00:01:00"]),
        ("0 9 * * MON-FRI", ["2026-01-01 09:00:00", "2026-01-02 09:00:00", "2026-01-05 09:00:00"]),
        ("0 0 1 feb,Jul *", ["2026-02-01 00:00:00", "2026-07-01 00:00:00", "2027-02-01 00:00:00"]),
        ("0 0 L * *", ["2026-01-31 00:00:00", "2026-02-28 00:00:00", "2026-03-31 00:00:00"]),
        ("0 0 LW * *", ["2026-01-30 00:00:00", "2026-02-27 00:00:00", "2026-03-31 00:00:00"]),
        ("0 0 * * MON#2", ["2026-01-12 00:00:00", "2026-02-09 00:00:00"]),
        ("0 0 * * 5L", ["2026-01-30 00:00:00", "2026-02-27 00:00:00"]),
        ("0 0 * * 7", ["2026-01-04 00:00:00", "2026-01-11 00:00:00"]),
        ("0 0 13 * FRI", ["2026-01-02 00:00:00", "2026-01-09 00:00:00", "2026-01-13 00:00:00"]),  # one is enough
        ("0 0 29 2 *", ["2028-02-29 00:00:00", "2032-02-29 00:00:00"]),
        ("58/1 23 * * *", ["2026-01-01 23:58:00", "2026-01-01 23:59:00", "2026-01-02 23:58:00"]),
        ("@yearly", ["2027-01-01 00:00:00", "2028-01-01 00:00:00"]),
        ("@annually", ["2027-01-01 00:00:00"]),
        ("@monthly", ["2026-02-01 00:00:00", "2026-03-01 00:00:00"]),
        ("@weekly", ["2026-01-04 00:00:00", "2026-01-11 00:00:00"]),
        ("@daily", ["2026-01-02 00:00:00", "2026-01-03 00:00:00"]),
        ("@Midnight ", ["2026-01-02 00:00:00"]),
        ("@hourly", ["2026-01-01 01:00:00", "2026-01-01 02:00:00"]),
    ],
)
def test_an_expression_is_due_at_these_times(expression: str, expected: list[str]) -> None:
    found = ticks(Cron(expression))

    assert [next(found) for _ in expected] == expected


def test_both_days_have_to_fit_where_that_was_asked_for() -> None:
    found = ticks(Cron("0 0 13 * FRI", all_days=True))

    assert [next(found) for _ in range(3)] == ["2026-02-13 00:00:00", "2026-03-13 00:00:00", "2026-11-13 00:00:00"]


def test_the_wall_clock_is_that_of_the_zone() -> None:
    assert Cron("0 9 * * *").next_after(milliseconds(NEW_YEAR), SEOUL) == milliseconds(
        datetime(2026, 1, 2, 0, 0, tzinfo=UTC)
    )


def test_an_offset_comes_after_the_full_second() -> None:
    cron = Cron("0 * * * *", offset_ms=123)
    first = milliseconds(NEW_YEAR) + 123

    assert cron.next_after(first - 1, UTC) == first
    assert cron.next_after(first, UTC) == first + 3_600_000


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ("", "5 fields"),
        ("@never", "5 fields"),
        ("* * * *", "got 4"),
        ("* * * * * * *", "got 7"),
        ("60 * * * *", r"minute \(0-59\): got '60'"),
        ("* 24 * * *", r"hour \(0-23\): got '24'"),
        ("* * 0 * *", r"day of month .*: got '0'"),
        ("* * 32 * *", r"day of month .*: got '32'"),
        ("* * * 13 *", r"month \(1-12 or JAN-DEC\): got '13'"),
        ("* * * FOO *", r"month .*: got 'FOO'"),
        ("* * * * 8", r"day of week .*: got '8'"),
        ("* * * * MON#6", r"day of week .*: got 'MON#6'"),
        ("60 * * * * *", r"second \(0-59\): got '60'"),
        ("*/0 * * * *", r"minute .*: got '\*/0'"),
        ("9-5 * * * *", r"minute .*: got '9-5'"),
        ("1,,2 * * * *", r"minute .*: got '1,,2'"),
        ("-1 * * * *", r"minute .*: got '-1'"),
        ("ünf * * * *", r"minute .*: got 'ünf'"),
        ("0 0 30 2 *", "fits some"),
        ("0 0 31 4,6,9,11 *", "fits some"),
        (None, "expected a cron expression"),
        (5, "expected a cron expression"),
    ],
)
def test_what_is_no_expression_is_refused_with_the_field_that_is_wrong(expression: object, words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        Cron(expression)  # type: ignore[arg-type]


def test_an_expression_that_never_fits_both_days_is_refused() -> None:
    assert Cron("0 0 31 4 MON")  # Mondays of April
    with pytest.raises(SettingsError, match="fits some"):
        Cron("0 0 31 4 MON", all_days=True)


# -- intervals and single times ---------------------------------------------------------------------------------------


def test_an_interval_is_counted_from_its_anchor_whenever_it_is_asked() -> None:
    anchor = NEW_YEAR + timedelta(minutes=7)
    interval = every("1h30m", anchor=anchor)

    for asked_after in (timedelta(days=-3), timedelta(seconds=1), timedelta(days=400, seconds=17)):
        found = interval.next_after(milliseconds(anchor + asked_after), UTC)
        assert found is not None
        assert 0 < found - milliseconds(anchor + asked_after) <= 5_400_000
        assert (found - milliseconds(anchor)) % 5_400_000 == 0


def test_an_interval_without_anchor_is_counted_from_the_epoch() -> None:
    assert every("1d").next_after(milliseconds(NEW_YEAR), SEOUL) == milliseconds(NEW_YEAR + timedelta(days=1))


def test_an_anchor_may_have_any_zone() -> None:
    assert every(60, anchor=datetime(2026, 1, 1, 9, 0, 30, tzinfo=SEOUL)) == every(
        timedelta(minutes=1), anchor=NEW_YEAR + timedelta(seconds=30)
    )


@pytest.mark.parametrize("period", [0, -1, 0.01, "0s", "soon", None, True, float("inf"), float("nan"), timedelta(0)])
def test_what_is_no_interval_is_refused(period: object) -> None:
    with pytest.raises(SettingsError, match=r"every: expected .*got"):
        every(period)  # type: ignore[arg-type]


@pytest.mark.parametrize("anchor", [datetime(2026, 1, 1), "2026-01-01", "noon", 5])
def test_an_anchor_needs_a_zone(anchor: object) -> None:
    with pytest.raises(SettingsError, match="every: anchor: expected a datetime with time zone, got"):
        every(60, anchor=anchor)  # type: ignore[arg-type]


def test_a_single_time_without_zone_is_on_the_wall_of_the_schedule() -> None:
    moment = at("2026-03-01 09:00").next_after(0, SEOUL)

    assert moment == milliseconds(datetime(2026, 3, 1, tzinfo=UTC))
    assert at(datetime(2026, 3, 1, 9)).next_after(0, UTC) == milliseconds(datetime(2026, 3, 1, 9, tzinfo=UTC))


def test_a_single_time_with_zone_is_that_moment_in_every_zone() -> None:
    time = at("2026-03-01T09:00:00.250+09:00")

    assert {time.next_after(0, zone) for zone in ZONES} == {milliseconds(datetime(2026, 3, 1, tzinfo=UTC)) + 250}


def test_a_single_time_in_a_gap_is_when_the_gap_ends_and_one_that_exists_twice_the_first() -> None:
    berlin = ZoneInfo("Europe/Berlin")

    assert at("2026-03-29 02:30").next_after(0, berlin) == milliseconds(datetime(2026, 3, 29, 1, tzinfo=UTC))
    assert at("2026-10-25 02:30").next_after(0, berlin) == milliseconds(datetime(2026, 10, 25, 0, 30, tzinfo=UTC))


def test_a_single_time_comes_once() -> None:
    time = at("2026-03-01 09:00")
    moment = milliseconds(datetime(2026, 3, 1, 9, tzinfo=UTC))

    assert time.next_after(moment - 1, UTC) == moment
    assert time.next_after(moment, UTC) is None


@pytest.mark.parametrize("time", ["tomorrow", "", 5, None, "12:00"])
def test_what_is_no_time_is_refused(time: object) -> None:
    with pytest.raises(SettingsError, match=r"at: expected a datetime or text such as .*, got"):
        at(time)  # type: ignore[arg-type]


# -- properties -------------------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(timing=timings(), zone=st.sampled_from(ZONES), start_s=st.integers(1_577_836_800, 1_924_992_000))
def test_each_tick_is_the_least_after_the_one_before(timing: Timing, zone: ZoneInfo, start_s: int) -> None:
    after_ms = start_s * 1000
    for _ in range(4):
        found = timing.next_after(after_ms, zone)
        assert found is not None
        assert found > after_ms
        # Whoever asks later but before that tick gets the same: there is none between.
        assert timing.next_after(found - 1, zone) == found
        assert timing.next_after(after_ms + (found - after_ms) // 2 - 1, zone) == found or found - after_ms < 2
        after_ms = found


@settings(deadline=None)
@given(timing=timings(), zone=st.sampled_from(ZONES), start_s=st.integers(1_577_836_800, 1_924_992_000), data=st.data())
def test_the_last_tick_of_a_time_is_that_of_a_walk_through_all(
    timing: Timing, zone: ZoneInfo, start_s: int, data: st.DataObject
) -> None:
    after_ms = start_s * 1000
    walked: list[int] = []
    for _ in range(12):
        found = timing.next_after(walked[-1] if walked else after_ms, zone)
        assert found is not None
        walked.append(found)
    until_ms = data.draw(
        st.sampled_from([*walked[:-1], *(tick - 1 for tick in walked), *(tick + 1 for tick in walked[:-1])])
    )

    count = bisect.bisect_right(walked, until_ms)

    assert last_until(timing, after_ms, until_ms, zone) == (walked[count - 1] if count else None)


def test_the_last_tick_of_a_single_time() -> None:
    time = At(NEW_YEAR)
    moment = milliseconds(NEW_YEAR)

    assert last_until(time, 0, moment, UTC) == moment
    assert last_until(time, 0, moment - 1, UTC) is None
    assert last_until(time, moment, moment + 5, UTC) is None
