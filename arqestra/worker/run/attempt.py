"""One attempt at a job on this worker: what is known of it while it lasts."""

import asyncio
import enum
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

from arq.utils import ms_to_datetime

from ...definitions.context import JobContext, RunningJob
from ...definitions.limits import flow_position
from ...protocol.clock import timestamp_ms
from ...protocol.progress import LOG_LINES, checked_progress, encode_line, line_text
from ...protocol.recent_jobs import Failure
from ...protocol.tracebacks import traceback_of
from ...protocol.wire import Payload
from ...store.records import LeasedJob
from .effective_options import EffectiveOptions
from .outcome import CancelReason, State

__all__ = ("CALLING", "UNKNOWN", "Attempt", "Phase", "ProgressNote", "SoftLimit", "UnwrittenProgress")

UNKNOWN = Payload("<unknown>", (), {}, job_try=None, enqueued_ms=0, options={})


class Phase(enum.Enum):
    """How far an attempt has come."""

    LEASED = "leased"  # its function was not called yet
    CALLING = "calling"  # its function runs: a cancellation reaches it, and nothing else
    RETURNED = "returned"  # its outcome is decided
    HANDED_OVER = "handed over"  # Redis is about to be told
    STUCK = "stuck"  # handed over, while its function still runs: it does not end after its time limit


class SoftLimit(enum.Enum):
    """What the soft limit has done to the function."""

    QUIET = "quiet"
    CANCELLED = "cancelled"  # its task was cancelled for it, and the function has not been told yet
    POSTPONED = "postponed"  # another cancellation came at the same time, and the function got that one


# By their own names where each job needs them: before Python 3.12 an `Enum` looks its members up in Python.
LEASED, CALLING, RETURNED, HANDED_OVER, STUCK = Phase
QUIET = SoftLimit.QUIET


class ProgressNote(NamedTuple):
    """Progress that a job told."""

    done: float
    total: float | None
    message: str
    at_ms: int


class UnwrittenProgress:
    """Progress and log lines of a job that are not written yet.

    :ivar latest: its latest progress
    :ivar unwritten: whether `latest` is still to be written
    :ivar listed: the progress buffer is about to read it
    :ivar lines: encoded
    :ivar writes: so far
    """

    __slots__ = ("latest", "lines", "listed", "unwritten", "writes")

    def __init__(self) -> None:
        self.latest: ProgressNote | None = None
        self.unwritten = self.listed = False
        self.lines: deque[bytes] = deque(maxlen=LOG_LINES)
        self.writes = 0


class Attempt:
    """An attempt, from its lease to its outcome.

    :ivar leased: the job and its lease
    :ivar payload: what was enqueued; `UNKNOWN` until it is decoded
    :ivar args, kwargs: what the function is called with: the payload's, coerced where the serializer gives plain data
    :ivar input: the parent's value, if the node gets one
    :ivar options: what runs it, and within which limits
    :ivar noted: called when the job has told something of itself
    :ivar job_try: number of the attempt, from 1
    :ivar ref: how the log names it
    :ivar started_ms: when the function was called; 0 if it was not
    :ivar ended_ms: when it returned
    :ivar ctx: the function's first argument
    :ivar carry: headers for the next attempt; None where no middleware runs
    :ivar task: the task that it runs in
    :ivar reason: why it was cancelled by the worker
    :ivar interrupt: called in place of cancelling its task; of workflows
    :ivar phase: how far it has come
    :ivar soft_limit: what its soft limit has done
    :ivar acknowledged: resolved when Redis knows that it is not to run again; of early acknowledgement
    :ivar ended: how it ended: the counters count it when Redis has taken the outcome. None: they do not count it
    :ivar notes: what it told of itself
    :ivar resolved: True: Redis has taken its outcome. False: its lease is lost. None: neither is known yet
    :ivar written: resolved when Redis has taken the outcome; only where somebody waits for that
    :ivar result: the encoded result of a job that is complete, until it is handed over
    :ivar traceback: the text of an error's traceback, and the id of the error
    :ivar unheard: the abort of another job that a task of this one awaited, and that its `TaskGroup` passed over
    """

    __slots__ = (
        "acknowledged",
        "args",
        "carry",
        "ctx",
        "ended",
        "ended_ms",
        "input",
        "interrupt",
        "job_try",
        "kwargs",
        "leased",
        "noted",
        "notes",
        "options",
        "payload",
        "phase",
        "reason",
        "ref",
        "resolved",
        "result",
        "soft_limit",
        "started_ms",
        "task",
        "traceback",
        "unheard",
        "written",
    )

    def __init__(
        self, leased: LeasedJob, options: EffectiveOptions, noted: "Callable[[Attempt], None]" = lambda attempt: None
    ) -> None:
        self.leased = leased
        self.noted = noted
        self.options = options
        self.payload = UNKNOWN
        self.args: tuple[Any, ...] = ()
        self.kwargs: dict[str, Any] = {}
        self.input: tuple[Any, ...] = ()
        self.job_try = leased.attempt
        self.ref = leased.id
        self.started_ms = self.ended_ms = 0
        self.ctx: dict[Any, Any] = {}  # a `JobContext`, once the job is about to run
        self.carry: dict[str, str] | None = None
        self.task: asyncio.Task[None] | None = None
        self.interrupt: Callable[[CancelReason], None] | None = None
        self.reason: CancelReason | None = None
        self.phase = LEASED
        self.ended: tuple[State, Failure | None] | None = None
        self.notes: UnwrittenProgress | None = None
        self.resolved: bool | None = None
        self.soft_limit = QUIET
        self.written: asyncio.Future[bool] | None = None
        self.acknowledged: asyncio.Future[bool] | None = None
        self.result: bytes | None = None
        self.unheard: asyncio.CancelledError | None = None
        self.traceback: tuple[int, str] | None = None

    @property
    def in_call(self) -> bool:
        """Its function runs."""
        return self.phase is CALLING or self.phase is STUCK

    @property
    def handed_over(self) -> bool:
        """Its outcome was handed over."""
        return self.phase is HANDED_OVER or self.phase is STUCK

    def hand_over(self) -> None:
        """Its outcome is decided, and on its way to Redis."""
        self.phase = STUCK if self.phase is CALLING else HANDED_OVER

    def end_call(self) -> None:
        """Its function has returned or raised."""
        self.phase = HANDED_OVER if self.phase is STUCK else RETURNED

    @property
    def node(self) -> tuple[str, int] | None:
        """The flow and the number of the node that it is, if it is one."""
        return flow_position(self.leased.spec)

    @property
    def deadline_ms(self) -> int | None:
        """When it must not start any more. A node of a flow has so long from its release on, where it was due first: an
        attempt that is due later finds the deadline in its payload.
        """
        options = self.payload.options
        deadline_ms: int | None = options.get("x")
        return self.leased.due_ms + options["xr"] if deadline_ms is None and "xr" in options else deadline_ms

    def context(self, ctx: dict[Any, Any]) -> JobContext:
        """What the function gets as its first argument.

        :param ctx: the worker's
        """
        return JobContext(
            ctx,
            job_id=self.leased.id,
            job_try=self.job_try,
            enqueue_time=ms_to_datetime(self.payload.enqueued_ms),
            score=self.leased.due_ms,
        )

    @property
    def own_kwargs(self) -> dict[str, Any]:
        """The keywords that its caller gave, without those that others have put beside them at the enqueue."""
        added = self.payload.options.get("w")
        return {name: self.kwargs[name] for name in self.kwargs if name not in added} if added else self.kwargs

    @property
    def is_too_late(self) -> bool:
        """Whether this attempt must not start any more: after its deadline."""
        deadline_ms = self.deadline_ms if self.payload.options else None
        return deadline_ms is not None and self.leased.claimed_ms > deadline_ms

    @property
    def lets_go(self) -> bool:
        """It is a workflow that is under way: told to, it leaves at a place from which it goes on."""
        return self.interrupt is not None and self.in_call

    def cancel(self, reason: CancelReason) -> None:
        """Cancel the job's coroutine, once; afterwards, while its outcome is handed over, this does nothing."""
        if self.reason is None and self.in_call and self.task is not None:
            self.reason = reason
            if self.interrupt is not None:
                self.interrupt(reason)
            else:
                self.task.cancel()

    def warn(self) -> None:
        """The soft limit is over: interrupt the coroutine, unless it is being cancelled anyhow."""
        if self.reason is None and self.in_call and self.task is not None:
            self.soft_limit = SoftLimit.CANCELLED
            self.task.cancel()

    def take_warning(self) -> bool:
        """Whether a cancellation that arrived is that of the soft limit; if so, it is none any more."""
        warned = self.soft_limit is SoftLimit.CANCELLED
        if warned:
            self.soft_limit = QUIET
        if not warned or self.reason is not None or self.task is None:
            return False
        # Otherwise somebody cancelled the task as well: maybe an `asyncio.timeout` in the function, which it outlives.
        if self.task.uncancel() > 0:
            self.soft_limit = SoftLimit.POSTPONED
        return self.soft_limit is QUIET

    def warn_again(self) -> None:
        """Interrupt the coroutine at its next await, if it has outlived what cancelled it along with the soft limit."""
        if self.task is not None and self.task.cancelling() == 0:
            self.soft_limit = QUIET
            self.warn()

    def take_unheard(self) -> BaseException:
        """The abort that nobody has heard. It is not kept: its traceback holds the frames that hold this."""
        unheard, self.unheard = self.unheard, None
        assert unheard is not None
        return unheard

    def tell_progress(self, done: float, total: float | None, message: str) -> None:
        """How far the job is; called by it, maybe in a thread."""
        notes = self._noting()
        notes.latest = ProgressNote(*checked_progress(done, total, message), timestamp_ms())
        notes.unwritten = True
        self.noted(self)

    def tell_line(self, text: object) -> None:
        """A line of the job's log; called by it, maybe in a thread."""
        self._noting().lines.append(encode_line(timestamp_ms(), self.job_try, line_text(text)))
        self.noted(self)

    def _noting(self) -> UnwrittenProgress:
        if self.notes is None:
            self.notes = UnwrittenProgress()
        return self.notes

    def traceback_of(self, error: BaseException) -> str:
        """The text of the traceback, made once for the log, the result and the history."""
        if self.traceback is None or self.traceback[0] != id(error):
            self.traceback = (id(error), traceback_of(error))
        return self.traceback[1]

    def view(self) -> RunningJob:
        """What `current_job()` tells of it."""
        return RunningJob(
            job_id=self.leased.id,
            function=self.payload.function,
            queue=self.leased.queue,
            job_try=self.job_try,
            enqueue_time=ms_to_datetime(self.payload.enqueued_ms),
            ctx=self.ctx,
            headers=self.payload.options.get("h") or {},
            carry={} if self.carry is None else self.carry,
        )
