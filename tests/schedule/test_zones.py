"""Every change of the clock from 2020 to 2030, in every zone, against an oracle that walks the minutes.

The oracle knows nothing of offsets and gaps: it looks at the wall clock minute by minute. A schedule that names hours
is due when the clock first reaches a time that fits: at a minute by which it has passed one that it had not reached
before. A schedule of every hour is due at each minute at which the clock shows a time that fits.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import cache
from zoneinfo import ZoneInfo, available_timezones

import pytest

from arqestra.scheduling.timing import Cron, every, last_until

EPOCH = datetime(1970, 1, 1)
MINUTE = timedelta(minutes=1)
AROUND = timedelta(hours=30)
# Expressions, and a predicate of the wall time that says the same. True: they name hours.
SCHEDULES: list[tuple[str, bool, Callable[[datetime], bool]]] = [
    ("30 2 * * *", True, lambda t: (t.hour, t.minute) == (2, 30)),
    ("0 0 * * *", True, lambda t: (t.hour, t.minute) == (0, 0)),
    ("15,45 0-3 * * *", True, lambda t: t.hour <= 3 and t.minute in (15, 45)),
    ("*/10 1,2 * * *", True, lambda t: t.hour in (1, 2) and t.minute % 10 == 0),
    ("0 */6 * * *", True, lambda t: t.hour % 6 == 0 and t.minute == 0),
    ("5 23 * * SUN", True, lambda t: (t.hour, t.minute, t.isoweekday()) == (23, 5, 7)),
    ("59 1-23 L * *", True, lambda t: t.hour >= 1 and t.minute == 59 and (t + timedelta(days=1)).day == 1),
    ("0 * * * *", False, lambda t: t.minute == 0),
    ("30 * * * *", False, lambda t: t.minute == 30),
    ("*/7 * * * SUN,MON", False, lambda t: t.minute % 7 == 0 and t.isoweekday() in (7, 1)),
    ("45 * 1 * *", False, lambda t: t.minute == 45 and t.day == 1),
]


def offset(moment: datetime, zone: ZoneInfo) -> timedelta:
    found = moment.astimezone(zone).utcoffset()
    assert found is not None
    return found


@cache
def changes_of(name: str, first: int = 2020, last: int = 2030) -> tuple[tuple[datetime, timedelta, timedelta], ...]:
    """When the clock of a zone is moved (UTC), with the offsets before and after, found by looking every six hours."""
    zone = ZoneInfo(name)
    found = []
    moment, end = datetime(first, 1, 1, tzinfo=UTC), datetime(last + 1, 1, 1, tzinfo=UTC)
    before = offset(moment, zone)
    while moment < end:
        later = moment + timedelta(hours=6)
        after = offset(later, zone)
        if after != before:
            low, high = moment, later
            while high - low > MINUTE:
                middle = low + (high - low) // 2 // MINUTE * MINUTE
                low, high = (middle, high) if offset(middle, zone) == before else (low, middle)
            found.append((high, before, after))
        moment, before = later, after
    return tuple(found)


def ticks_by_oracle(
    zone: ZoneInfo, start: datetime, end: datetime, *, names_hours: bool, fits: Callable[[datetime], bool]
) -> Iterator[datetime]:
    """The minutes after start, up to end, at which a schedule is due."""
    moment = start
    reached = (start - timedelta(days=2)).astimezone(zone).replace(tzinfo=None)
    while moment <= end:
        wall = moment.astimezone(zone).replace(tzinfo=None)
        if not names_hours:
            due = fits(wall)
        else:
            due = False
            while reached < wall:
                reached += MINUTE
                due = due or fits(reached)
        if due and moment > start:
            yield moment
        moment += MINUTE


def ticks_by_schedule(cron: Cron, zone: ZoneInfo, start: datetime, end: datetime) -> Iterator[datetime]:
    at = start
    while True:
        found = cron.next_after(milliseconds(at), zone)
        if found is None or found > milliseconds(end):
            return
        at = datetime.fromtimestamp(found / 1000, UTC)
        yield at


def milliseconds(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)


def representatives(first: int = 2020, last: int = 2030) -> list[str]:
    """One zone of those whose clocks are moved at the same moments."""
    seen = {changes_of(name, first, last): name for name in sorted(available_timezones(), reverse=True)}
    return sorted(name for changes, name in seen.items() if changes)


def check_changes(names: list[str], first: int = 2020, last: int = 2030, around: timedelta = AROUND) -> int:
    """Compare the ticks around every change; returns how many were compared."""
    compared = 0
    crons = [(Cron(text), names_hours, fits) for text, names_hours, fits in SCHEDULES]
    for name in names:
        zone = ZoneInfo(name)
        for change, _, _ in changes_of(name, first, last):
            start, end = change - around, change + around
            for cron, names_hours, fits in crons:
                expected = list(ticks_by_oracle(zone, start, end, names_hours=names_hours, fits=fits))
                assert list(ticks_by_schedule(cron, zone, start, end)) == expected, (name, change, cron.expression)
                if expected:
                    latest = last_until(cron, milliseconds(start), milliseconds(end), zone)
                    assert latest == milliseconds(expected[-1])
                compared += len(expected)
    return compared


def test_every_change_of_the_clock_in_2026_in_every_zone() -> None:
    names = representatives(2026, 2026)

    assert len(available_timezones()) > 500
    assert len(names) > 15
    assert check_changes(names, 2026, 2026, timedelta(hours=5)) > 2_000


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_every_change_of_the_clock_from_2020_to_2030_in_every_zone() -> None:
    names = representatives()

    assert len(names) > 20
    assert check_changes(names) > 100_000


@pytest.mark.parametrize(
    "name",
    ["Europe/Berlin", "America/Havana", "Australia/Lord_Howe", "Asia/Beirut", "Africa/Casablanca", "Antarctica/Troll"],
)
def test_changes_of_the_clock_of_remarkable_zones(name: str) -> None:
    for change, before, after in changes_of(name, 2024, 2025)[:2]:
        zone, start, end = ZoneInfo(name), change - timedelta(hours=8), change + timedelta(hours=8)
        assert before != after
        for text, names_hours, fits in SCHEDULES:
            expected = list(ticks_by_oracle(zone, start, end, names_hours=names_hours, fits=fits))
            assert list(ticks_by_schedule(Cron(text), zone, start, end)) == expected, (change, text)


def test_an_interval_does_not_look_at_the_wall_clock() -> None:
    zone = ZoneInfo("Europe/Berlin")
    change = milliseconds(changes_of("Europe/Berlin", 2025, 2025)[0][0])
    ticks = [change - 7_200_000]
    for _ in range(8):
        found = every("30m").next_after(ticks[-1], zone)
        assert found is not None
        ticks.append(found)
    assert {later - earlier for earlier, later in itertools.pairwise(ticks)} == {1_800_000}
