"""What msgpack and JSON cannot carry is refused where it is written; nothing arrives as something else in silence."""

from __future__ import annotations

import dataclasses
import enum
import re
from typing import Any

import msgspec
import pydantic
import pytest

from arqestra import Flow, SerializationError, Worker, create_pool, group, job, schedule, workflow
from arqestra.protocol.serializers import SERIALIZERS
from tests.support.wait import PATIENCE_S

NAN, INF = float("nan"), float("inf")


@dataclasses.dataclass
class Box:
    content: Any


class Model(pydantic.BaseModel):
    price: float


class Packed(msgspec.Struct):
    price: float


class Level(enum.Enum):
    HIGHEST = INF


NOT_IN_JSON = [
    *(NAN, INF, -INF, [NAN], (1, (2, NAN)), {"a": {"b": [INF]}}, {NAN}, frozenset([INF]), Box(NAN), Box([Box(INF)])),
    *(Model(price=NAN), Packed(INF), Level.HIGHEST, {1: "a", "1": "b"}, {"a": [{1.5: 0, "1.5": 1}]}, {NAN: 1}),
    *([None, NAN], {"a": None, "b": INF}, Box({2: 0, "2": 1})),
]
NOT_IN_MSGPACK = [2**64, -(2**63) - 1, [2**64], {"a": (2**70,)}, {2**64: 1}, Box(2**64)]
IN_NEITHER = ["\ud800", {"\ud800": 1}, ["a", {"b": "\udfff"}], object(), 1j, lambda: 1, Box(object())]
REFUSED = [
    *(("json", value) for value in (*NOT_IN_JSON, *IN_NEITHER)),
    *(("msgpack", value) for value in (*NOT_IN_MSGPACK, *IN_NEITHER)),
]


@pytest.mark.parametrize(("name", "value"), REFUSED, ids=lambda value: re.sub(r" at 0x\w+", "", ascii(value))[:40])
def test_what_a_format_cannot_carry_is_refused(name: str, value: Any) -> None:
    with pytest.raises(Exception, match=r"."):
        SERIALIZERS[name].dumps({"a": (value,)})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("msgpack", value) for value in (INF, -INF, {1: "a", "1": "b"}, {None: 1}, {1.5: 2}, 2**64 - 1, b"\xff")),
        *(("json", value) for value in (2**70, 1e308, -0.0, "null", [None, None], {"a": None}, {"1": 2, "2": 1})),
    ],
    ids=repr,
)
def test_what_a_format_carries_arrives_as_it_was(name: str, value: Any) -> None:
    serializer = SERIALIZERS[name]

    assert serializer.loads(serializer.dumps({"a": value})) == {"a": value}


def test_numbers_as_keys_of_json_are_text_as_long_as_they_can_be_told_apart() -> None:
    assert SERIALIZERS["json"].loads(SERIALIZERS["json"].dumps({1: "a", 2: "b"})) == {"1": "a", "2": "b"}


# -- in whatever way it is to be stored ---------------------------------------------------------------------------


@job
async def take(ctx: Any, value: Any = None) -> None:
    """Whatever it is."""


@job
async def give(ctx: Any) -> Any:
    return {"values": [1.5, NAN]}


@workflow
async def step_with_it(flow: Flow) -> Any:
    return await flow.run(take.s([NAN]))


@workflow
async def end_with_it(flow: Flow) -> Any:
    return [NAN]


@workflow
async def effect_with_it(flow: Flow) -> Any:
    return await flow.side_effect(lambda: [INF])


@workflow
async def again_with_it(flow: Flow, value: Any = 1) -> Any:
    flow.continue_as_new([NAN])


WORKFLOWS = [step_with_it, end_with_it, effect_with_it, again_with_it]


async def test_every_way_in_refuses_it_and_stores_nothing(redis_url: str) -> None:
    pool = await create_pool(redis_url, serializer="json")
    before = set(await pool.keys("*"))
    value = {"price": [NAN]}
    ways = [
        lambda: pool.enqueue_job("take", value),
        lambda: pool.enqueue_job("take", key=value),
        lambda: pool.enqueue(take, value),
        lambda: pool.enqueue(take.options(priority=3), value),
        lambda: pool.enqueue_many([take.bind(1), take.bind(value)]),
        lambda: pool.enqueue_flow(take.s(value)),
        lambda: pool.enqueue_flow(take.s() | group(take.si(1), take.si(value)) | take.si()),
        lambda: pool.enqueue_flow(take.s() | take.s().link_error(take.si(value))),
        lambda: pool.enqueue_flow(take.starmap([(1,), (value,)])),
        lambda: pool.enqueue_flow(take.chunks([(1,), (value,)], 2)),
        lambda: pool.signal("some-workflow", "event", value),
        lambda: pool.schedules.upsert(schedule("* * * * *", take, args=[value])),
    ]
    for number, way in enumerate(ways):
        with pytest.raises(SerializationError) as caught:
            await way()
        assert "JSON has no nan" in str(caught.value.__cause__), number
    assert set(await pool.keys("*")) - {b"arqestra:queues"} == before
    await pool.aclose()


async def test_results_and_workflows_with_it_fail_and_say_so(redis_url: str) -> None:
    pool = await create_pool(redis_url, serializer="json")
    made = [await pool.enqueue(function) for function in (give, *WORKFLOWS)]  # type: ignore[arg-type, var-annotated]
    worker = Worker(
        [take, give, *WORKFLOWS], redis_settings=redis_url, serializer="json", handle_signals=False, burst=True
    )
    await worker.async_run()
    for each in made:
        assert each is not None
        with pytest.raises(SerializationError, match=r"unable to serialize|JSON has no"):
            await each.result(timeout=PATIENCE_S)
    await worker.close()
    await pool.aclose()
