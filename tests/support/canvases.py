"""Random canvases, and what a plain evaluation makes of them: flows are compared with that.

A job's value is `[label, input]`, so a flow's value shows which job got what. An error is `["error", label]` of the job
at fault. Where several jobs fail at the same time any of them may be named.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from arqestra import Canvas, UpstreamFailed, chain, group

Policy = Literal["fail", "continue"] | None


@dataclass(frozen=True)
class JobShape:
    fails: bool
    policy: Policy
    immutable: bool


@dataclass(frozen=True)
class ChainShape:
    parts: tuple[Shape, ...]


@dataclass(frozen=True)
class GroupShape:
    parts: tuple[Shape, ...]
    policy: Policy


Shape = JobShape | ChainShape | GroupShape
_policies = st.sampled_from(["fail", "fail", "continue", None])
_jobs = st.builds(JobShape, st.integers(0, 7).map(lambda n: n == 0), _policies, st.integers(0, 5).map(lambda n: n == 0))


def shapes() -> st.SearchStrategy[Shape]:
    """Chains of groups, groups of chains, chords in chords; some jobs fail."""
    return st.recursive(
        _jobs,
        lambda inner: st.one_of(
            st.builds(ChainShape, st.lists(inner, min_size=1, max_size=4).map(tuple)),
            st.builds(GroupShape, st.lists(inner, min_size=0, max_size=4).map(tuple), _policies),
        ),
        max_leaves=20,
    )


def some_shapes(count: int, seed_of_all: int) -> list[Shape]:
    """So many shapes, the same for the same seed."""
    found: list[Shape] = []

    @seed(seed_of_all)
    @settings(
        max_examples=count,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(shapes())
    def collect(shape: Shape) -> None:
        found.append(shape)

    collect()
    return found


# -- as a canvas --------------------------------------------------------------------------------------------------


def canvas_of(shape: Shape, node: Any, labels: list[str]) -> Canvas[Any]:
    """The canvas of a shape.

    :param node: the job function: called with the input, if it gets one, a label and whether it fails
    :param labels: gets the label of each job
    """
    if isinstance(shape, JobShape):
        labels.append(f"j{len(labels)}")
        make = node.si if shape.immutable else node.s
        return make(labels[-1], shape.fails).set(on_failure=shape.policy)
    parts = [canvas_of(part, node, labels) for part in shape.parts]
    return chain(*parts) if isinstance(shape, ChainShape) else group(parts, on_failure=shape.policy)


def shown(value: Any) -> Any:
    """An input as it is in a job's value: without exceptions."""
    if isinstance(value, UpstreamFailed):
        return ["error", str(value.error)]
    if isinstance(value, BaseException):
        return ["error", str(value)]
    return [shown(each) for each in value] if isinstance(value, list) else value


# -- evaluated ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Failed:
    """:ivar labels: the jobs that may be named"""

    labels: frozenset[str]


@dataclass(frozen=True)
class AnyError:
    """In a value: the error of one of these jobs."""

    labels: frozenset[str]


@dataclass
class Evaluation:
    """:ivar ran: labels of the jobs that run"""

    labels: int
    ran: set[str]


def evaluated(shape: Shape) -> tuple[Any, set[str]]:
    """The value of a shape (`Failed` if it fails), and the labels of the jobs that run. For a failed group, jobs behind
    it are not among them.
    """
    state = Evaluation(0, set())
    return _value(shape, None, "fail", state, gets_input=False), state.ran


def _value(shape: Shape, given_: Any, wanted: str, state: Evaluation, *, gets_input: bool) -> Any:
    if isinstance(shape, JobShape):
        label = f"j{state.labels}"
        state.labels += 1
        return _job(shape, label, given_, state, gets_input=gets_input)
    if isinstance(shape, ChainShape):
        value = given_
        for i, part in enumerate(shape.parts):
            follows = shape.parts[i + 1] if i + 1 < len(shape.parts) else None
            wish = _wish(follows) if follows is not None else wanted
            value = _value(part, value, wish, state, gets_input=gets_input or i > 0)
        return value
    policy = shape.policy or wanted
    values = [_value(part, given_, policy, state, gets_input=gets_input) for part in shape.parts]
    failures = [value for value in values if isinstance(value, Failed)]
    if not shape.parts and isinstance(given_, Failed) and policy == "fail":
        return given_
    if failures and policy == "fail":
        return Failed(frozenset().union(*(failure.labels for failure in failures)))
    return [AnyError(value.labels) if isinstance(value, Failed) else value for value in values]


def _job(shape: JobShape, label: str, given_: Any, state: Evaluation, *, gets_input: bool) -> Any:
    if isinstance(given_, Failed):
        if shape.policy != "continue":
            return given_
        given_ = AnyError(given_.labels)
    state.ran.add(label)
    if shape.fails:
        return Failed(frozenset({label}))
    return [label, given_ if gets_input and not shape.immutable else None]


def _heads(shape: Shape) -> list[JobShape]:
    if isinstance(shape, JobShape):
        return [shape]
    parts = shape.parts[:1] if isinstance(shape, ChainShape) else shape.parts
    return [head for part in parts for head in _heads(part)]


def _wish(shape: Shape) -> str:
    return "continue" if {head.policy for head in _heads(shape)} == {"continue"} else "fail"


def fits(expected: Any, value: Any) -> bool:
    """Whether a flow's value is the expected one."""
    if isinstance(expected, AnyError):
        return isinstance(value, list) and value[:1] == ["error"] and value[1] in expected.labels
    if isinstance(expected, list):
        same_length = isinstance(value, list) and len(value) == len(expected)
        return same_length and all(fits(one, other) for one, other in zip(expected, value, strict=True))
    return bool(expected == value)
