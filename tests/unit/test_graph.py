"""Signatures, what is built of them, and the graphs that become of those: `signature.py` and `graph.py`."""

from __future__ import annotations

from dataclasses import FrozenInstanceError
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

import arqestra.definitions.graph
from arqestra import ArgumentsError, SettingsError, job
from arqestra.definitions.graph import Graph, graph_of
from arqestra.definitions.signature import Canvas, Chain, Group, chain, chord, group, signature
from arqestra.errors import GraphError


@job
async def load(ctx: Any, number: int = 0) -> int:
    """Where something comes from."""
    return number


@job
async def add(ctx: Any, left: int, right: int = 0) -> int:
    """A step."""
    return left + right


@job
async def total(ctx: Any, numbers: list[int]) -> int:
    """The end of a chord."""
    return sum(numbers)


@job
async def alone(ctx: Any) -> None:
    """Takes nothing."""


def shape(graph: Graph) -> dict[int, tuple[str, list[int]]]:
    """Number -> the function's name, "join", or "error: name" of a callback; and the parents."""
    names = {node.number: node.call.name if node.call else "join" for node in graph.nodes[1:]}
    return {
        node.number: (("error: " if node.on_error else "") + names[node.number], node.parents)
        for node in graph.nodes[1:]
    }


# -- shapes -------------------------------------------------------------------------------------------------------


def test_a_signature_is_a_graph_of_one_node() -> None:
    graph = graph_of(load.s(7))

    assert shape(graph) == {1: ("load", [])}
    assert (graph.output, graph.nodes[0].children, graph.nodes[1].gets) == (1, [1], None)


def test_in_a_chain_each_gets_the_result_of_the_one_before() -> None:
    graph = graph_of(load.s(7) | add.s(1) | add.s(2))

    assert shape(graph) == {1: ("load", []), 2: ("add", [1]), 3: ("add", [2])}
    assert [node.gets for node in graph.nodes] == [None, None, 1, 2]
    assert [node.children for node in graph.nodes] == [[1], [2], [3], []]
    assert graph.output == 3


def test_a_group_ends_in_a_join_whose_value_is_the_list_of_its_parts() -> None:
    graph = graph_of(group(load.s(1), load.s(2)))

    assert shape(graph) == {1: ("load", []), 2: ("load", []), 3: ("join", [1, 2])}
    assert (graph.output, graph.nodes[3].values) == (3, [1, 2])


def test_a_chord_is_a_group_and_what_gets_its_list() -> None:
    graph = graph_of(chord([load.s(1), load.s(2)], total.s()))

    assert shape(graph) == {1: ("load", []), 2: ("load", []), 3: ("join", [1, 2]), 4: ("total", [3])}
    assert graph.nodes[4].gets == 3
    assert graph == graph_of(group(load.s(1), load.s(2)) | total.s())


def test_in_a_chain_of_groups_each_part_of_the_second_gets_the_list_of_the_first() -> None:
    graph = graph_of(group(load.s(1), load.s(2)) | group(total.s(), total.s()))

    assert shape(graph) == {
        **{1: ("load", []), 2: ("load", []), 3: ("join", [1, 2])},
        **{4: ("total", [3]), 5: ("total", [3]), 6: ("join", [4, 5])},
    }
    assert [graph.nodes[number].gets for number in (4, 5)] == [3, 3]


def test_in_a_group_of_chains_the_list_is_of_their_last_results() -> None:
    graph = graph_of(group(load.s(1) | add.s(1), load.s(2) | add.s(2) | add.s(3)))

    assert shape(graph) == {
        **{1: ("load", []), 2: ("add", [1])},
        **{3: ("load", []), 4: ("add", [3]), 5: ("add", [4]), 6: ("join", [2, 5])},
    }
    assert graph.nodes[6].values == [2, 5]


def test_a_chord_in_a_chord_is_one_value_of_the_outer_list() -> None:
    inner = chord([load.s(1), load.s(2)], total.s())
    graph = graph_of(chord([inner, load.s(3)], total.s()))

    assert shape(graph) == {
        **{1: ("load", []), 2: ("load", []), 3: ("join", [1, 2]), 4: ("total", [3])},
        **{5: ("load", []), 6: ("join", [4, 5]), 7: ("total", [6])},
    }


def test_a_group_in_a_group_is_a_list_in_the_list() -> None:
    graph = graph_of(group(group(load.s(1), load.s(2)), load.s(3)))

    assert shape(graph)[3] == ("join", [1, 2])
    assert graph.nodes[graph.output].values == [3, 4]


def test_an_empty_group_is_an_empty_list() -> None:
    graph = graph_of(group() | total.s())

    assert shape(graph) == {1: ("join", []), 2: ("total", [1])}
    assert (graph.nodes[1].values, graph.nodes[0].children) == ([], [1])


def test_an_empty_group_in_a_chain_waits_for_what_is_before_it() -> None:
    graph = graph_of(load.s(1) | group() | total.s())

    assert shape(graph) == {1: ("load", []), 2: ("join", [1]), 3: ("total", [2])}
    assert graph.nodes[2].values == []


def test_an_immutable_signature_waits_for_its_parent_and_does_not_get_its_result() -> None:
    graph = graph_of(load.s(1) | alone.si())

    assert shape(graph)[2] == ("alone", [1])
    assert graph.nodes[2].gets is None


def test_map_starmap_and_chunks_are_groups() -> None:
    assert load.map([1, 2]) == group(load.s(1), load.s(2))
    assert add.starmap([(1, 2), (3, 4)]) == group(add.s(1, 2), add.s(3, 4))
    chunks: Any = add.chunks([(1, 2), (3, 4), (5, 6)], 2).parts
    assert [part.args for part in chunks] == [
        ("add", [[1, 2], [3, 4]]),
        ("add", [[5, 6]]),
    ]


def test_a_chain_of_a_hundred_groups_of_a_hundred_has_a_join_for_each_and_two_edges_for_each_job() -> None:
    parts = [group(add.si(1) for _ in range(100)) for _ in range(100)]
    graph = graph_of(chain(*parts))

    assert len(graph.nodes) == 1 + 100 * 101
    assert sum(len(node.children) for node in graph.nodes) == 2 * 100 * 100


def test_a_chain_may_be_thousands_long() -> None:
    assert len(graph_of(chain(load.s(), *(add.s() for _ in range(5_000)))).nodes) == 5_002


# -- error callbacks ----------------------------------------------------------------------------------------------


def test_an_error_callback_hangs_on_what_it_is_linked_to_and_gets_its_value() -> None:
    graph = graph_of((load.s(1) | add.s(1).link_error(add.s(9))) | add.s(2))

    assert shape(graph) == {1: ("load", []), 2: ("add", [1]), 3: ("error: add", [2]), 4: ("add", [2])}
    assert graph.nodes[3].gets == 2
    assert graph.output == 4


def test_an_error_callback_of_a_chain_or_group_hangs_on_its_end() -> None:
    assert shape(graph_of((load.s(1) | add.s(1)).link_error(alone.si())))[3] == ("error: alone", [2])
    assert shape(graph_of(group(load.s(1), load.s(2)).link_error(alone.si())))[4] == ("error: alone", [3])


def test_only_the_head_of_an_error_callback_asks_for_the_failure() -> None:
    graph = graph_of(load.s(1).link_error(group(alone.si(), add.s() | add.s())))

    assert shape(graph) == {
        **{1: ("load", []), 2: ("error: alone", [1]), 3: ("error: add", [1])},
        **{4: ("add", [3]), 5: ("join", [2, 4])},
    }


def test_an_error_callback_that_begins_with_an_empty_group_asks_for_the_failure() -> None:
    graph = graph_of(load.s(1).link_error(group() | alone.si()))

    assert shape(graph)[2] == ("error: join", [1])


# -- on_failure ---------------------------------------------------------------------------------------------------


def policies(canvas: Canvas[Any]) -> list[str]:
    """Of the joins of a canvas."""
    return [node.on_failure for node in graph_of(canvas).nodes if node.values is not None]


PARTS = (load.s(1), load.s(2))


def test_a_group_fails_with_its_parts_unless_it_is_told_otherwise() -> None:
    assert policies(group(PARTS)) == ["fail"]
    assert policies(group(PARTS) | total.s()) == ["fail"]
    assert policies(group(PARTS, on_failure="continue") | total.s()) == ["continue"]
    assert policies(group(PARTS).set(on_failure="continue") | total.s()) == ["continue"]


def test_a_group_continues_if_what_follows_it_does() -> None:
    assert policies(group(PARTS) | total.s().set(on_failure="continue")) == ["continue"]
    assert policies(chord(PARTS, total.s().set(on_failure="continue")).link_error(alone.si())) == ["continue"]


def test_a_group_continues_if_all_of_the_group_that_follows_it_does() -> None:
    brave, timid = total.s().set(on_failure="continue"), total.s()

    assert policies(group(PARTS) | group(brave, brave | add.s())) == ["continue", "fail"]
    assert policies(group(PARTS) | group(brave, timid)) == ["fail", "fail"]


def test_a_groups_own_policy_goes_before_what_follows_it() -> None:
    assert policies(group(PARTS, on_failure="fail") | total.s().set(on_failure="continue")) == ["fail"]


def test_a_group_at_the_end_of_a_chain_has_the_policy_of_what_follows_the_chain() -> None:
    inner = chain(load.s(0), group(add.s(1), add.s(2))).link_error(alone.si())

    assert policies(inner | total.s().set(on_failure="continue")) == ["continue"]


def test_a_group_in_a_group_has_the_policy_of_the_outer() -> None:
    assert policies(group(group(PARTS), load.s(3), on_failure="continue")) == ["continue", "continue"]


def test_a_job_fails_with_its_parent_unless_it_is_told_otherwise() -> None:
    graph = graph_of(load.s(1) | add.s(1) | add.s(2).set(on_failure="continue"))

    assert [node.on_failure for node in graph.nodes[1:]] == ["fail", "fail", "continue"]


# -- signatures as values -----------------------------------------------------------------------------------------


def test_building_on_a_signature_leaves_it_as_it_was() -> None:
    first, second = load.s(1), add.s(2)
    before = (load.s(1), add.s(2))

    first | second
    first.set(queue="other")
    first.link_error(second)
    group(first, second).set(priority=3)

    assert (first, second) == before


def test_a_canvas_cannot_be_changed() -> None:
    for canvas in (load.s(1), load.s(1) | add.s(2), group(load.s(1))):
        with pytest.raises(FrozenInstanceError):
            canvas.errbacks = ()  # type: ignore[misc]


def test_a_canvas_can_be_used_in_several_others() -> None:
    shared = load.s(1) | add.s(1)
    graph = graph_of(group(shared, shared) | total.s())

    assert [name for name, _ in shape(graph).values()] == ["load", "add", "load", "add", "join", "total"]
    assert graph_of(shared) == graph_of(load.s(1) | add.s(1))


def test_chains_of_chains_are_one_chain_however_they_are_put_together() -> None:
    a, b, c, d = load.s(1), add.s(2), add.s(3), add.s(4)

    assert ((a | b) | (c | d)) == (a | (b | (c | d))) == chain(a, b, c, d) == chain([a, b], chain(c, d))
    assert (a | b | c | d).parts == (a, b, c, d)


def test_a_chain_with_an_error_callback_stays_one_part_of_a_longer_one() -> None:
    guarded = (load.s(1) | add.s(2)).link_error(alone.si())
    longer = guarded | add.s(3)

    assert longer.parts == (guarded, add.s(3))
    assert shape(graph_of(longer)) == {
        1: ("load", []),
        2: ("add", [1]),
        3: ("error: alone", [2]),
        4: ("add", [2]),
    }


def test_groups_take_signatures_lists_of_them_and_generators() -> None:
    assert group(load.s(1), load.s(2)) == group([load.s(1), load.s(2)]) == group(load.s(n) for n in (1, 2))
    assert chord((load.s(n) for n in (1, 2)), total.s()) == chord(group(load.s(1), load.s(2)), total.s())


def test_error_callbacks_add_up() -> None:
    linked = load.s(1).link_error(alone.si()).link_error(add.s(1), add.s(2))

    assert linked.errbacks == (alone.si(), add.s(1), add.s(2))


# -- set ----------------------------------------------------------------------------------------------------------


def test_a_signatures_later_options_go_before_its_earlier_ones() -> None:
    call = load.s(1).set(queue="a", priority=1).set(queue="b")

    assert (call.options.queue, call.options.priority) == ("b", 1)


def test_options_of_a_chain_or_group_are_those_of_parts_that_have_none_of_their_own() -> None:
    own = load.s(1).set(queue="own")
    plain = add.s(2)

    canvases: tuple[Any, ...] = ((own | plain), group(own, plain))
    for canvas in (each.set(queue="all", priority=2) for each in canvases):
        assert [(part.options.queue, part.options.priority) for part in canvas.parts] == [("own", 2), ("all", 2)]


def test_options_reach_what_is_nested() -> None:
    canvas = chord([load.s(1) | add.s(1), group(load.s(2))], total.s()).set(queue="all")

    assert {node.call.options.queue for node in graph_of(canvas).jobs if node.call} == {"all"}


def test_options_that_an_inner_part_was_given_stay() -> None:
    inner = group(load.s(1), load.s(2)).set(queue="inner")
    canvas = (inner | total.s()).set(queue="outer")

    assert [node.call.options.queue for node in graph_of(canvas).jobs if node.call] == ["inner", "inner", "outer"]


def test_an_own_delay_goes_before_the_groups_whichever_kind_they_are() -> None:
    at = datetime(2030, 1, 1, tzinfo=UTC)
    by_time, by_delay = load.s(1).set(defer_until=at), load.s(2).set(defer_by=5)

    parts: Any = group(by_time, by_delay).set(defer_by=timedelta(minutes=1)).parts
    first, second = parts
    assert (first.options.defer_until, first.options.defer_by) == (at, None)
    assert second.options.defer_by == 5
    assert by_time.set(defer_by=5).options.defer_until is None


def test_a_groups_on_failure_is_of_its_list_and_not_of_its_parts() -> None:
    canvas: Any = group(PARTS).set(on_failure="continue", queue="q")

    assert canvas.on_failure == "continue"
    assert {part.options.on_failure for part in canvas.parts} == {None}
    assert canvas.set(queue="other").on_failure == "continue"


def test_a_groups_on_failure_goes_before_that_of_the_chain_around_it() -> None:
    canvas = (group(PARTS, on_failure="continue") | total.s()).set(on_failure="fail")

    assert policies(canvas) == ["continue"]


def test_set_keeps_arguments_and_error_callbacks() -> None:
    for canvas in (load.s(1), load.s(1) | add.s(1), group(load.s(1))):
        linked = canvas.link_error(alone.si())
        assert linked.set(queue="q").errbacks == (alone.si(),)
    assert add.si(1, right=2).set(queue="q").kwargs == {"right": 2}
    assert add.si(1).set(queue="q").immutable


# -- what is refused ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"defer_by": 1, "defer_until": datetime(2030, 1, 1, tzinfo=UTC)}, "defer_by or defer_until or neither"),
        ({"priority": 10}, "set: priority: expected an int from 0"),
        ({"priority": "high"}, "set: priority"),
        ({"on_failure": "ignore"}, "on_failure: expected one of 'fail', 'continue', got 'ignore'"),
        ({"que": "q"}, "expected some of queue, .*, got que"),
    ],
)
def test_impossible_options_are_refused(options: dict[str, Any], message: str) -> None:
    for canvas in (load.s(1), load.s(1) | add.s(1), group(load.s(1))):
        with pytest.raises(SettingsError, match=message):
            canvas.set(**options)


def test_a_job_id_is_of_one_signature() -> None:
    for canvas in (load.s(1) | add.s(1), group(load.s(1)), group()):
        with pytest.raises(SettingsError, match="job_id is of one signature"):
            canvas.set(job_id="a")


def test_a_job_id_that_is_chosen_twice_is_refused() -> None:
    with pytest.raises(GraphError, match="each job_id once in a flow, got 'a' twice"):
        graph_of(load.s(1).set(job_id="a") | group(add.s(1), add.s(2).set(job_id="a")))
    with pytest.raises(GraphError, match="'a' twice"):
        graph_of(load.s(1).set(job_id="a").link_error(alone.si().set(job_id="a")))


def test_what_is_no_signature_is_refused() -> None:
    builds: tuple[Any, ...] = (chain, group)
    for build in builds:
        with pytest.raises(SettingsError, match=r"a job function is given its arguments by \.s\(\)"):
            build(load)
        with pytest.raises(SettingsError, match=r"expected signatures .* got 5"):
            build([load.s(1), 5])
    with pytest.raises(SettingsError, match="link_error: expected signatures"):
        load.s(1).link_error(load)  # type: ignore[arg-type]
    with pytest.raises(SettingsError, match="chain: expected at least one signature"):
        chain()
    with pytest.raises(SettingsError, match="on_failure"):
        group(on_failure="never")  # type: ignore[arg-type]
    with pytest.raises(SettingsError, match=r"a job function has \.s\(\)"):
        signature(load)  # type: ignore[arg-type]


def test_arguments_are_checked_with_the_parents_result_in_its_place() -> None:
    graph_of(load.s(1) | add.s())
    graph_of(load.s(1) | add.s(right=2))
    with pytest.raises(ArgumentsError, match="<result of the parent>, 1, 2"):
        graph_of(load.s(1) | add.s(1, 2))
    with pytest.raises(ArgumentsError, match="<result of the parent>"):
        graph_of(load.s(1) | add.s(left=1))
    with pytest.raises(ArgumentsError, match="<result of the parent>"):
        graph_of(load.s(1) | alone.s())
    with pytest.raises(ArgumentsError, match="missing a required argument: 'left'"):
        graph_of(load.s(1) | add.si())  # type: ignore[call-arg]  # it does not get the result


def test_arguments_of_what_comes_first_are_checked_without_a_result() -> None:
    with pytest.raises(ArgumentsError, match="missing a required argument: 'left'"):
        graph_of(group(load.s(1), add.s()))
    graph_of(group(load.s(1), alone.s()))


def test_arguments_of_an_error_callback_are_checked_with_the_error_in_its_place() -> None:
    graph_of(load.s(1).link_error(add.s()))
    with pytest.raises(ArgumentsError, match="<result of the parent>"):
        graph_of(load.s(1).link_error(alone.s()))


def test_arguments_of_a_function_known_by_its_name_are_not_checked() -> None:
    graph = graph_of(load.s(1) | signature("elsewhere", 1, 2, key=3))

    assert shape(graph)[2] == ("elsewhere", [1])
    assert graph.nodes[2].call == signature("elsewhere", 1, 2, key=3)


def test_too_many_nodes_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arqestra.definitions.graph, "MAX_NODES", 10)
    graph_of(group(load.s(1) for _ in range(9)))
    with pytest.raises(GraphError, match="at most 10 nodes"):
        graph_of(group(load.s(1) for _ in range(10)))


def test_a_canvas_nested_too_deeply_is_refused() -> None:
    canvas: Chain[Any] | Group[Any] = group(load.s(1))
    for _ in range(2_000):
        canvas = group(canvas)

    with pytest.raises(GraphError, match="nested less deeply"):
        graph_of(canvas)
