"""Arguments of jobs: how commands take them, and how they are shown. Commands show only what `shown` returns.

`shown` masks secrets. It knows the parameters of a function if the workers' settings class is given; else it judges
positional arguments by the keys and fields in them.
"""

import contextlib
import json
import os
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from arq.utils import import_string

from ..definitions.durations import LONGEST_S, seconds_of
from ..definitions.redact import Redactor, redacted, redactor_of, shown_value
from ..errors import SettingsError
from ..protocol.clock import timestamp_ms
from ..scheduling.timing import datetime_of_text
from ..worker.settings import FUNCTIONS, WorkerOptions
from .output import compact

__all__ = (
    "ShownArguments",
    "duration_s",
    "in_line",
    "json_arguments",
    "json_value",
    "learn_signatures",
    "moment",
    "shown",
    "since_ms",
)

_redactors: dict[str, Redactor] = {}  # by the name of the function


def learn_signatures(settings: str | None) -> None:
    """Learn which arguments are secret from the functions of a settings class, and forget all other functions.

    :param settings: its import string, relative to the current folder; None for none
    :raises SettingsError: there is no such class
    """
    _redactors.clear()
    if settings is None:
        return
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        with contextlib.redirect_stdout(sys.stderr):  # what the module prints must not get into a JSON document
            _learn(settings)
    except (Exception, SystemExit) as error:  # a module may run anything, also end the process
        reason = str(error) if isinstance(error, ImportError | AttributeError | TypeError) else repr(error)
        reason = " ".join(reason.split())
        raise SettingsError(f"--settings: expected a settings class, as worker.WorkerSettings: {reason}") from None


def _learn(settings: str) -> None:
    found = import_string(settings)
    given = found["functions"] if isinstance(found, Mapping) else found.functions
    for each in WorkerOptions.of({"functions": given}).functions:
        function = import_string(each) if isinstance(each, str) else each
        if not callable(function):
            raise SettingsError(f"functions: expected {FUNCTIONS.expects}, got {shown_value(each)} among them")
        target = getattr(function, "sync_function", None) or getattr(function, "coroutine", function)
        name = getattr(function, "name", None) or target.__qualname__
        _redactors[name] = getattr(function, "redactor", None) or redactor_of(target)


class ShownArguments(NamedTuple):
    """Arguments with secrets masked."""

    args: list[Any]
    kwargs: dict[str, Any]


def shown(function: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> ShownArguments:
    """The arguments of a job with secrets masked.

    :param function: the name of its function
    """
    redactor = _redactors.get(function)
    shown_args, shown_kwargs = redacted(args, kwargs) if redactor is None else redactor.redacted(args, kwargs)
    return ShownArguments(list(shown_args), shown_kwargs)


def in_line(function: str, arguments: ShownArguments, limit: int = 60) -> str:
    """Arguments on one line: `'a.jpg', width=640`.

    :param limit: characters at most
    """
    parts = [compact(value, limit) for value in arguments.args]
    parts += [f"{name}={compact(value, limit)}" for name, value in arguments.kwargs.items()]
    text = ", ".join(parts)
    return text if len(text) <= limit else text[: limit - 1] + "…"


def json_arguments(args: str | None, kwargs: str | None) -> tuple[list[Any], dict[str, Any]]:
    """The values of `--args` and `--kwargs`.

    :raises SettingsError: they are not a JSON list and a JSON object
    """
    positional = _json(args, "--args", '[1, "a"]') if args is not None else []
    keywords = _json(kwargs, "--kwargs", '{"width": 640}') if kwargs is not None else {}
    if not isinstance(positional, list):
        raise SettingsError(f'--args: expected a JSON list such as [1, "a"], got {args}')
    if not isinstance(keywords, dict):
        raise SettingsError(f'--kwargs: expected a JSON object such as {{"width": 640}}, got {kwargs}')
    odd = [name for name in keywords if name.startswith("_")]
    if odd:
        raise SettingsError(
            f"--kwargs: expected names of the function's parameters, got {odd[0]!r}; see --help for options"
        )
    return positional, keywords


def json_value(text: str | None, option: str) -> Any:
    """The value of an option that is JSON; None without one.

    :raises SettingsError: it is no JSON
    """
    return None if text is None else _json(text, option, '{"paid": true}')


def _json(text: str, option: str, example: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise SettingsError(f"{option}: expected JSON such as {example}, got {text!r}: {error}") from None


def duration_s(text: str | None, option: str, most_s: float = LONGEST_S) -> float | None:
    """The seconds that an option gives: "60", "90s", "1h30m".

    :param most_s: the maximum
    :raises SettingsError: something else
    """
    if text is None:
        return None
    try:
        number: float | str = float(text)
    except ValueError:
        number = text
    return seconds_of(number, option, most_s=most_s)


def moment(text: str | None, option: str) -> datetime | None:
    """A time of an option, in ISO 8601, without an offset or the name of a zone behind it in local time.

    :raises SettingsError: something else
    """
    if text is None:
        return None
    try:
        found = datetime_of_text(text)
    except ValueError:
        raise SettingsError(f"{option}: expected a time such as 2026-12-24T18:00 or ...+01:00, got {text!r}") from None
    try:
        return found.astimezone() if found.tzinfo is None else found
    except (OverflowError, ValueError):  # the first or last day of the calendar, in another zone
        raise SettingsError(f"{option}: expected a time that a clock can show, got {text!r}") from None


def since_ms(text: str | None) -> int | None:
    """The time (ms) of `--since`: an ISO time, or how long ago ("2h").

    :raises SettingsError: something else
    """
    if text is None:
        return None
    try:
        found = moment(text, "--since")
    except SettingsError:
        try:
            length_s = duration_s(text, "--since", most_s=sys.float_info.max / 1000)
        except SettingsError:
            raise SettingsError(f"--since: expected a length such as 2h or a time in ISO 8601, got {text!r}") from None
        assert length_s is not None
        return max(0, timestamp_ms() - int(length_s * 1000))
    assert found is not None
    return max(0, int(found.timestamp() * 1000))
