"""What the steps of a workflow give in a test: `run_workflow(..., answers={...})`."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..definitions.durations import Duration, seconds_of
from ..definitions.function import JobFunction
from ..definitions.redact import call_text
from ..errors import ArgumentsError
from .outcomes import JobOutcome
from .perform import perform

__all__ = ("Answer", "Answers", "Takes", "takes")


@dataclass(frozen=True)
class Takes:
    """An answer that comes only after a while; made by `takes`."""

    delay_ms: int
    answer: Any


def takes(duration: Duration, answer: Any = None) -> Takes:
    """An answer for which the step takes so long, on the workflow's clock. Other steps take no time.

    :param duration: seconds, a timedelta or text such as "90s"
    :param answer: as any other: a value, an exception, or a callable
    :raises SettingsError: an impossible duration
    """
    return Takes(round(seconds_of(duration, "takes", zero=True) * 1000), answer)


class Answer:
    """The answer to one call of a step.

    :param what: a value, an exception or its class, or a callable, maybe in a `Takes`
    :param name: of the function that is called
    """

    def __init__(self, what: Any, name: str) -> None:
        self.delay_ms = 0
        if isinstance(what, Takes):
            self.delay_ms, what = what.delay_ms, what.answer
        self._what = what
        self._name = name

    @property
    def error(self) -> BaseException | None:
        """What the step raises, if the answer is an exception or its class."""
        if isinstance(self._what, type) and issubclass(self._what, BaseException):
            return self._what()
        return self._what if isinstance(self._what, BaseException) else None

    async def value(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """The value that the step gives; raises what a callable raises, or an attempt that was performed.

        :raises AssertionError: an attempt is to run again
        """
        what = self._what
        if isinstance(what, JobFunction):
            return self._performed(await perform(what, *args, **kwargs))
        if not callable(what):
            return what
        value = what(*args, **kwargs)
        if inspect.isawaitable(value):
            value = await value
        return self._performed(value) if isinstance(value, JobOutcome) else value

    def _performed(self, attempt: JobOutcome) -> Any:
        if attempt.delay_s is not None:
            raise AssertionError(
                f"answers: {self._name}: expected how the step ends at last, got an attempt that runs again "
                f"({attempt.state}): {attempt.error!r}"
            )
        return attempt.result()

    def check_arguments(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        """Refuse a callable that does not take the step's arguments.

        :raises ArgumentsError: it does not
        """
        if callable(self._what) and self.error is None and not isinstance(self._what, JobFunction):
            self._check_arguments(self._what, args, kwargs)

    def _check_arguments(self, what: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        try:
            signature = inspect.signature(what)
        except (TypeError, ValueError):  # of a function in C that does not say
            return
        try:
            signature.bind(*args, **kwargs)
        except TypeError as error:
            raise ArgumentsError(
                f"answers: the one of {self._name}: expected a callable that takes the step's arguments (without ctx), "
                f"got {what!r}, called with ({call_text(args, kwargs)}): {error}"
            ) from None


class Answers:
    """The answers of one test, by the names of functions.

    :param given: job function, function of a side effect, or name -> answer, or a list of answers for successive calls
    :raises ArgumentsError: a key is none of these
    """

    def __init__(self, given: Mapping[Any, Any]) -> None:
        if not isinstance(given, Mapping):
            raise ArgumentsError(f"answers: expected a dictionary of functions or names, got {given!r}")
        self._given = {_name_of(key): answer for key, answer in given.items()}
        self._calls: dict[str, int] = dict.fromkeys(self._given, 0)

    def __contains__(self, name: str) -> bool:
        return name in self._given

    @property
    def names(self) -> str:
        """Whom there are answers for, for people."""
        return ", ".join(self._given) or "nothing"

    def next(self, name: str) -> Answer:
        """The answer to the next call of a function.

        :raises AssertionError: its list has no more
        """
        given, self._calls[name] = self._given[name], self._calls[name] + 1
        if not isinstance(given, list):
            return Answer(given, name)
        count = self._calls[name]
        if count > len(given):
            raise AssertionError(
                f"answers: {name} has a list of {len(given)} answers, one for each call, and is called once more; a "
                "step that returns a list needs a list in a list, or a lambda"
            )
        return Answer(given[count - 1], name)


def _name_of(key: Any) -> str:
    if isinstance(key, str):
        return key
    if isinstance(key, JobFunction):
        return key.name
    name = getattr(key, "__qualname__", None)
    if not callable(key) or not isinstance(name, str):
        raise ArgumentsError(f"answers: expected job functions, functions or names as keys, got {key!r}")
    return name
