"""The names of `arq.typing`: the types of arq's arguments, which are ours as well."""

from arq.typing import (
    WEEKDAYS,
    OptionType,
    SecondsTimedelta,
    StartupShutdown,
    WeekdayOptionType,
    WorkerCoroutine,
    WorkerSettingsBase,
    WorkerSettingsType,
)

__all__ = (
    "WEEKDAYS",
    "OptionType",
    "SecondsTimedelta",
    "StartupShutdown",
    "WeekdayOptionType",
    "WorkerCoroutine",
    "WorkerSettingsBase",
    "WorkerSettingsType",
)
