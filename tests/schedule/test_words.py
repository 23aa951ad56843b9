"""Schedules in words."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from arqestra import at, crontab, every, schedule
from arqestra.scheduling.timing import Cron, Timing
from arqestra.scheduling.words import duration_in_words, in_words


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
        (Cron("0 0 L * *"), "at 00:00 on the last day of every month, Asia/Seoul"),
        (Cron("0 0 * * MON#2"), "at 00:00 on the second Monday of the month, Asia/Seoul"),
        (Cron("0 0 * * 5L"), "at 00:00 on the last Friday of the month, Asia/Seoul"),
        # Steps that do not divide the hour or the day are not told as if they went on.
        (Cron("0 */7 * * *"), "at minute 0 past every seventh hour, Asia/Seoul"),
        (Cron("*/7 * * * *"), "every seventh minute of every hour, Asia/Seoul"),
        # One of both days is enough, or both have to fit.
        (Cron("0 0 13 * FRI"), "at 00:00 on the 13th day of month and on Friday, Asia/Seoul"),
        (Cron("0 0 13 * FRI", all_days=True), "at 00:00 on the 13th day of month if it's on Friday, Asia/Seoul"),
        (every(60), "every minute"),
        (every(90), "every 1 minute 30 seconds"),
        (every("2d"), "every 2 days"),
        (every("1h"), "every hour"),
        (every(0.25), "every 250 ms"),
        (at("2030-01-31 09:00"), "once, at 2030-01-31 09:00:00, Asia/Seoul"),
        (at(datetime(2030, 1, 31, 9, tzinfo=UTC)), "once, at 2030-01-31 09:00:00+00:00"),
    ],
    ids=str,
)
def test_when_it_is_due_in_words(timing: Timing, words: str) -> None:
    assert in_words(timing, "Asia/Seoul") == words


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
    assert duration_in_words(duration_ms) == words


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


def test_a_schedule_without_zone_says_whose_it_is() -> None:
    assert schedule("0 9 * * *", "report").words == "at 09:00 every day, UTC or the worker's time zone"
    assert schedule("0 9 * * *", "report").in_zone(UTC).words == "at 09:00 every day, UTC"
