"""The functions that a worker knows by their names."""

import inspect
import logging
from collections.abc import Iterable, Sequence
from typing import Any

from arq.cron import CronJob
from arq.utils import import_string
from arq.worker import Function, func

from ..definitions.decorator import job
from ..definitions.function import JobFunction, check_same_callable, target_of
from ..definitions.options import check_options
from ..definitions.redact import is_routine, shown_value
from ..errors import FunctionsError
from ..scheduling.crontab import checked_cron
from ..scheduling.definition import Schedule
from .settings import FUNCTIONS

__all__ = ("check_schedules", "registered")

logger = logging.getLogger("arq.worker")

Registered = Function | CronJob
_OPTIONS = ("timeout_s", "keep_result_s", "keep_result_forever", "max_tries", "queue", "job_options")


def registered(functions: Iterable[Any], cron_jobs: Sequence[CronJob]) -> dict[str, Registered]:
    """The functions by their names, those of cron jobs too.

    :raises SettingsError: two callables have one name, or an option has an impossible value
    """
    found: dict[str, Registered] = {}
    given: list[Registered] = [*map(_function, functions), *cron_jobs]
    for each in given:
        _check(each)
        before = found.get(each.name)
        if before is not None and before is not each:
            one, other = target_of(before), target_of(each)
            assert one is not None
            assert other is not None
            check_same_callable("functions and cron_jobs", each.name, one, other)
            if _options(before) != _options(each):
                logger.warning("%s is there twice, with different options: those of the last one count", each.name)
        found[each.name] = each
    return found


def check_schedules(schedules: Iterable[Schedule], functions: dict[str, Registered]) -> None:
    """Refuse schedules of a function of whose name the worker has another.

    :raises SettingsError: one is
    """
    for each in schedules:
        known = functions.get(each.function)
        if each.target is not None and known is not None:
            target = target_of(known)
            assert target is not None
            check_same_callable(f"functions and schedule {each.name!r}", each.function, target, each.target)


def _check(function: Registered) -> None:
    """What `@job`, our `func` and our `cron` have checked already; arq's have not."""
    if isinstance(function, JobFunction):
        return
    is_cron = isinstance(function, CronJob)
    check_options(
        f"{'cron_jobs' if is_cron else 'functions'}: {function.name}",
        {
            **{"timeout": function.timeout_s, "keep_result": function.keep_result_s},
            **{"keep_result_forever": function.keep_result_forever, "max_tries": function.max_tries},
        },
    )
    if isinstance(function, CronJob):
        check_options(f"cron_jobs: {function.name}", {"unique": function.unique, "job_id": function.job_id})
        checked_cron(function)


def _options(function: Registered) -> list[Any]:
    return [getattr(function, name, None) for name in _OPTIONS]


def _function(given: Any) -> Function:
    """What arq's `func` makes of it; of a plain function, what `@job` does.

    :raises FunctionsError: it is no function; in arq's words, with the setting's name before them
    """
    if isinstance(given, str):
        return _imported(given)
    if isinstance(given, Function):
        return given
    if not callable(given):
        raise FunctionsError(_not_among_functions(given))
    return _made(given, None)


def _imported(path: str) -> Function:
    """The function that an import string names."""
    if not all(part.isidentifier() for part in path.strip().split(".")):
        raise FunctionsError(f"functions: expected an import string, as jobs.send, got {shown_value(path)}")
    try:
        target = import_string(path)
    except ImportError as error:
        error.msg = f"functions: {shown_value(path)}: {error.msg}"  # it does not say where it was asked for
        raise
    return target if isinstance(target, Function) else _made(target, path)


def _made(target: Any, name: str | None) -> Function:
    if is_routine(target) and not inspect.iscoroutinefunction(target):
        made: Function = job(name=name)(target)
        return made
    if not inspect.iscoroutinefunction(target):
        raise FunctionsError(_not_among_functions(target))
    try:
        return func(target, name=name)
    except AttributeError:
        raise FunctionsError(
            f"functions: expected a function, or func(..., name=...) of what has no name of its own, got {target!r}"
        ) from None


def _not_among_functions(given: Any) -> str:
    return f"functions: expected {FUNCTIONS.expects}, got {shown_value(given)}, which is not a coroutine function"
