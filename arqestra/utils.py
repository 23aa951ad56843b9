"""The names of `arq.utils`, for code that imports them from there. arqestra's own code is not in this module."""

import sys

from arq.constants import timezone_env_vars
from arq.utils import (
    DEFAULT_CURTAIL,
    args_to_string,
    as_int,
    get_tz,
    import_string,
    logger,
    ms_to_datetime,
    poll,
    to_ms,
    to_seconds,
    to_unix_ms,
    truncate,
)

from .drop_in.modules import DropInModule
from .protocol.clock import timestamp_ms

__all__ = (
    "DEFAULT_CURTAIL",
    "args_to_string",
    "as_int",
    "get_tz",
    "import_string",
    "logger",
    "ms_to_datetime",
    "poll",
    "timestamp_ms",
    "timezone_env_vars",
    "to_ms",
    "to_seconds",
    "to_unix_ms",
    "truncate",
)

sys.modules[__name__].__class__ = DropInModule
