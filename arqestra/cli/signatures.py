"""What is secret among the arguments of jobs: judged by their parameters where the workers' settings class is given.

Without it the command line knows no function: positional arguments are judged by the keys and fields in them alone.
"""

import contextlib
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from arq.utils import import_string

from ..definitions.redact import Redactor, redacted, redactor_of, shown_value
from ..errors import SettingsError
from ..worker.settings import FUNCTIONS, WorkerOptions

__all__ = ("learn_signatures", "masked")

_redactors: dict[str, Redactor] = {}


def learn_signatures(settings: str | None) -> None:
    """Know the functions of a settings class, and no others.

    :param settings: its import string, relative to the current folder; None for none
    :raises SettingsError: there is no such class
    """
    _redactors.clear()
    if settings is None:
        return
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        with contextlib.redirect_stdout(sys.stderr):  # what the module prints must not be in a JSON document
            _learn(settings)
    except (Exception, SystemExit) as error:  # a module runs whatever its author likes, and may end the process
        latest = str(error) if isinstance(error, ImportError | AttributeError | TypeError) else repr(error)
        latest = " ".join(latest.split())
        raise SettingsError(f"--settings: expected a settings class, as worker.WorkerSettings: {latest}") from None


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


def masked(function: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Arguments with what is secret in them masked."""
    redactor = _redactors.get(function)
    return redacted(args, kwargs) if redactor is None else redactor.redacted(args, kwargs)
