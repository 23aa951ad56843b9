"""A canvas means the same as a graph (`pool.enqueue_flow`) and inside a workflow (`flow.run`): one table for both.

A job's value is text: its label, and behind it what it got: `b(a)`. `!a` is the error of job a itself, `^a` the
`UpstreamFailed` that names it, `a!` a job that ran and failed.
"""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, NamedTuple

import pytest

from arqestra import (
    ArgumentsError,
    Canvas,
    Flow,
    GraphError,
    PayloadTooLarge,
    Pool,
    SerializationError,
    Signature,
    UpstreamFailed,
    Worker,
    chain,
    chord,
    create_pool,
    group,
    job,
    workflow,
)
from arqestra.worker.run import workflows
from tests.support.canvases import canvas_of, evaluated, fits, some_shapes
from tests.support.pools import serializers
from tests.support.wait import wait_until
from tests.support.workers import worker_running

RAN: defaultdict[str, list[str]] = defaultdict(list)
OUTCOMES: dict[str, Any] = {}
CANVASES: dict[str, Callable[[str], Canvas[Any]]] = {}


def shown(value: Any) -> str:
    if isinstance(value, UpstreamFailed):
        assert value.function in ("note", "node")
        return f"^{value.error}"
    if isinstance(value, Exception):
        return f"!{value}"
    return f"[{','.join(map(shown, value))}]" if isinstance(value, list) else str(value)


@job
async def note(ctx: dict[Any, Any], *args: Any) -> str:
    *given, run, label, fails = args
    text = f"{label}({shown(given[0])})" if given else str(label)
    RAN[run].append(f"{text}!" if fails else text)
    if fails:
        raise ValueError(label)
    return text


@job
async def node(ctx: dict[Any, Any], *args: Any) -> Any:
    """As the random canvases have it; of its run it knows nothing."""
    *given, label, fails = args
    if fails:
        raise ValueError(label)
    return [label, _plain(given[0]) if given else None]


def _plain(value: Any) -> Any:
    if isinstance(value, BaseException):
        return ["error", str(value.error if isinstance(value, UpstreamFailed) else value)]
    return [_plain(each) for each in value] if isinstance(value, list) else value


@workflow
async def runs_canvas(flow: Flow, name: str, run: str) -> None:
    try:
        OUTCOMES[run] = await flow.run(CANVASES[name](run))
    except Exception as error:
        OUTCOMES[run] = error
    await flow.wait_for("end")  # what runs beside a failure runs on until then


@workflow
async def refused(flow: Flow, name: str) -> list[Any]:
    """What is raised, and that the workflow goes on."""
    try:
        await flow.run(CANVASES[name]("refused"))
    except Exception as error:
        return [type(error).__name__, str(error), await flow.run(note.s("refused", "after", False))]
    return ["nothing"]


class Row(NamedTuple):
    """:ivar outcome: the flow's value, or "!label" of the job at fault
    :ivar ran: what ran, in any order
    """

    name: str
    build: Callable[[Jobs], Canvas[Any]]
    outcome: str
    ran: str


class Jobs:
    """Makes the calls of one run."""

    def __init__(self, run: str) -> None:
        self.run = run

    def __call__(self, label: str) -> Signature[Any]:
        return note.s(self.run, label, False)

    def bad(self, label: str) -> Signature[Any]:
        return note.s(self.run, label, True)

    def alone(self, label: str) -> Signature[Any]:
        return note.si(self.run, label, False)

    def anyhow(self, label: str) -> Signature[Any]:
        return note.s(self.run, label, False).set(on_failure="continue")


TABLE = [
    Row("job", lambda j: j("a"), "a", "a"),
    Row("chain", lambda j: j("a") | j("b") | j("c"), "c(b(a))", "a b(a) c(b(a))"),
    Row("immutable", lambda j: j("a") | j.alone("b"), "b", "a b"),
    Row("group", lambda j: group(j("a"), j("b")), "[a,b]", "a b"),
    Row("no parts", lambda j: group(), "[]", ""),
    Row("nothing, then", lambda j: group() | j("t"), "t([])", "t([])"),
    Row("chord", lambda j: chord([j("a"), j("b")], j("t")), "t([a,b])", "a b t([a,b])"),
    Row("groups in a row", lambda j: group(j("a"), j("b")) | group(j("c"), j("d")), "[c([a,b]),d([a,b])]",
        "a b c([a,b]) d([a,b])"),
    Row("groups in groups", lambda j: group(group(j("a"), j("b")), j("c")) | j("t"), "t([[a,b],c])",
        "a b c t([[a,b],c])"),
    Row("chord in chord", lambda j: chord([chord([j("a"), j("b")], j("c")), j("d")], j("t")), "t([c([a,b]),d])",
        "a b d c([a,b]) t([c([a,b]),d])"),
    Row("failure", lambda j: j.bad("a") | j("b"), "!a", "a!"),
    Row("failure of a member", lambda j: group(j("a"), j.bad("b")) | j("t"), "!b", "a b!"),
    Row("others go on", lambda j: group(j.bad("a"), j("b") | j("c") | j("d")), "!a", "a! b c(b) d(c(b))"),
    # What goes on after a failure.
    Row("continue", lambda j: j.bad("a") | j.anyhow("e"), "e(!a)", "a! e(!a)"),
    Row("continue behind what did not run", lambda j: j.bad("a") | j("b") | j.anyhow("e"), "e(^a)", "a! e(^a)"),
    Row("and then", lambda j: j.bad("a") | j.anyhow("e") | j("f"), "f(e(!a))", "a! e(!a) f(e(!a))"),
    Row("barrier", lambda j: group(j.bad("a"), j("b")) | j.anyhow("t"), "t([!a,b])", "a! b t([!a,b])"),
    Row("barrier over chains", lambda j: group(j.bad("a"), j("b") | j("c")) | j.anyhow("t"), "t([!a,c(b)])",
        "a! b c(b) t([!a,c(b)])"),
    Row("barrier over what did not run", lambda j: group(j.bad("a") | j("x"), j("b")) | j.anyhow("t"), "t([^a,b])",
        "a! b t([^a,b])"),
    Row("barrier before a chain", lambda j: group(j.bad("a"), j("b")) | chain(j.anyhow("t"), j("u")), "u(t([!a,b]))",
        "a! b t([!a,b]) u(t([!a,b]))"),
    Row("barrier before a group", lambda j: group(j.bad("a"), j("b")) | group(j.anyhow("t"), j.anyhow("u")),
        "[t([!a,b]),u([!a,b])]", "a! b t([!a,b]) u([!a,b])"),
    Row("one of two goes on", lambda j: group(j.bad("a"), j("b")) | group(j.anyhow("t"), j("u")), "!a",
        "a! b t(^a)"),
    Row("all fail", lambda j: group(j.bad("a"), j.bad("b")) | j.anyhow("t"), "t([!a,!b])", "a! b! t([!a,!b])"),
    Row("barrier in a group", lambda j: group(group(j.bad("a"), j("b")) | j.anyhow("t"), j("c")), "[t([!a,b]),c]",
        "a! b c t([!a,b])"),
    Row("list with errors", lambda j: group(j("a"), j.bad("b"), on_failure="continue"), "[a,!b]", "a b!"),
    Row("list with errors, then", lambda j: group(j("a"), j.bad("b"), on_failure="continue") | j("t"), "t([a,!b])",
        "a b! t([a,!b])"),
    Row("lists with errors", lambda j: group(group(j.bad("a"), on_failure="continue"), j.bad("b") | j("c"),
        on_failure="continue") | j("t"), "t([[!a],^b])", "a! b! t([[!a],^b])"),
    Row("list with errors for two", lambda j: group(j.bad("a"), on_failure="continue") | group(j("t"), j("u")),
        "[t([!a]),u([!a])]", "a! t([!a]) u([!a])"),
    Row("list that fails, and goes on", lambda j: group(j.bad("a"), on_failure="fail") | j.anyhow("e"), "e(^a)",
        "a! e(^a)"),
    Row("nothing behind a failure", lambda j: j.bad("a") | group(), "!a", "a!"),
    Row("nothing, anyhow", lambda j: j.bad("a") | group(on_failure="continue") | j("t"), "t([])", "a! t([])"),
    # Callbacks for failures.
    Row("errback", lambda j: j.bad("a").link_error(j("x")), "!a", "a! x(^a)"),
    Row("errback, for nothing", lambda j: j("a").link_error(j("x") | j("y")), "a", "a"),
    Row("errback of a chain", lambda j: (j("a") | j.bad("b") | j("c")).link_error(j("x")), "!b", "a b!(a) x(^b)"),
    Row("errback of a part that never ran", lambda j: j.bad("a") | j("b").link_error(j("x")), "!a", "a! x(^a)"),
    Row("errbacks of all", lambda j: chain(j.bad("a").link_error(j("x")), j("b").link_error(j("y")),
        j("c")).link_error(j("z")), "!a", "a! x(^a) y(^a) z(^a)"),
    Row("errback of a group, once", lambda j: group(j.bad("a"), j("b")).link_error(j("x")), "!a", "a! b x(^a)"),
    Row("errback of a member", lambda j: group(j.bad("a").link_error(j("x")), j("b")) | j("t"), "!a", "a! b x(^a)"),
    Row("failing errback", lambda j: j.bad("a").link_error(j.bad("x")).link_error(j("y")), "!a", "a! x!(^a) y(^a)"),
    Row("errback of an errback", lambda j: j.bad("a").link_error(j.bad("x").link_error(j("y"))), "!a",
        "a! x!(^a) y(^x)"),
    Row("chain as errback", lambda j: j.bad("a").link_error(j("x") | j("y")), "!a", "a! x(^a) y(x(^a))"),
    Row("group as errback", lambda j: j.bad("a").link_error(group(j("x"), j("y")) | j("z")), "!a",
        "a! x(^a) y(^a) z([x(^a),y(^a)])"),
    Row("immutable errback", lambda j: j.bad("a").link_error(j.alone("x")), "!a", "a! x"),
    Row("errback, and on", lambda j: j.bad("a").link_error(j("x")) | j.anyhow("e"), "e(!a)", "a! x(^a) e(!a)"),
    Row("no errback of what goes on", lambda j: (j.bad("a") | j.anyhow("e")).link_error(j("x")), "e(!a)", "a! e(!a)"),
    # Callbacks for success.
    Row("link", lambda j: j("a").link(j("x")), "a", "a x(a)"),
    Row("link, for nothing", lambda j: j.bad("a").link(j("x") | j("y")), "!a", "a!"),
    Row("links", lambda j: j("a").link(j("x"), j("y")).link(j("z")), "a", "a x(a) y(a) z(a)"),
    Row("link of a chain", lambda j: (j("a") | j("b")).link(j("x")), "b(a)", "a b(a) x(b(a))"),
    Row("link of a chain, and on", lambda j: (j("a") | j("b")).link(j("x")) | j("c"), "c(b(a))",
        "a b(a) x(b(a)) c(b(a))"),
    Row("link of an empty group", lambda j: group().link(j("x")), "[]", "x([])"),
    Row("link of what goes on", lambda j: (j.bad("a") | j.anyhow("e")).link(j("x")), "e(!a)", "a! e(!a) x(e(!a))"),
    Row("link of a part", lambda j: j("a").link(j("x")) | j("b"), "b(a)", "a x(a) b(a)"),
    Row("link of a group, once", lambda j: group(j("a"), j("b")).link(j("x")), "[a,b]", "a b x([a,b])"),
    Row("failing link", lambda j: j("a").link(j.bad("x").link_error(j("y"))), "a", "a x!(a) y(^x)"),
    Row("link beside errback", lambda j: group(j("a").link(j("x")).link_error(j("y")),
        j.bad("b").link(j("x")).link_error(j("y")), on_failure="continue"), "[a,!b]", "a b! x(a) y(^b)"),
]  # fmt: skip


def _with_marks_behind(text: str) -> str:
    """A job that got something and failed is `b!(a)` in the table, for it has no blanks; it notes `b(a)!`."""
    label, mark, given = text.partition("!(")
    return f"{label}({given}!" if mark and "(" not in label else text


for row in TABLE:
    CANVASES[row.name] = lambda run, build=row.build: build(Jobs(run))  # type: ignore[misc]


@pytest.fixture(autouse=True)
def fresh() -> None:
    RAN.clear()
    OUTCOMES.clear()


serializer = serializers("pickle", "msgpack", "json")


def at_work(pool: Pool, *functions: Any) -> AbstractAsyncContextManager[Worker]:
    return worker_running(pool, functions=[note, node, runs_canvas, refused, *functions], max_jobs=50, poll_delay=0.1)


async def _by_graph(pool: Pool, names: list[str]) -> None:
    """Run canvases as graphs, all at once, until the last of their jobs has ended."""

    async def run_one(name: str) -> None:
        flow = await pool.enqueue_flow(CANVASES[name](name))
        [OUTCOMES[name]] = await asyncio.gather(flow.result(timeout=30), return_exceptions=True)
        await flow.wait(timeout=30)

    await asyncio.gather(*map(run_one, names))


async def _by_workflow(pool: Pool, names: list[str], has_ended: Callable[[str], bool]) -> None:
    async def run_one(name: str) -> None:
        handle = await pool.enqueue(runs_canvas, name, name)
        assert handle is not None

        async def ended() -> bool:
            return has_ended(name)

        try:
            await wait_until(ended, f"{name!r} has ended")
        finally:
            await pool.signal(handle.job_id, "end")
        await handle.result(timeout=30)

    await asyncio.gather(*map(run_one, names))


@pytest.mark.parametrize("way", ["graph", "workflow", "workflow that is parked"])
async def test_a_canvas_means_the_same(pool: Pool, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = {row.name: Counter(map(_with_marks_behind, row.ran.split())) for row in TABLE}
    if way == "workflow that is parked":
        monkeypatch.setattr(workflows, "PARK_AFTER_S", 0.0)
    async with at_work(pool):
        if way == "graph":
            await _by_graph(pool, [*expected])
        else:
            await _by_workflow(
                pool,
                [*expected],
                lambda name: name in OUTCOMES and sum(expected[name].values()) <= len(RAN[name]),
            )

    seen = {row.name: (shown(OUTCOMES[row.name]), Counter(RAN[row.name])) for row in TABLE}
    assert seen == {row.name: (row.outcome, expected[row.name]) for row in TABLE}


@pytest.mark.parametrize("way", ["graph", "workflow"])
async def test_random_canvases_mean_the_same(pool: Pool, way: str) -> None:
    shapes = {f"shape {number}": shape for number, shape in enumerate(some_shapes(60, 16))}
    for name, shape in shapes.items():
        CANVASES[name] = lambda run, shape=shape: canvas_of(shape, node, [])  # type: ignore[misc]
    async with at_work(pool):
        if way == "graph":
            await _by_graph(pool, [*shapes])
        else:
            await _by_workflow(pool, [*shapes], OUTCOMES.__contains__)

    for name, shape in shapes.items():
        expected, _ = evaluated(shape)
        outcome = OUTCOMES[name]
        if isinstance(outcome, Exception):
            assert str(outcome) in expected.labels, name
        else:
            assert fits(expected, _plain(outcome)), name


# -- errors that are no step's ----------------------------------------------------------------------------------------


@job
async def takes_one(ctx: dict[Any, Any], number: int) -> int:
    return number


def _large(run: str) -> Signature[Any]:
    return note.s(run, "x" * 20_000_000, False)


REFUSED: dict[str, tuple[Callable[[str], Any], type[Exception], str]] = {
    "arguments": (lambda run: note.s(run, "a", False) | takes_one.s(1, 2), ArgumentsError, "too many positional"),
    "arguments of an errback": (
        lambda run: note.s(run, "a", True).link_error(takes_one.s(1, 2)),
        ArgumentsError,
        "too many",
    ),
    "too large": (
        lambda run: (note.s(run, "a", False) | _large(run)).link_error(note.s(run, "x", False)),
        PayloadTooLarge,
        "max_payload_bytes",
    ),
    "too large in a group": (
        lambda run: group(note.s(run, "a", False), _large(run)) | note.s(run, "t", False).set(on_failure="continue"),
        PayloadTooLarge,
        "max_payload_bytes",
    ),
    "not serializable": (
        lambda run: (note.s(run, "a", False) | note.s(lambda: 1)).link_error(note.s(run, "x", False)),
        SerializationError,
        "unable to serialize",
    ),
    "no canvas": (lambda run: takes_one, ArgumentsError, "expected .*chain or (a )?group"),
}
CANVASES |= {name: build for name, (build, _, _) in REFUSED.items()}


@pytest.mark.parametrize("name", REFUSED)
async def test_what_cannot_be_is_raised_as_it_is_before_anything_runs(pool: Pool, name: str) -> None:
    build, kind, match = REFUSED[name]
    with pytest.raises(kind, match=match):
        await pool.enqueue_flow(build("refused"))
    async with at_work(pool, takes_one):
        handle = await pool.enqueue(refused, name)
        assert handle is not None
        raised, text, after = await handle.result(timeout=30)

    assert raised == kind.__name__
    with pytest.raises(Exception, match=match):
        raise GraphError(text)
    assert (after, RAN["refused"]) == ("after", ["after"])


async def test_a_value_passes_between_steps_however_large_it_is(redis_url: str) -> None:
    """The next step's worker reads it; it is in nobody's arguments, as in a graph."""
    pool = await create_pool(redis_url, serializer="msgpack", max_payload_bytes=2_000)
    large = "x" * 10_000

    @job
    async def makes_large(ctx: dict[Any, Any]) -> str:
        return large

    @job
    async def measures(ctx: dict[Any, Any], text: str) -> int:
        return len(text)

    @workflow
    async def passes_on(flow: Flow) -> int:
        return await flow.run(makes_large.s() | measures.s())

    async with at_work(pool, makes_large, measures, passes_on):
        handle = await pool.enqueue(passes_on)
        assert handle is not None
        assert await handle.result(timeout=30) == len(large)
        assert await (await pool.enqueue_flow(makes_large.s() | measures.s())).result(timeout=30) == len(large)
    await pool.aclose()


async def test_a_chord_that_is_given_up_aborts_what_runs_and_starts_nothing_more(pool: Pool) -> None:
    let_go = asyncio.Event()

    @job
    async def waits(ctx: dict[Any, Any], label: str) -> str:
        RAN["given up"].append(label)
        await let_go.wait()
        return label

    @workflow
    async def gives_up(flow: Flow) -> str:
        try:
            async with asyncio.timeout(0.5):
                await flow.run(chord([waits.s("a"), waits.s("b") | waits.si("c")], note.s("given up", "t", False)))
        except TimeoutError:
            return str(await flow.wait_for("end"))
        return "in time"

    async with at_work(pool, waits, gives_up):
        handle = await pool.enqueue(gives_up)
        assert handle is not None

        async def are_aborted() -> bool:
            nodes = (await pool.flow(handle.job_id).graph()).nodes
            return [node.state for node in nodes if node.kind == "job"] == ["aborted", "aborted"]

        await wait_until(are_aborted, "both members are aborted")
        await pool.signal(handle.job_id, "end", "gave up")
        assert await handle.result(timeout=20) == "gave up"
        let_go.set()
    assert sorted(RAN["given up"]) == ["a", "b"]
