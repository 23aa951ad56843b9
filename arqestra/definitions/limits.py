"""Limits that hold for the whole fleet: how often jobs start, and how many run at once.

Pure values: what a limit is, and which limits one job has. Redis judges them when a worker claims the job: "Limits" in
docs/protocols.md.
"""

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from ..errors import ArgumentsError, SettingsError
from .redact import shown_value

__all__ = (
    "ConcurrencyLimit",
    "Entry",
    "KeyFunction",
    "RateLimit",
    "concurrency_entry",
    "concurrency_of",
    "encode_limit_spec",
    "flow_position",
    "is_position_only",
    "key_text",
    "limit_changes_of",
    "limit_spec_with",
    "queue_entry",
    "rate_entry",
    "rate_of",
    "schedule_entry",
)

# Called with the job's arguments (without ctx); the limit counts each value that it gives apart.
KeyFunction = Callable[..., Any]

_PERIODS_S = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_RATE = re.compile(r"(\d{1,9})/(\d{0,9})(s|m|h|d)", re.ASCII)
_MAX_COUNT = 1_000_000
_KEY_CHARACTERS = 80


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= _MAX_COUNT


@dataclass(frozen=True, slots=True)
class RateLimit:
    """At most so many starts in a period, by all workers together.

    Starts are spread evenly over the period, and up to `burst` of them may come at once after a quiet time (GCRA, the
    generic cell rate algorithm of ITU-T I.371, with a bucket of `burst`). In no window of a period do more than the
    limit and the burst start.

    :param rate: such as "10/m": a count, and the period s, m, h or d, also "10/5m"
    :param burst: how many may start at once
    :param key: a function of the job's arguments: the limit holds for each of its values; default one for all
    :param name: jobs of several functions share the limit of one name; default the function's
    :raises SettingsError: an impossible value
    """

    rate: str
    burst: int = 1
    key: KeyFunction | None = None
    name: str | None = None
    interval_ms: float = field(init=False, repr=False)

    def __post_init__(self) -> None:
        match = _RATE.fullmatch(self.rate) if isinstance(self.rate, str) else None
        if match is None or not 1 <= int(match[1]) <= _MAX_COUNT or (match[2] and not 1 <= int(match[2]) <= _MAX_COUNT):
            raise SettingsError(
                f"rate limit: expected a count and a period, such as '10/m' (periods s, m, h, d, also '10/5m'), "
                f"got {shown_value(self.rate)}"
            )
        if not _is_count(self.burst):
            raise SettingsError(f"rate limit: burst: expected an int of at least 1, got {shown_value(self.burst)}")
        _check_key_and_name("rate limit", self.key, self.name)
        period_s = int(match[2] or 1) * _PERIODS_S[match[3]]
        object.__setattr__(self, "interval_ms", period_s * 1000 / int(match[1]))


@dataclass(frozen=True, slots=True)
class ConcurrencyLimit:
    """At most so many jobs at once, on all workers together.

    :param jobs: how many
    :param key: a function of the job's arguments: the limit holds for each of its values; default one for all
    :param name: jobs of several functions share the limit of one name; default the function's
    :raises SettingsError: an impossible value
    """

    jobs: int
    key: KeyFunction | None = None
    name: str | None = None

    def __post_init__(self) -> None:
        if not _is_count(self.jobs):
            raise SettingsError(f"concurrency limit: expected an int of at least 1, got {shown_value(self.jobs)}")
        _check_key_and_name("concurrency limit", self.key, self.name)


def _check_key_and_name(what: str, key: Any, name: Any) -> None:
    if key is not None and not callable(key):
        raise SettingsError(f"{what}: key: expected a function of the job's arguments, got {key!r}")
    if name is not None and not (isinstance(name, str) and name):
        raise SettingsError(f"{what}: name: expected a str, got {name!r}")


def rate_of(value: Any) -> RateLimit | None:
    """The limit that an option means: None, a `RateLimit`, or text such as "10/m"."""
    return value if value is None or isinstance(value, RateLimit) else RateLimit(value)


def concurrency_of(value: Any) -> ConcurrencyLimit | None:
    """The limit that an option means: None, a `ConcurrencyLimit`, or a number of jobs."""
    return value if value is None or isinstance(value, ConcurrencyLimit) else ConcurrencyLimit(value)


def key_text(key: KeyFunction | None, args: Sequence[Any], kwargs: Mapping[str, Any], what: str) -> str:
    """The value by which a limit or lock counts one job; '' without a key function.

    :raises ArgumentsError: the key function does not take these arguments, or failed
    """
    if key is None:
        return ""
    try:
        text = str(key(*args, **kwargs))
    except Exception as error:
        raise ArgumentsError(f"{what}: its key function failed: {type(error).__name__}: {error}") from error
    if len(text) > _KEY_CHARACTERS:
        digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
        return f"{text[: _KEY_CHARACTERS - 33]}~{digest[:32]}"
    return text


Entry = tuple[Any, ...]
_OF_SCHEDULES = "s:"


def rate_entry(limit: RateLimit, function: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Entry:
    """One rate limit of one job, as the scripts read it."""
    key = key_text(limit.key, args, kwargs, f"rate limit of {function}")
    return ("r", f"r:{limit.name or function}:{key}", limit.interval_ms, limit.burst)


def concurrency_entry(limit: ConcurrencyLimit, function: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Entry:
    """One concurrency limit of one job, as the scripts read it."""
    key = key_text(limit.key, args, kwargs, f"concurrency limit of {function}")
    return ("c", f"c:{limit.name or function}:{key}", limit.jobs)


def schedule_entry(name: str) -> Entry:
    """The limit of a schedule whose runs wait for each other. Workers know that it is not the function's."""
    return ("c", f"{_OF_SCHEDULES}{name}", 1)


def queue_entry(queue: str, jobs: int) -> Entry:
    """The concurrency limit of a whole queue."""
    return ("c", f"q:{queue}", jobs)


_encoder = msgspec.msgpack.Encoder()


def encode_limit_spec(entries: Sequence[Entry]) -> bytes:
    """The limits and locks of one job as the scripts read them; b'' for none. Equal entries give equal bytes."""
    return _encoder.encode(entries) if entries else b""


def is_position_only(limit_spec: bytes) -> bool:
    """Whether a limit spec has no limits or locks: it is empty, `[["n", ...]]` or `[["s", ...]]`."""
    return not limit_spec or (limit_spec[0] == 0x91 and limit_spec[3:4] in (b"n", b"s"))


def flow_position(limit_spec: bytes) -> tuple[str, int] | None:
    """The flow of a job, and its number there; None if it is in no flow."""
    for entry in msgspec.msgpack.decode(limit_spec) if limit_spec else ():
        if entry[0] == "n":
            return entry[1], entry[2]
    return None


def limit_spec_with(limit_spec: bytes, limits: Sequence[Entry]) -> bytes:
    """A job's limit spec with other limits. Its locks and its flow position stay, and the count of changes goes up.

    :returns: the same bytes if these are the limits that it has
    """
    known = msgspec.msgpack.decode(limit_spec) if limit_spec else []
    others = [entry for entry in known if entry[0] not in ("r", "c") or entry[1].startswith(_OF_SCHEDULES)]
    if encode_limit_spec([*limits, *others]) == limit_spec:
        return limit_spec
    kept = [entry for entry in others if entry[0] != "v"]
    changes = [("v", limit_changes_of(limit_spec) + 1)] if limits else []
    return encode_limit_spec([*limits, *changes, *kept])


def limit_changes_of(limit_spec: bytes) -> int:
    """How many times workers have changed the limits of a job."""
    known = msgspec.msgpack.decode(limit_spec) if limit_spec else []
    return next((entry[1] for entry in known if entry[0] == "v"), 0)
