"""Schedules in words."""

from __future__ import annotations

import calendar
import re
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from itertools import islice, product

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from arqestra import SettingsError, at, crontab, every, schedule
from arqestra.scheduling.describe import describe_duration, describe_timing
from arqestra.scheduling.timing import Cron, Timing


@pytest.mark.parametrize(
    ("timing", "words"),
    [
        (Cron("0 */6 * * *"), "every 6 hours, on the hour, Asia/Seoul"),
        (crontab(minute=0, hour="*/6"), "every 6 hours, on the hour, Asia/Seoul"),
        (Cron("30 */6 * * *"), "every 6 hours, at minute 30, Asia/Seoul"),
        (Cron("15 30 */6 * * *"), "every 6 hours, at 30:15, Asia/Seoul"),
        (Cron("* * * * *"), "every minute, Asia/Seoul"),
        (Cron("*/5 * * * *"), "every 5 minutes, Asia/Seoul"),
        (Cron("0 * * * *"), "every hour, on the hour, Asia/Seoul"),
        (Cron("@hourly"), "every hour, on the hour, Asia/Seoul"),
        (Cron("30 * * * *"), "every hour, at minute 30, Asia/Seoul"),
        (Cron("20 30 * * * *"), "every hour, at minute 30, at second 20, Asia/Seoul"),
        (Cron("* * * * * *"), "every second, Asia/Seoul"),
        (Cron("*/10 * * * * *"), "every 10 seconds, Asia/Seoul"),
        (Cron("7 * * * * *"), "every minute, at second 7, Asia/Seoul"),
        (Cron("30 9 * * *"), "at 09:30 every day, Asia/Seoul"),
        (Cron("0 9 * * MON-FRI"), "at 09:00 on Monday through Friday, Asia/Seoul"),
        (Cron("0 9,17 * * *"), "at 09:00 and 17:00 every day, Asia/Seoul"),
        (Cron("0 0 L * *"), "at 00:00 on the last day of the month, Asia/Seoul"),
        (Cron("0 0 * * MON#2"), "at 00:00 on the second Monday of the month, Asia/Seoul"),
        (Cron("0 0 * * 5L"), "at 00:00 on the last Friday of the month, Asia/Seoul"),
        # Steps that do not divide the hour or the day are not told as if they went on.
        (Cron("0 */7 * * *"), "at 00:00, 07:00, 14:00 and 21:00 every day, Asia/Seoul"),
        (Cron("*/7 * * * *"), "at minutes 0, 7, 14, 21, 28, 35, 42, 49 and 56 of every hour, Asia/Seoul"),
        # One of both days is enough, or both have to fit.
        (Cron("0 0 13 * FRI"), "at 00:00 on the 13th of the month or on Friday, Asia/Seoul"),
        (Cron("0 0 13 * FRI", all_days=True), "at 00:00 on the 13th of the month if it is Friday, Asia/Seoul"),
        # Where one is enough, all days of the month are every day; where both have to fit, they say nothing.
        (Cron("0 0 1-31 * 1"), "at 00:00 every day, Asia/Seoul"),
        (Cron("0 0 1 * 0-6"), "at 00:00 every day, Asia/Seoul"),
        (Cron("0 0 1-31 * 1", all_days=True), "at 00:00 on Monday, Asia/Seoul"),
        (crontab(minute=0, hour=0, day_of_month="1-31", day_of_week=1), "at 00:00 on Monday, Asia/Seoul"),
        (Cron("0 0 */2 * MON", all_days=False), "at 00:00 on the 1st, 3rd, 5th, 7th, 9th, 11th, 13th, 15th, 17th, "
         "19th, 21st, 23rd, 25th, 27th, 29th and 31st of the month if it is Monday, Asia/Seoul"),
        (Cron("0 0 1-31 1-12 *"), "at 00:00 every day, Asia/Seoul"),
        (Cron("*/5 0-23 1-31 * 0-7"), "every 5 minutes, Asia/Seoul"),
        (Cron("0 0 1 1 *"), "at 00:00 on the 1st of the month, only in January, Asia/Seoul"),
        (Cron("0 0 * 6-8 SAT,SUN"), "at 00:00 on Saturday and Sunday, only in June through August, Asia/Seoul"),
        (Cron("*/15 9-17 * * MON-FRI"), "every 15 minutes of hours 9 through 17, on Monday through Friday, Asia/Seoul"),
        (Cron("* * 1 * MON"), "every minute, on the 1st of the month or on Monday, Asia/Seoul"),
        (Cron("5 0 1,LW,L * *"), "at 00:05 on the 1st, last weekday and last day of the month, Asia/Seoul"),
        (every(60), "every minute"),
        (every(90, anchor=datetime(2026, 1, 1, 0, 0, 10, tzinfo=UTC)),
         "every 1 minute 30 seconds, counted from 2026-01-01 00:00:10 UTC"),
        (every(90), "every 1 minute 30 seconds"),
        (every("2d"), "every 2 days"),
        (every("1h"), "every hour"),
        (every(0.25), "every 250 ms"),
        (at("2030-01-31 09:00"), "once, at 2030-01-31 09:00:00, Asia/Seoul"),
        (at(datetime(2030, 1, 31, 9, tzinfo=UTC)), "once, at 2030-01-31 09:00:00+00:00"),
    ],
    ids=str,
)  # fmt: skip
def test_when_it_is_due_in_words(timing: Timing, words: str) -> None:
    assert describe_timing(timing, "Asia/Seoul") == words


@pytest.mark.parametrize(
    ("duration_ms", "words"),
    [
        (1, "ms"),
        (1000, "second"),
        (90_061_001, "1 day 1 hour 1 minute 1 second 1 ms"),
        (7_200_000, "2 hours"),
        (86_400_000, "day"),
    ],
)
def test_a_duration_in_words(duration_ms: int, words: str) -> None:
    assert describe_duration(duration_ms) == words


def test_a_schedule_says_all_that_decides_when_it_is_fired() -> None:
    made = schedule(
        "0 9 * * *",
        "report",
        name="daily",
        timezone="Asia/Seoul",
        jitter="1m30s",
        start="2026-01-01T00:00:00+09:00",
        end=datetime(2026, 12, 31, tzinfo=UTC),
    )

    assert str(made) == (
        "daily: report at 09:00 every day, Asia/Seoul, up to 1 minute 30 seconds later, "
        "from 2025-12-31 15:00:00 UTC, until 2026-12-31 00:00:00 UTC"
    )


def test_an_interval_that_counts_from_its_start_says_so_once() -> None:
    made = schedule(every(90), "report", start="2026-01-01T00:00:10Z").in_zone("Asia/Seoul")
    assert made.words == "every 1 minute 30 seconds, from 2026-01-01 00:00:10 UTC"


def test_a_schedule_without_zone_says_whose_it_is() -> None:
    assert schedule("0 9 * * *", "report").words == "at 09:00 every day, UTC or the worker's time zone"
    assert schedule("0 9 * * *", "report").in_zone(UTC).words == "at 09:00 every day, UTC"


# -- read again -------------------------------------------------------------------------------------------------------
# What the words say, as somebody who reads them would take it: days and times, found without the timing.

WEEKDAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]
ORDINALS = {"first": 1, "second": 2, "third": 3, "fourth": 4, "fifth": 5}


def items_of(text: str) -> list[str]:
    return re.split(r", | and ", text)


def numbers_in(text: str, names: list[str], first: int) -> set[int]:
    """ "1, 3 through 5 and 9"; or names, which count from `first`."""
    found: set[int] = set()
    for item in items_of(text):
        ends = item.split(" through ")
        low, high = (
            names.index(end) + first if names else int(re.sub(r"(st|nd|rd|th)$", "", end)) for end in (ends * 2)[:2]
        )
        found |= set(range(low, high + 1))
    return found


def day_fits(words: str, day: date) -> bool:
    """Of "the 1st and last day of the month", "Monday and the second Friday of the month"."""
    last = calendar.monthrange(day.year, day.month)[1]
    if match := re.fullmatch(r"the ([^A-Z]+) of the month", words):
        for item in items_of(match[1]):
            if item == "last day":
                fits = day.day == last
            elif item == "last weekday":
                fits = day.day == max(each for each in range(1, last + 1) if day.replace(day=each).weekday() < 5)
            else:
                fits = day.day in numbers_in(item, [], 0)
            if fits:
                return True
        return False
    for item in items_of(words):
        if match := re.fullmatch(r"the (\w+) (\w+day) of the month", item):
            of_its_kind = [
                each for each in range(1, last + 1) if day.replace(day=each).weekday() == WEEKDAYS.index(match[2])
            ]
            nth = -1 if match[1] == "last" else ORDINALS[match[1]] - 1
            if nth < len(of_its_kind) and day.day == of_its_kind[nth]:
                return True
        elif day.weekday() in numbers_in(item, WEEKDAYS, 0):
            return True
    return False


def fields_of(text: str, cycle: int, unit: str) -> set[int]:
    """ "every minute", "minutes 3 and 5", "every 5 minutes"."""
    if text == f"every {unit}":
        return set(range(cycle))
    if match := re.fullmatch(rf"every (\d+) {unit}s", text):
        return set(range(0, cycle, int(match[1])))
    match = re.fullmatch(rf"(?:at )?{unit}s? (.+)", text)
    assert match, text
    return numbers_in(match[1], [], 0)


def times_of(words: str) -> list[tuple[int, int, int]]:
    """The times of a day."""
    if re.match(r"at \d\d:", words):
        times = [[int(part) for part in item.split(":")] for item in items_of(words.removeprefix("at "))]
        return sorted((hour, minute, *(rest or [0])) for hour, minute, *rest in times)  # type: ignore[misc]
    if " of " in words:
        *head, hours = words.split(" of ")
        seconds = fields_of(head[0], 60, "second") if len(head) == 2 else {0}
        minutes = fields_of(head[-1], 60, "minute")
        return list(product(*map(sorted, (fields_of(hours, 24, "hour"), minutes, seconds))))  # type: ignore[arg-type]
    step, *more = words.split(", ")
    fields = {"hour": set(range(24)), "minute": {0}, "second": {0}}
    unit = re.sub(r"every (\d+ )?|s$", "", step)
    fields[unit] = fields_of(step, {"hour": 24}.get(unit, 60), unit)
    if unit != "hour":
        fields["minute"] = fields["minute"] if unit == "minute" else set(range(60))
    for each in more:
        if each == "on the hour":
            continue
        if match := re.fullmatch(r"at (\d\d):(\d\d)", each):
            fields["minute"], fields["second"] = {int(match[1])}, {int(match[2])}
        else:
            name = each.split()[1]
            fields[name] = fields_of(each, 60, name)
    return list(product(*map(sorted, fields.values())))  # type: ignore[arg-type]


def said_by(words: str, after: datetime) -> Iterator[datetime]:
    """The moments that the words of a cron expression tell of, for 40 years."""
    words, _, months = words.partition(", only in ")
    names = list(calendar.month_name)[1:]
    of_months = numbers_in(months, names, 1) if months else set(range(1, 13))
    match = re.fullmatch(r"(.+?),? (every day|on (?:the (?!hour)|[A-Z]).*)", words)
    times, days = (match[1], match[2]) if match else (words, "every day")
    moments = times_of(times)
    day = after.date()
    for _ in range(40 * 366):
        alternatives = [] if days == "every day" else days.removeprefix("on ").split(" or on ")
        both = [alternative.split(" if it is ") for alternative in alternatives]
        if day.month in of_months and (not both or any(all(day_fits(part, day) for part in parts) for parts in both)):
            for hour, minute, second in moments:
                moment = datetime(day.year, day.month, day.day, hour, minute, second)
                if moment > after:
                    yield moment
        day += timedelta(days=1)


def field(least: int, most: int, *others: str) -> st.SearchStrategy[str]:
    number = st.integers(least, most)
    part = st.one_of(
        number.map(str),
        st.tuples(number, number).map(lambda pair: "{}-{}".format(*sorted(pair))),
        *map(st.just, others),
    )
    return st.one_of(
        st.just("*"),
        st.just(f"{least}-{most}"),
        st.integers(1, most).map(lambda step: f"*/{step}"),
        st.lists(part, min_size=1, max_size=4).map(",".join),
    )


@settings(max_examples=400, deadline=None)
@example(seconds="0", minute="0", hour="0", day="1-31", month="*", weekday="1", all_days=False)
@example(seconds="0", minute="0", hour="0", day="*/1", month="*", weekday="1", all_days=False)
@example(seconds="0", minute="0", hour="*/6", day="*", month="*", weekday="MON", all_days=False)
@example(seconds="15", minute="30", hour="*/6", day="1", month="*", weekday="MON", all_days=False)
@example(seconds="0", minute="0", hour="0", day="13", month="*", weekday="0-7", all_days=False)
@given(
    seconds=st.one_of(st.just("0"), field(0, 59)),
    minute=field(0, 59),
    hour=field(0, 23),
    day=field(1, 31, "L", "LW"),
    month=field(1, 12),
    weekday=field(0, 7, "MON-FRI", "5L", "TUE#2", "SUN#5"),
    all_days=st.booleans(),
)
def test_words_say_when_the_timing_is_due(
    seconds: str, minute: str, hour: str, day: str, month: str, weekday: str, all_days: bool
) -> None:
    try:
        timing = Cron(f"{seconds} {minute} {hour} {day} {month} {weekday}", all_days)
    except SettingsError:
        assume(False)  # no day fits
    after = datetime(2026, 2, 20)
    due: list[datetime] = []
    moment_ms = int(after.replace(tzinfo=UTC).timestamp() * 1000)
    while len(due) < 40:
        next_ms = timing.next_after(moment_ms, UTC)
        if next_ms is None or next_ms > 3_029_529_600_000:  # in 2066, beyond the 40 years that said_by reads
            break
        due.append(datetime.fromtimestamp(next_ms / 1000, UTC).replace(tzinfo=None))
        moment_ms = next_ms

    words = describe_timing(timing, "UTC").removesuffix(", UTC")
    assert list(islice(said_by(words, after), len(due))) == due, words
