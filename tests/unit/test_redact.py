"""What of arguments is masked when they are shown, by name and by marker."""

from __future__ import annotations

import asyncio
import dataclasses
from collections import namedtuple
from typing import Annotated, Any

import msgspec
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arqestra import ArgumentsError, Call, Pool, Redact, job
from arqestra.client.enqueue import new_job
from arqestra.definitions.coerce import ArgumentCoercer
from arqestra.definitions.redact import MASK, clipped, is_secret_name, redacted, redacted_value

SECRET = "hunter2"


@pytest.mark.parametrize(
    "name",
    [
        *("password", "PASSWD", "db_password", "dbpassword", "PGPASSWORD", "userPassword", "pwd", "passphrase"),
        *("secret", "client_secret", "aws_secret_access_key", "token", "access_token", "accessToken", "X-Auth-Token"),
        *("api_key", "apiKey", "APIKEY", "X-Api-Key", "private_key", "authorization", "Proxy-Authorization"),
        *("credential", "credentials", "cookie", "Set-Cookie", "jwt", "otp", "max_password"),
    ],
)
def test_secret_names(name: str) -> None:
    assert is_secret_name(name)


@pytest.mark.parametrize(
    "name",
    [
        *("user", "key", "monkey", "keyboard", "author", "authors", "secretary", "compass", "passenger", "bypass"),
        *("tokenizer", "max_tokens", "token_count", "path", "", "ключ", "x" * 500),
    ],
)
def test_names_that_only_look_so(name: str) -> None:
    assert not is_secret_name(name)


async def login(ctx: Any, /, user: str, password: str = "default", *rest: str, **more: Any) -> None: ...


async def verify(ctx: Any, number: str, code: Annotated[str, Redact], hints: list[Annotated[str, Redact]]) -> None: ...


async def open_up(ctx: Any, code: Annotated[str, Redact()] | None, *tokens: str) -> None: ...


def test_arguments_are_masked_by_the_name_of_their_parameter() -> None:
    assert redacted(("ann", SECRET, "x"), {"api_key": SECRET, "n": 1}, login) == (
        ("ann", MASK, "x"),
        {"api_key": MASK, "n": 1},
    )


def test_arguments_are_masked_by_a_marker_wherever_it_is_in_the_hint() -> None:
    assert redacted(("1", SECRET, [SECRET]), {}, verify) == (("1", MASK, MASK), {})
    assert redacted(("1",), {"code": SECRET, "hints": []}, verify) == (("1",), {"code": MASK, "hints": MASK})
    assert redacted((SECRET, SECRET, SECRET), {}, open_up) == ((MASK, MASK, MASK), {})


def test_a_marker_counts_where_the_hints_cannot_be_resolved() -> None:
    async def odd(ctx: Any, code: Annotated[Missing, Redact]) -> None: ...  # type: ignore[name-defined]  # noqa: F821

    assert redacted((SECRET,), {}, odd) == ((MASK,), {})


def test_mappings_are_masked_by_key_however_deep() -> None:
    headers = {"Authorization": SECRET, b"Cookie": SECRET, 3: "three"}
    shown, _ = redacted(({"calls": [(headers, [("X-Api-Key", SECRET)])]},), {})
    assert shown == ({"calls": [({"Authorization": MASK, b"Cookie": MASK, 3: "three"}, [("X-Api-Key", MASK)])]},)


@dataclasses.dataclass
class Account:
    user: str
    password: str
    pin: Annotated[int, Redact] = 0


class Model(pydantic.BaseModel):
    user: str
    api_key: str


class Struct(msgspec.Struct):
    user: str
    token: str


Pair = namedtuple("Pair", "user secret")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Account("ann", SECRET, 4711), f"Account(user='ann', password='{MASK}', pin='{MASK}')"),
        (Model(user="ann", api_key=SECRET), f"Model(user='ann', api_key='{MASK}')"),
        (Struct("ann", SECRET), f"Struct(user='ann', token='{MASK}')"),
        (Pair("ann", SECRET), f"Pair(user='ann', secret='{MASK}')"),
    ],
)
def test_objects_are_masked_by_field(value: Any, text: str) -> None:
    assert repr(redacted_value(value)) == text
    assert repr(redacted_value([value])) == f"[{text}]"


def test_what_has_no_secret_is_not_copied() -> None:
    for value in ([1, {"a": (2, "x")}], {"a": {1, 2}}, Account, object(), "token", [("user", 1)]):
        assert redacted_value(value) is value


def test_what_cannot_be_looked_into_harms_nobody() -> None:
    class Odd(dict[Any, Any]):
        def items(self) -> Any:
            raise RuntimeError("no")

    loop: list[Any] = [{"token": SECRET}]
    loop.append(loop)
    assert "Odd" in repr(redacted_value(Odd()))
    assert repr(redacted_value(loop)) == f"[{{'token': '{MASK}'}}, ...]"
    deep: Any = SECRET
    for _ in range(500):
        deep = [deep]
    assert SECRET not in repr(redacted_value(deep))


def test_errors_of_a_call_do_not_show_secrets() -> None:
    function = job(login)
    with pytest.raises(ArgumentsError) as caught:
        function.check_arguments(("ann", SECRET), {"user": 1, "client": {"token": SECRET}})
    assert SECRET not in str(caught.value)
    assert "default" not in str(caught.value)
    assert "got ('ann', '[redacted]', user=1, client={'token': '[redacted]'})" in str(caught.value)


def test_errors_of_type_hints_do_not_show_secrets() -> None:
    async def typed(ctx: Any, pin: Annotated[int, Redact], model: Any = None) -> None: ...

    class Hinted:
        """A class that refuses what it gets, and says what it got."""

        def __init__(self, text: str) -> None:
            raise ValueError(f"bad: {text}")

    typed.__annotations__ |= {"pin": Annotated[Hinted, Redact], "model": Model}
    coercer = ArgumentCoercer(typed)
    for args, kwargs in (((SECRET,), {}), ((), {"pin": SECRET}), ((), {"model": {"api_key": [SECRET]}})):
        with pytest.raises(ArgumentsError) as caught:
            coercer.coerce(args, kwargs)
        assert SECRET not in str(caught.value)
        assert caught.value.__cause__ is None


def test_errors_of_an_enqueue_do_not_show_secrets() -> None:
    pool = Pool()
    refused: tuple[Any, ...] = (["x"], [("login", SECRET)], [("login", [], [SECRET])])
    for specs in refused:
        with pytest.raises(ArgumentsError) as caught:
            asyncio.run(pool.enqueue_many(specs))
        assert SECRET not in str(caught.value)
    with pytest.raises(ArgumentsError) as caught:
        new_job(pool, Call("login", (), {}, headers={"authorization": [SECRET]}))  # type: ignore[dict-item]
    assert "{'authorization': list}" in str(caught.value)
    assert SECRET not in str(caught.value)


# -- properties ---------------------------------------------------------------------------------------------------

SECRET_NAMES = st.sampled_from(["password", "db_password", "apiKey", "X-Auth-Token", "Secret", "AUTHORIZATION"])
OTHER_NAMES = st.sampled_from(["user", "n", "key", "items", "path"])
LEAVES = st.one_of(st.integers(), st.text(max_size=5), st.none(), st.booleans(), st.binary(max_size=3))


def containers(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(
        st.lists(inner, max_size=3),
        st.tuples(inner, inner, inner),
        st.dictionaries(OTHER_NAMES, inner, max_size=3),
        st.builds(Pair, inner, st.just(SECRET)),
        st.builds(Account, inner, st.just(SECRET), st.just(SECRET)),
        st.dictionaries(SECRET_NAMES, st.one_of(st.just(SECRET), st.lists(st.just(SECRET))), max_size=2),
        st.tuples(SECRET_NAMES, st.just(SECRET)),
    )


VALUES = st.recursive(LEAVES, containers, max_leaves=12)
ARGUMENTS = st.tuples(
    st.lists(VALUES, max_size=1), st.dictionaries(SECRET_NAMES | OTHER_NAMES.filter(lambda n: n != "user"), VALUES)
)


@given(ARGUMENTS)
def test_no_secret_is_shown_and_nothing_is_changed(arguments: Any) -> None:
    args, kwargs = arguments
    kwargs = {name: SECRET if is_secret_name(name) else value for name, value in kwargs.items()}
    before = repr((args, kwargs))

    shown = redacted(args, kwargs, login)

    assert SECRET not in repr(shown)
    assert repr((args, kwargs)) == before
    assert len(shown[0]) == len(args)
    assert list(shown[1]) == list(kwargs)


@given(st.recursive(LEAVES, lambda inner: st.lists(inner) | st.dictionaries(OTHER_NAMES, inner), max_leaves=20))
def test_what_is_not_secret_is_shown_as_it_is(value: Any) -> None:
    assert redacted_value(value) is value


@given(st.text(max_size=30))
def test_any_name_has_a_verdict_and_a_part_counts_as_the_whole(name: str) -> None:
    is_secret_name(name)
    assert is_secret_name(f"{name}_password")
    assert is_secret_name(f"password_{name}")


# -- what a log line shows of a value -----------------------------------------------------------------------------

SHOWN_CHARACTERS = 80
LEAVES = st.none() | st.integers() | st.text(max_size=200) | st.binary(max_size=200)
VALUES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=60)
        | st.dictionaries(st.text(max_size=9), inner, max_size=60)
        | st.tuples(inner, inner)
    ),
    max_leaves=300,
)


@given(VALUES)
def test_a_clipped_value_begins_as_the_whole_one(value: Any) -> None:
    begin, whole = repr(redacted_value(clipped(value))), repr(redacted_value(value))
    # Only the quotes of a long text may be others: they depend on all of it.
    begin, whole = (text.replace('"', "'").replace("\\'", "'") for text in (begin, whole))
    assert begin[:SHOWN_CHARACTERS] == whole[:SHOWN_CHARACTERS]


@dataclasses.dataclass
class Login:
    password: str
    rows: list[int]
    code: Annotated[int, Redact] = 4711


@pytest.mark.parametrize(
    "big",
    [
        list(range(1_000_000)),
        {number: [number] * 3 for number in range(300_000)},
        [[[str(number)] for number in range(1000)] for _ in range(300)],
        set(range(1_000_000)),
        Login(SECRET, list(range(1_000_000))),
        [Login(SECRET, [])] * 100_000,
        "x" * 10_000_000,
    ],
)
def test_little_of_a_big_value_is_looked_at(big: Any) -> None:
    shown = repr(redacted_value(clipped(big)))

    assert len(shown) < 20_000
    assert SECRET not in shown
    assert "4711" not in shown


def test_what_refers_to_itself_is_clipped() -> None:
    circle: list[Any] = [1]
    circle.append(circle)

    assert repr(redacted_value(clipped(circle))).startswith("[1, [1, [1, ")
