"""Serializers: what arguments and results become, and what is coerced from type hints."""

from __future__ import annotations

import pickle
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from arqestra import SerializationError, SettingsError
from arqestra.definitions.coerce import ArgumentCoercer, coerce_value
from arqestra.errors import ArgumentsError
from arqestra.protocol.serializers import SERIALIZERS, Serializer, serializer_of
from arqestra.protocol.wire import Payload, decode_payload, encode_payload
from tests.unit.typed_values import Colour, Customer, Order, Point

PLAIN = ("msgpack", "json")
MOMENT = datetime(2026, 2, 3, 4, 5, 6, 789000, tzinfo=UTC)
ORDER = Order(UUID(int=7), MOMENT, Colour.BLUE, [Point(1, 2), Point(3, 4)])
CUSTOMER = Customer(name="Kim", birthday=MOMENT, tags={"new"})

VALUES: list[tuple[Any, Any]] = [
    (Point, Point(1, 2)),
    (Order, ORDER),
    (datetime, MOMENT),
    (UUID, UUID(int=9)),
    (Colour, Colour.RED),
    (Customer, CUSTOMER),
    (set[int], {1, 2, 3}),
    (tuple[int, ...], (1, 2)),
    (tuple[str, Point], ("a", Point(5, 6))),
    (bytes, b"\x00\xff"),
    (list[Order], [ORDER]),
    (dict[str, UUID], {"a": UUID(int=1)}),
    (Point | None, Point(0, 0)),
    (Point | None, None),
    (int, 2**60),
    (float, 0.1),
    (str, "한국어"),
    (None, None),
    (Any, {"nested": [1, {"deeper": None}]}),
]


@pytest.mark.parametrize("name", PLAIN)
@pytest.mark.parametrize(("hint", "value"), VALUES)
def test_a_value_is_coerced_from_its_hint(name: str, hint: Any, value: Any) -> None:
    serializer = SERIALIZERS[name]
    carried = serializer.loads(serializer.dumps(value))
    if name == "json" and hint is bytes:
        assert isinstance(carried, str)  # base64

    coerced = coerce_value(hint, carried)

    assert coerced == value
    assert type(coerced) is type(value)


@pytest.mark.parametrize("name", PLAIN)
def test_arguments_are_coerced_by_position_and_by_name(name: str) -> None:
    async def ship(ctx: Any, order: Order, *stops: Point, by: datetime, **colours: Colour) -> None:
        """Positional, variable, keyword-only and other arguments."""

    ship.__annotations__ = {"order": Order, "stops": Point, "by": datetime, "colours": Colour}
    serializer = SERIALIZERS[name]
    payload = Payload("ship", (ORDER, Point(1, 1), Point(2, 2)), {"by": MOMENT, "paint": Colour.RED}, None, 0, {})
    carried = decode_payload(serializer, encode_payload(serializer, payload))
    coercer = ArgumentCoercer(ship)

    assert coercer.needed
    assert coercer.coerce(carried.args, carried.kwargs) == (payload.args, payload.kwargs)


def test_without_hints_that_need_it_nothing_is_coerced() -> None:
    async def plain(ctx: Any, a: int, b: str, c: list[int], d: dict[str, float], e: Any) -> None:
        """Plain data is what it is."""

    plain.__annotations__ = {"a": int, "b": str, "c": list[int], "d": dict[str, float], "e": Any}
    assert not ArgumentCoercer(plain).needed


@pytest.mark.parametrize(
    ("hint", "value"), [(Point, {"x": "no number", "y": 1}), (UUID, "no uuid"), (Colour, "green"), (datetime, "soon")]
)
def test_data_that_does_not_fit_the_hint_is_refused(hint: Any, value: Any) -> None:
    async def take(ctx: Any, argument: Any) -> None:
        """One argument."""

    take.__annotations__ = {"argument": hint}
    with pytest.raises(ArgumentsError, match="arguments do not fit the type hints"):
        ArgumentCoercer(take).coerce((value,), {})


@pytest.mark.parametrize("name", PLAIN)
def test_an_object_without_a_plain_form_is_an_error_that_says_what_to_do(name: str) -> None:
    payload = Payload("f", (object(),), {}, None, 0, {})

    with pytest.raises(SerializationError, match='unable to serialize job "f"') as caught:
        encode_payload(SERIALIZERS[name], payload)

    assert "builtins.object is not serializable here" in str(caught.value.__cause__)
    assert 'serializer="pickle"' in str(caught.value.__cause__)


@pytest.mark.parametrize("name", PLAIN)
def test_plain_serializers_never_unpickle(name: str) -> None:
    with pytest.raises(Exception, match=r".") as caught:
        SERIALIZERS[name].loads(pickle.dumps({"f": "x"}))

    assert "pickle" not in type(caught.value).__module__


def test_the_default_is_arqs_pickle() -> None:
    assert serializer_of(None).name == "pickle"
    assert pickle.loads(serializer_of(None).dumps({"a": ORDER})) == {"a": ORDER}


def test_arqs_two_arguments_are_taken() -> None:
    chosen = serializer_of(None, lambda data: repr(data).encode(), lambda data: {"read": data})

    assert (chosen.name, chosen.plain) == ("custom", False)
    assert chosen.dumps({"a": 1}) == b"{'a': 1}"
    assert chosen.loads(b"x") == {"read": b"x"}


def test_a_serializer_of_ones_own_is_taken_as_it_is() -> None:
    own = Serializer("own", lambda value: b"", lambda data: None, plain=True)

    assert serializer_of(own) is own


def test_an_unknown_name_is_an_error_that_lists_the_known() -> None:
    with pytest.raises(SettingsError, match=r"expected one of pickle, msgpack, json, got 'yaml'"):
        serializer_of("yaml")
