"""What stands in the queues: assertions, with messages that show it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from arq.jobs import DeserializationError
from arq.utils import truncate

from ..client.pool import Pool
from ..definitions.function import target_of
from ..definitions.redact import Redactor, call_text, redacted, redactor_of, shown_value
from ..errors import SettingsError
from ..protocol.clock import timestamp_ms
from ..protocol.serializers import Serializer
from ..protocol.wire import decode_payload
from ..store.find import find_queues
from ..store.queues import browse
from .clock import check_pool
from .drain import seconds_of_length
from .outcomes import name_of

__all__ = ("EnqueuedJob", "assert_enqueued", "enqueued", "refute_enqueued")

SHOWN = 20
LONGEST = 200


@dataclass(frozen=True, repr=False)
class EnqueuedJob:
    """A job that stands in a queue.

    :ivar function: its name
    :ivar args, kwargs: its arguments, as the serializer gives them back
    :ivar state: "queued", "deferred", "running", "held" by a limit, or "waiting": a workflow that waits for news
    :ivar due: when it is or became due; None if that is not known
    """

    job_id: str
    function: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    queue: str
    state: str
    due: datetime | None
    priority: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)

    def due_in_s(self) -> float:
        """Seconds until it is due; 0 or less if it is."""
        return 0.0 if self.due is None else self.due.timestamp() - timestamp_ms() / 1000

    def shown(self, target: Callable[..., Any] | None = None) -> str:
        """One line, without the values of arguments that are called password or the like.

        :param target: the function, which says what its positional arguments are called
        """
        call = call_text(*redacted(self.args, self.kwargs, target))
        when = f"due in {timedelta(seconds=round(self.due_in_s()))}" if self.state == "deferred" else self.state
        return f"{self.function}({call}) in {self.queue}, {when}"

    def __str__(self) -> str:
        return self.shown()

    def __repr__(self) -> str:
        return f"<{self}>"


async def enqueued(pool: Pool, function: Any = None, *, queue: str | None = None) -> list[EnqueuedJob]:
    """The jobs that have not ended, in the order of their due times.

    :param function: of this one only: its name, or the function itself
    :param queue: in this queue only; default all
    """
    check_pool("enqueued", pool)
    queues = [queue] if queue is not None else (await find_queues(pool.store))[0]
    name = None if function is None else name_of(function)
    found: list[EnqueuedJob] = []
    for each in queues:
        place = 0
        while place >= 0:
            page = await browse(pool.store, each, place=place)
            place = page.next_place
            for entry in page.entries:
                if entry.payload is None:
                    continue
                job = _job_of(pool, each, entry.id, entry.state, entry.due_ms, entry.payload)
                if name is None or job.function == name:
                    found.append(job)
    return sorted(found, key=lambda job: job.due_in_s())


def _job_of(pool: Pool, queue: str, job_id: str, state: str, due_ms: int | None, data: bytes) -> EnqueuedJob:
    due = None if due_ms is None else datetime.fromtimestamp(due_ms / 1000, UTC)
    try:
        payload = decode_payload(pool.serializer, data)
    except DeserializationError:
        return EnqueuedJob(job_id, "<not readable with the pool's serializer>", (), {}, queue, state, due)
    options = payload.options
    headers = options.get("h") or {}
    return EnqueuedJob(
        job_id, payload.function, payload.args, payload.kwargs, queue, state, due, options.get("p", 0), headers
    )


@dataclass(frozen=True)
class Wanted:
    """What is looked for.

    :ivar target: the function itself, if that was given
    :ivar serializer: of the pool
    :ivar stored: by its id, what an argument is that was stored and read
    """

    function: str
    target: Callable[..., Any] | None
    serializer: Serializer
    args: tuple[Any, ...] | None
    kwargs: dict[str, Any] | None
    queue: str | None
    due_within_s: float | None
    stored: dict[int, Any] = field(default_factory=dict)

    def differences(self, job: EnqueuedJob) -> list[str]:
        """What is otherwise; nothing if it is such a job."""
        found = []
        if job.function != self.function:
            found.append(f"function {job.function}")
        redactor = Redactor(None) if self.target is None else redactor_of(self.target)
        if self.args is not None and job.args != self.args:
            found += self._of_args(redactor, self.args, job.args)
        if self.kwargs is not None:
            found += self._of_kwargs(redactor, self.kwargs, job.kwargs)
        if self.queue is not None and job.queue != self.queue:
            found.append(f"queue {job.queue}")
        if self.due_within_s is not None and job.due_in_s() > self.due_within_s:
            found.append(f"due in {timedelta(seconds=round(job.due_in_s()))}")
        return found

    def _of_args(self, redactor: Redactor, wanted: tuple[Any, ...], got: tuple[Any, ...]) -> list[str]:
        shown, _ = redactor.redacted(got, {})
        if len(wanted) != len(got):
            return [f"{len(got)} positional arguments: {_short(shown)}"]
        pairs = enumerate(zip(wanted, got, strict=True))
        return [f"args[{place}] {_short(shown[place])}" for place, (one, other) in pairs if not self._same(one, other)]

    def _of_kwargs(self, redactor: Redactor, wanted: Mapping[str, Any], got: Mapping[str, Any]) -> list[str]:
        """Keywords that are not named may be there."""
        _, shown = redactor.redacted((), got)
        found = []
        for name, value in wanted.items():
            if name not in got:
                found.append(f"no {name}=")
            elif not self._same(value, got[name]):
                found.append(f"{name}={_short(shown[name])}")
        return found

    def _same(self, wanted: Any, got: Any) -> bool:
        """Whether this argument is such a one. A date is text in JSON, say."""
        return bool(wanted == got) or (self.serializer.plain and bool(self._stored(wanted) == got))

    def _stored(self, value: Any) -> Any:
        """The argument as a job has it that is enqueued with it."""
        if id(value) not in self.stored:
            try:
                as_it_is = self.serializer.loads(self.serializer.dumps(value))
            except Exception:  # it is no argument, but `mock.ANY` or the like
                as_it_is = value
            self.stored[id(value)] = as_it_is
        return self.stored[id(value)]

    def __str__(self) -> str:
        args, kwargs = redacted(self.args or (), self.kwargs or {}, self.target)
        call = ", ".join(filter(None, ["..." if self.args is None else "", call_text(args, kwargs)]))
        queue = "" if self.queue is None else f" in {self.queue}"
        due = "" if self.due_within_s is None else f" due within {timedelta(seconds=self.due_within_s)}"
        return f"{self.function}({call}){queue}{due}"


def _short(value: Any) -> str:
    return truncate(repr(value), LONGEST)


async def assert_enqueued(
    pool: Pool,
    function: Any,
    *,
    args: Any = None,
    kwargs: Mapping[str, Any] | None = None,
    queue: str | None = None,
    due_within: str | float | timedelta | None = None,
    count: int | None = None,
) -> list[EnqueuedJob]:
    """Fail unless such a job stands in a queue.

    :param function: its name, or the function itself
    :param args: all positional arguments after ctx
    :param kwargs: keyword arguments; others may be there, too
    :param queue: its queue
    :param due_within: it is due so soon (seconds, a timedelta, or text such as "1 hour")
    :param count: how many there are; default one at least
    :returns: those jobs
    :raises AssertionError: there are none, or another number; the message shows what there is
    """
    if count is not None and (type(count) is not int or count < 0):
        raise SettingsError(f"assert_enqueued: count: expected an int of at least 0, got {shown_value(count)}")
    wanted = _wanted(pool, function, args, kwargs, queue, due_within)
    jobs = await enqueued(pool)
    found = [job for job in jobs if not wanted.differences(job)]
    if len(found) != count if count is not None else not found:
        number = "one at least" if count is None else str(count)
        raise AssertionError(f"expected {number} of {wanted}, found {len(found)}\n{_shown(wanted, jobs)}")
    return found


async def refute_enqueued(
    pool: Pool,
    function: Any,
    *,
    args: Any = None,
    kwargs: Mapping[str, Any] | None = None,
    queue: str | None = None,
    due_within: str | float | timedelta | None = None,
) -> None:
    """Fail if such a job stands in a queue; parameters as of `assert_enqueued`.

    :raises AssertionError: there is one
    """
    wanted = _wanted(pool, function, args, kwargs, queue, due_within)
    jobs = await enqueued(pool)
    found = [job for job in jobs if not wanted.differences(job)]
    if found:
        raise AssertionError(f"expected no {wanted}, found {len(found)}\n{_shown(wanted, jobs)}")


def _wanted(
    pool: Pool,
    function: Any,
    args: Any,
    kwargs: Mapping[str, Any] | None,
    queue: str | None,
    due_within: str | float | timedelta | None,
) -> Wanted:
    check_pool("assert_enqueued", pool)
    if not (isinstance(function, str) or callable(target_of(function))):
        raise SettingsError(f"assert_enqueued: expected a job function or its name, got {shown_value(function)}")
    if not isinstance(args, list | tuple | None):
        raise SettingsError(f"assert_enqueued: args: expected a list or a tuple, got {shown_value(args)}")
    if not isinstance(kwargs, Mapping | None):
        raise SettingsError(f"assert_enqueued: kwargs: expected a dict, got {shown_value(kwargs)}")
    return Wanted(
        name_of(function),
        target_of(function),
        pool.serializer,
        None if args is None else tuple(args),
        None if kwargs is None else dict(kwargs),
        queue,
        None if due_within is None else seconds_of_length(due_within, "due_within"),
    )


def _shown(wanted: Wanted, jobs: list[EnqueuedJob]) -> str:
    """What stands in the queues, the nearest first, with what is otherwise."""
    if not jobs:
        return "the queues are empty"
    nearest = sorted(jobs, key=lambda job: (job.function != wanted.function, len(wanted.differences(job))))
    lines = ["in the queues:"]
    for job in nearest[:SHOWN]:
        differences = wanted.differences(job)
        sign, what = (" ", "") if not differences else ("-", f"   <- {'; '.join(differences)}")
        is_same = job.function == wanted.function
        lines.append(f"  {sign} {job.shown(wanted.target if is_same else None)}{what if is_same else ''}")
    if len(nearest) > SHOWN:
        lines.append(f"    and {len(nearest) - SHOWN} more")
    return "\n".join(lines)
