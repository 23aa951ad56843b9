"""What `run_workflow` returns: how a workflow ended, its steps, its history."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Literal

__all__ = ("Step", "StepState", "WorkflowOutcome", "WorkflowState")

StepState = Literal["complete", "failed", "aborted", "waiting"]
WorkflowState = Literal["complete", "failed", "aborted", "waiting"]


@dataclass(frozen=True)
class Step:
    """A step that a workflow asked for.

    :ivar number: from 1 in each run of the workflow; timers and side effects have numbers too
    :ivar function: name of the function
    :ivar args, kwargs: its arguments without ctx, as the job would get them
    :ivar after: how long after the workflow's start it was asked for
    :ivar state: how it ended; "waiting": it had not ended when the workflow did
    :ivar value: what it gave
    :ivar error: what it raised
    :ivar steps: of a workflow that ran as a step: its steps
    """

    number: int
    function: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    after: timedelta
    state: StepState = "waiting"
    value: Any = None
    error: BaseException | None = None
    steps: tuple[Step, ...] = ()


@dataclass(frozen=True)
class WorkflowOutcome:
    """How a workflow ended in a test.

    :ivar state: "complete", "failed", "aborted"; "waiting": it had not ended when the time of `until` was over
    :ivar value: what it returned, as the serializer gives it back
    :ivar error: what it raised, or why it was aborted
    :ivar steps: its steps in the order in which it asked for them, over all its runs
    :ivar elapsed: the time that passed in it
    :ivar runs: how often its function began: 1, and 1 more for each `continue_as_new`
    :ivar waits_for: names of the events that it waits for
    :ivar history: a document as `pool.export_workflow` gives it, of the last run; `replay` takes it
    """

    state: WorkflowState
    value: Any
    error: BaseException | None
    steps: tuple[Step, ...]
    elapsed: timedelta
    runs: int
    waits_for: tuple[str, ...]
    history: dict[str, Any] = field(repr=False)
    _histories: Callable[[], Iterator[dict[str, Any]]] = field(repr=False, compare=False)

    def result(self) -> Any:
        """The value; raises the error of one that did not complete.

        :raises BaseException: `error`
        :raises AssertionError: it has not ended
        """
        if self.state == "complete":
            return self.value
        if self.error is not None:
            raise self.error
        waits = f"; it waits for {', '.join(map(repr, self.waits_for))}" if self.waits_for else ""
        raise AssertionError(f"expected a workflow that has ended, it waits after {self.elapsed}{waits}")

    def calls(self, function: Any) -> list[Step]:
        """The steps of one function, also those in workflows that ran as steps.

        :param function: a job function, or its name
        """
        name = function if isinstance(function, str) else function.name
        return [step for step in _all_steps(self.steps) if step.function == name]

    def histories(self) -> Iterator[dict[str, Any]]:
        """A history of each place where it waited, in each of its runs, and the one of its end.

        Each is what Redis would have of a workflow that stood there when a new version of the code came.
        """
        return self._histories()


def _all_steps(steps: tuple[Step, ...]) -> Iterator[Step]:
    for step in steps:
        yield step
        yield from _all_steps(step.steps)
