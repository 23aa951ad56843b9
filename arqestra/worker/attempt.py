"""One attempt at a job on this worker: what is known of it while it lasts."""

import asyncio
from collections.abc import Callable
from typing import Any

from arq.utils import ms_to_datetime

from ..current import RunningJob
from ..limits import place_in_flow
from ..outcome import CancelReason
from ..store.records import LeasedJob
from ..wire import Payload
from .terms import Terms

__all__ = ("UNKNOWN", "Attempt")

UNKNOWN = Payload("<unknown>", (), {}, None, 0, {})


class Attempt:
    """An attempt, from its lease to its outcome.

    :ivar leased: the job and its lease
    :ivar payload: what was enqueued; `UNKNOWN` until it is decoded
    :ivar args, kwargs: what the function is called with: the payload's, rebuilt where the serializer leaves plain data
    :ivar input: the parent's value, if the node gets one
    :ivar terms: what runs it, and within which limits
    :ivar job_try: number of the attempt, from 1
    :ivar ref: how the log names it
    :ivar started_ms: when the function was called; 0 if it was not
    :ivar ended_ms: when it returned
    :ivar ctx: the function's first argument
    :ivar carry: headers for the next attempt; None where no middleware runs
    :ivar task: the task that it runs in
    :ivar reason: why it was cancelled by the worker
    :ivar interrupt: called in place of cancelling its task; of workflows
    :ivar calling: the function is running, so a cancellation reaches it and nothing else
    :ivar submitted: its outcome was handed over
    :ivar warning: its soft limit is over, and its coroutine has not been told yet
    :ivar postponed: the soft limit and another cancellation came at once, and the coroutine got the other one
    :ivar acknowledged: resolved when Redis knows that it is not to run again; of early acknowledgement
    :ivar written: resolved when Redis has taken the outcome; only where somebody waits for that
    """

    __slots__ = (
        "acknowledged",
        "args",
        "calling",
        "carry",
        "ctx",
        "ended_ms",
        "input",
        "interrupt",
        "job_try",
        "kwargs",
        "leased",
        "payload",
        "postponed",
        "reason",
        "ref",
        "started_ms",
        "submitted",
        "task",
        "terms",
        "warning",
        "written",
    )

    def __init__(self, leased: LeasedJob, terms: Terms) -> None:
        self.leased = leased
        self.terms = terms
        self.payload = UNKNOWN
        self.args: tuple[Any, ...] = ()
        self.kwargs: dict[str, Any] = {}
        self.input: tuple[Any, ...] = ()
        self.job_try = leased.attempt
        self.ref = leased.id
        self.started_ms = self.ended_ms = 0
        self.ctx: dict[Any, Any] = {}
        self.carry: dict[str, str] | None = None
        self.task: asyncio.Task[None] | None = None
        self.interrupt: Callable[[CancelReason], None] | None = None
        self.reason: CancelReason | None = None
        self.calling = False
        self.submitted = False
        self.warning = self.postponed = False
        self.written: asyncio.Future[bool] | None = None
        self.acknowledged: asyncio.Future[bool] | None = None

    @property
    def node(self) -> tuple[str, int] | None:
        """The flow and the number of the node that it is, if it is one."""
        return place_in_flow(self.leased.spec)

    @property
    def is_too_late(self) -> bool:
        """Whether it must not start any more: after its deadline; a node of a flow has so long from its release on."""
        leased, options = self.leased, self.payload.options
        deadline_ms = options.get("x")
        if deadline_ms is None and leased.attempt == 1 and "xr" in options:
            deadline_ms = leased.due_ms + options["xr"]
        return deadline_ms is not None and leased.claimed_ms > deadline_ms

    def cancel(self, reason: CancelReason) -> None:
        """Cancel the job's coroutine, once; afterwards, while its outcome is handed over, this does nothing."""
        if self.reason is None and self.calling and self.task is not None:
            self.reason = reason
            if self.interrupt is not None:
                self.interrupt(reason)
            else:
                self.task.cancel()

    def warn(self) -> None:
        """The soft limit is over: interrupt the coroutine, unless it is being cancelled anyhow."""
        if self.reason is None and self.calling and self.task is not None:
            self.warning = True
            self.task.cancel()

    def take_warning(self) -> bool:
        """Whether a cancellation that arrived is that of the soft limit; if so, it is none any more."""
        warned, self.warning = self.warning, False
        if not warned or self.reason is not None or self.task is None:
            return False
        # Otherwise somebody cancelled the task as well: maybe an `asyncio.timeout` in the function, which it outlives.
        self.postponed = self.task.uncancel() > 0
        return not self.postponed

    def warn_again(self) -> None:
        """Interrupt the coroutine at its next await, if it has outlived what cancelled it along with the soft limit."""
        if self.task is not None and self.task.cancelling() == 0:
            self.postponed = False
            self.warn()

    def view(self) -> RunningJob:
        """What `current_job()` tells of it."""
        return RunningJob(
            self.leased.id,
            self.payload.function,
            self.leased.queue,
            self.job_try,
            ms_to_datetime(self.payload.enqueued_ms),
            self.ctx,
            self.payload.options.get("h") or {},
            {} if self.carry is None else self.carry,
        )
