"""Numbers on which Python and the Lua scripts have to agree: each stands here, and nowhere else.

The scripts use them by their names, as they do with keys: `store/scripts.py` puts the values of `LUA` in the place of
the names. Data in Redis depends on most of them. A change is a migration.
"""

from collections.abc import Mapping
from typing import Final

from ..definitions.rules import MAX_PRIORITY

__all__ = (
    "BATCH",
    "CLOCK_TOLERANCE_MS",
    "EARLY_CRASHES",
    "LUA",
    "MAX_EVENTS",
    "NEVER_DUE_MS",
    "NODE_SEPARATOR",
    "PARKED_SCORE",
    "SPAN_MS",
    "TAKE_OVER_MS",
    "THROTTLED_SCORE",
    "WRITER_TTL_S",
)

# -- scores of a queue: `store/lua/_score.lua` explains them
SPAN_MS: Final = 10**13  # a step of the priority: longer than any time of day in ms
PARKED_SCORE: Final = (
    8_640_000_000_000_000  # the end of arq's datetime range. A workflow that waits for news; plus its priority
)
THROTTLED_SCORE: Final = 8_639_999_999_999_000  # a job that waits for its turn under a limit

# -- jobs
# An early acknowledgement sets the crash count of the job's lease record to this: more than any `max_crashes`. If the
# lease then runs out, the next claim counts one more: so a job with more crashes than this was acknowledged early.
EARLY_CRASHES: Final = 1_000
BATCH: Final = 1_000  # jobs per script call, and values that a script hands to one command: Lua's `unpack` takes 8,000

# -- flows
NODE_SEPARATOR: Final = "~"  # between a flow's id and a node's number in job ids: not usual in ids that people choose
MAX_EVENTS: Final = 30_000  # of a history: 10,000 steps and as many timers have their ends in it too

# -- schedules
NEVER_DUE_MS: Final = 9_000_000_000_000_000  # of a schedule that is paused or over, or that no process defines any more
TAKE_OVER_MS: Final = (
    45_000  # a process that was silent for so long has lost its schedules to whoever defines them differently
)
CLOCK_TOLERANCE_MS: Final = 5_000  # a clock that is set by more was wrong before

# -- statistics
WRITER_TTL_S: Final = 600  # the number of a writer's latest call is remembered for so long

LUA: Final[Mapping[str, int | str]] = {
    "SPAN_MS": SPAN_MS,
    "PARKED_SCORE": PARKED_SCORE,
    "THROTTLED_SCORE": THROTTLED_SCORE,
    "MAX_PRIORITY": MAX_PRIORITY,
    "EARLY_CRASHES": EARLY_CRASHES,
    "BATCH": BATCH,
    "NODE_SEPARATOR": NODE_SEPARATOR,
    "MAX_EVENTS": MAX_EVENTS,
    "NEVER_DUE_MS": NEVER_DUE_MS,
    "TAKE_OVER_MS": TAKE_OVER_MS,
    "CLOCK_TOLERANCE_MS": CLOCK_TOLERANCE_MS,
    "WRITER_TTL_S": WRITER_TTL_S,
}
