"""Signatures: calls of job functions that are not enqueued yet, and what is built of them - chains, groups and chords.

    fetch.s(7) | process.s() | send.s("a@b.c")
    group(resize.s(path) for path in paths) | collect.s()
    chord([count.s(shard) for shard in shards], total.s())

All of them are immutable values: they can be kept, nested, and enqueued many times. `graph.py` makes a graph of one.
Names and meaning are those of Celery's canvas (its "Canvas: Designing Work-flows"): a parent's result is the first
argument of what follows it, a group's results are a list in the group's order.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Generic, Literal, TypeVar, overload

from ..errors import SettingsError
from .options import check_options

__all__ = ("Canvas", "Chain", "Group", "NodeOptions", "Signature", "chain", "chord", "group", "signature")

R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)  # a signature of an int will do where one of any object is asked for
S = TypeVar("S")
OnFailure = Literal["fail", "continue"]
CHUNK_FUNCTION = "arqestra.chunk"  # runs several calls of one function in one job


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeOptions:
    """How one call is enqueued. See `JobFunction.options`; None is the function's own.

    :ivar on_failure: if its parent did not complete: "fail": it ends as failed, without running; "continue": it runs,
        and gets the exception instead of the value
    """

    queue: str | None = None
    defer_by: float | timedelta | None = None
    defer_until: datetime | None = None
    expires: float | timedelta | None = None
    job_id: str | None = None
    priority: int | None = None
    headers: Mapping[str, str] | None = None
    on_failure: OnFailure | None = None

    def __post_init__(self) -> None:
        check_options("set", {name: getattr(self, name) for name in _OPTION_NAMES})

    def over(self, others: "NodeOptions") -> "NodeOptions":
        """These options; the others fill in what these do not say."""
        ours = {name: value for name in _OPTION_NAMES if (value := getattr(self, name)) is not None}
        if "defer_by" in ours or "defer_until" in ours:
            others = replace(others, defer_by=None, defer_until=None)
        return replace(others, **ours)


_OPTION_NAMES = tuple(NodeOptions.__dataclass_fields__)
_OF_THE_START = ("defer_by", "defer_until")


class Canvas(Generic[R_co]):
    """What can be enqueued as a flow: a signature, a chain or a group. R_co is the type of its result."""

    __slots__ = ()
    errbacks: "tuple[Canvas[Any], ...]"
    links: "tuple[Canvas[Any], ...]"

    @overload
    def __or__(self, other: "Signature[S]") -> "Chain[S]": ...
    @overload
    def __or__(self, other: "Canvas[S]") -> "Chain[S]": ...
    def __or__(self, other: "Canvas[Any]") -> "Chain[Any]":
        """This, then the other, which gets the result."""
        return chain(self, other)

    def set(self, **options: Any) -> Any:
        """The same with options for its calls; see `NodeOptions`. An option that a part has already stays.

        :raises SettingsError: an unknown option or an impossible value
        """
        raise NotImplementedError

    def link_error(self, *errbacks: "Canvas[Any]") -> Any:
        """The same with callbacks for its failure.

        Each gets an `UpstreamFailed` as its first argument, which names the job at fault and has its error.
        """
        for errback in errbacks:
            _checked(errback, "link_error")
        return replace(self, errbacks=(*self.errbacks, *errbacks))  # type: ignore[type-var]

    def link(self, *callbacks: "Canvas[Any]") -> Any:
        """The same with callbacks for its success. Each gets the result as its first argument.

        The result of the flow does not wait for them, and does not depend on them.
        """
        for callback in callbacks:
            _checked(callback, "link")
        return replace(self, links=(*self.links, *callbacks))  # type: ignore[type-var]

    def heads(self) -> "Iterable[Signature[Any]]":
        """The first signatures: they get the result of what comes before this."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class Signature(Canvas[R_co]):
    """One call of a job function.

    :ivar function: a `JobFunction`, or the name of a function
    :ivar immutable: it does not get its parent's result
    :ivar added: keywords that wrappers of enqueues added to the caller's: see `drop_in/instrumentation.py`
    """

    function: Any
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    immutable: bool = False
    options: NodeOptions = NodeOptions()
    errbacks: tuple[Canvas[Any], ...] = ()
    links: tuple[Canvas[Any], ...] = ()
    added: Mapping[str, Any] | None = None

    @property
    def name(self) -> str:
        """Name of the function."""
        return self.function if isinstance(self.function, str) else str(self.function.name)

    def set(self, **options: Any) -> "Signature[R_co]":
        """The same call with other options; see `NodeOptions`."""
        return replace(self, options=_options(options).over(self.options))

    def heads(self) -> Iterable["Signature[Any]"]:
        return (self,)


@dataclass(frozen=True, slots=True)
class Chain(Canvas[R_co]):
    """One after the other."""

    parts: tuple[Canvas[Any], ...]
    errbacks: tuple[Canvas[Any], ...] = ()
    links: tuple[Canvas[Any], ...] = ()

    def set(self, **options: Any) -> "Chain[R_co]":
        """The same with options for its calls; see `NodeOptions`.

        Only the first part gets `defer_by` and `defer_until`: they delay the start, as Celery's `countdown` and `eta`.
        """
        later = {name: value for name, value in options.items() if name not in _OF_THE_START}
        parts = _set_parts(self.parts[:1], options) + _set_parts(self.parts[1:], later)
        return replace(self, parts=parts)

    def heads(self) -> Iterable[Signature[Any]]:
        return self.parts[0].heads()


@dataclass(frozen=True, slots=True)
class Group(Canvas[list[R_co]]):
    """At the same time; the result is the list of the parts' results.

    :ivar on_failure: "fail": the group fails as soon as a part does; "continue": its list has the exception instead of
        the value; None: as the next call in the flow wants it
    """

    parts: tuple[Canvas[R_co], ...]
    on_failure: OnFailure | None = None
    errbacks: tuple[Canvas[Any], ...] = ()
    links: tuple[Canvas[Any], ...] = ()

    def set(self, **options: Any) -> "Group[R_co]":
        on_failure = options.pop("on_failure", None)
        _options({"on_failure": on_failure})
        return replace(self, parts=_set_parts(self.parts, options), on_failure=on_failure or self.on_failure)

    def heads(self) -> Iterable[Signature[Any]]:
        for part in self.parts:
            yield from part.heads()


def signature(function: str, *args: Any, _immutable: bool = False, **kwargs: Any) -> Signature[Any]:
    """A call of a function by its name, where the function itself is not at hand."""
    if not isinstance(function, str):
        raise SettingsError(f"signature: expected the name of a function, got {function!r}; a job function has .s()")
    return Signature(function, args, kwargs, _immutable)


def chain(*parts: Canvas[Any] | Iterable[Canvas[Any]]) -> Chain[Any]:
    """One after the other; each gets the result of the one before it as its first argument.

    :raises SettingsError: no part, or one that is no signature, chain or group
    """
    flat: list[Canvas[Any]] = []
    for part in _parts(parts, "chain"):
        flat += part.parts if isinstance(part, Chain) and not (part.errbacks or part.links) else (part,)
    if not flat:
        raise SettingsError("chain: expected at least one signature, got none")
    return Chain(tuple(flat))


def group(*parts: Canvas[R] | Iterable[Canvas[R]], on_failure: OnFailure | None = None) -> Group[R]:
    """All at the same time; the result is the list of their results, in this order.

    :param on_failure: see `Group`
    :raises SettingsError: a part that is no signature, chain or group
    """
    _options({"on_failure": on_failure})
    return Group(tuple(_parts(parts, "group")), on_failure)


def chord(header: Group[Any] | Iterable[Canvas[Any]], body: Canvas[R]) -> Chain[R]:
    """The parts of the header at the same time, then the body, which gets the list of their results."""
    parts = header if isinstance(header, Group) else group(header)
    return chain(parts, body)


def _options(options: Mapping[str, Any]) -> NodeOptions:
    unknown = options.keys() - set(_OPTION_NAMES)
    if unknown:
        raise SettingsError(f"set: expected some of {', '.join(_OPTION_NAMES)}, got {', '.join(sorted(unknown))}")
    return NodeOptions(**options)


def _set_parts(parts: Sequence[Canvas[Any]], options: Mapping[str, Any]) -> tuple[Canvas[Any], ...]:
    """The options for every part that does not have them itself."""
    if options.get("job_id") is not None:
        raise SettingsError("set: job_id is of one signature, not of a chain or group")
    return tuple(_with_defaults(part, options) for part in parts)


def _with_defaults(part: Canvas[Any], options: Mapping[str, Any]) -> Canvas[Any]:
    if isinstance(part, Signature):
        return replace(part, options=part.options.over(_options(options)))
    if isinstance(part, Group) and part.on_failure is not None:
        options = {name: value for name, value in options.items() if name != "on_failure"}
    with_options: Canvas[Any] = part.set(**options)
    return with_options


def _parts(given: Iterable[Any], what: str) -> Iterable[Canvas[Any]]:
    for part in given:
        if isinstance(part, Canvas):
            yield part
        elif isinstance(part, Iterable) and not isinstance(part, str | bytes | Mapping):
            for inner in part:
                yield _checked(inner, what)
        else:
            _checked(part, what)


def _checked(part: Any, what: str) -> Canvas[Any]:
    if isinstance(part, Canvas):
        return part
    raise SettingsError(
        f"{what}: expected signatures (function.s(...)), chains or groups, got {part!r}; a job function is given its "
        "arguments by .s()"
    )
