"""What became of attempts in a test."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from ..definitions.coerce import coerce_value
from ..definitions.function import target_of
from ..definitions.redact import call_text, redacted, redacted_value
from ..protocol.serializers import Serializer
from ..protocol.wire import decode_result
from ..worker.run.attempt import Attempt
from ..worker.run.outcome import Outcome, State

__all__ = ("AttemptState", "Drained", "JobOutcome", "called_by", "name_of", "outcome_of")

AttemptState = Literal["complete", "failed", "retry", "snooze", "cancel", "aborted", "expired"]

_STATES: dict[State, AttemptState] = {
    State.COMPLETE: "complete",
    State.FAILED: "failed",
    State.DEAD: "failed",
    State.UNKNOWN: "failed",
    State.RETRIED: "retry",
    State.RELEASED: "retry",
    State.SNOOZED: "snooze",
    State.ABORTED: "aborted",
    State.EXPIRED: "expired",
}


def name_of(function: Any) -> str:
    """The name by which a function's jobs are stored.

    :param function: a name; a job function, also with options; a plain function
    """
    if isinstance(function, str):
        return function
    function = getattr(function, "function", function)  # of `f.options(...)`
    return str(getattr(function, "name", None) or getattr(function, "__qualname__", function))


def called_by(function: Any) -> Callable[..., Any] | None:
    """What is called, whatever the jobs of it are named; None if only a name is known."""
    return target_of(target_of(function) or "")  # a cron job may be one of a job function


@dataclass(frozen=True, repr=False)
class JobOutcome:
    """What became of one attempt.

    :ivar state: "complete", "failed"; "retry" and "snooze", which run it again after `delay_s`; "cancel", which it
        asked for; "aborted", "expired"
    :ivar value: what the function returned, as the serializer gives it back; None unless it is complete
    :ivar error: what ended the attempt, if that was an error
    :ivar delay_s: seconds until it runs again
    :ivar job_id, function, args, kwargs, queue, job_try: which attempt it was
    :ivar target: the function that was called; None if the worker has none of this name
    """

    state: AttemptState
    value: Any = None
    error: BaseException | None = None
    delay_s: float | None = None
    job_id: str = ""
    function: str = ""
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict)
    queue: str = ""
    job_try: int = 1
    target: Callable[..., Any] | None = field(default=None, compare=False)

    def __repr__(self) -> str:
        """One line, without the values of arguments that are called password or the like."""
        args, kwargs = redacted(self.args, self.kwargs, self.target)
        text = f"{self.state} {self.function}({call_text(args, kwargs)})"
        text += f", try {self.job_try}" if self.job_try > 1 else ""
        text += f", again in {self.delay_s:g} s" if self.delay_s is not None else ""
        text += "" if self.error is None else "; ".join([f": {self.error!r}", *getattr(self.error, "__notes__", ())])
        return f"<{text} -> {redacted_value(self.value)!r}>" if self.state == "complete" else f"<{text}>"

    def result(self) -> Any:
        """The value; raises the error of an attempt that is not complete.

        :raises BaseException: `error`
        :raises RuntimeError: it is to run again, without an error
        """
        if self.state == "complete":
            return self.value
        if self.error is not None:
            raise self.error
        raise RuntimeError(f"expected a complete attempt at {self.function}, got {self.state}")


def outcome_of(attempt: Attempt, outcome: Outcome, serializer: Serializer) -> JobOutcome | None:
    """What became of an attempt, for people; None where a workflow waits, or a limit holds the job back."""
    state = _STATES.get(outcome.state)
    if state is None:
        return None
    again = state in ("retry", "snooze")
    error = outcome.value if isinstance(outcome.value, BaseException) and state != "snooze" else None
    if state == "aborted" and attempt.reason is None and attempt.started_ms:
        state = "cancel"
    return JobOutcome(
        state=state,
        value=_value_of(attempt, outcome, serializer) if state == "complete" else None,
        error=error if state != "complete" else None,
        delay_s=outcome.delay_ms / 1000 if again else None,
        job_id=attempt.leased.id,
        function=attempt.payload.function,
        args=tuple(attempt.args or attempt.payload.args),
        kwargs=dict(attempt.kwargs or attempt.payload.kwargs),
        queue=attempt.leased.queue,
        job_try=attempt.job_try,
        target=called_by(attempt.options.function or ""),
    )


def _value_of(attempt: Attempt, outcome: Outcome, serializer: Serializer) -> Any:
    """What `Job.result()` returns; where no result is kept, what the function returned."""
    if attempt.result is None:
        return outcome.value
    value = decode_result(serializer, attempt.result)[0].result
    return coerce_value(getattr(attempt.options.function, "result_type", Any), value) if serializer.plain else value


@dataclass(repr=False)
class Drained:
    """What a `drain` has run.

    :ivar outcomes: of each attempt, in the order of their ends
    """

    outcomes: list[JobOutcome] = field(default_factory=list)

    def _count(self, state: AttemptState) -> int:
        return Counter(outcome.state for outcome in self.outcomes)[state]

    @property
    def complete(self) -> int:
        """Jobs that are complete."""
        return self._count("complete")

    @property
    def failed(self) -> int:
        """Jobs that failed for good."""
        return self._count("failed")

    @property
    def retried(self) -> int:
        """Attempts after which the job ran again."""
        return self._count("retry")

    @property
    def snoozed(self) -> int:
        """Attempts that put their job off."""
        return self._count("snooze")

    @property
    def cancelled(self) -> int:
        """Jobs that ended themselves by `Cancel`."""
        return self._count("cancel")

    @property
    def aborted(self) -> int:
        """Jobs that somebody has aborted."""
        return self._count("aborted")

    @property
    def expired(self) -> int:
        """Jobs that were too late to start."""
        return self._count("expired")

    def of(self, function: Any) -> list[JobOutcome]:
        """The outcomes of one function's attempts.

        :param function: its name, or the function itself; then also those of cron jobs that call it
        """
        name, target = name_of(function), called_by(function)
        return [
            outcome
            for outcome in self.outcomes
            if outcome.function == name or (target is not None and outcome.target == target)
        ]

    def __repr__(self) -> str:
        counts = Counter(outcome.state for outcome in self.outcomes)
        return f"<Drained {', '.join(f'{count} {state}' for state, count in counts.items()) or 'nothing'}>"
