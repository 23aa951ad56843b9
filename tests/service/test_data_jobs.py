"""The shard jobs and the user chain over real objects in S3."""

from __future__ import annotations

import json
from typing import Any

import pytest

from jobs.clients import Clients
from jobs.errors import InvalidInput, InvalidMessage, InvalidRecords, ObjectMissing
from jobs.queues import EMAIL_QUEUE
from jobs.shards import fetch_partial_data, merge_results
from jobs.showcase_input import cut_into_shards, find_input, orders_of
from jobs.users import MAX_ORDERS, fetch_data, notification_text, process_data, send_notification

Ctx = dict[str, Any]
PROFILE = {"name": "김하늘", "email": "haneul@example.org"}


async def put_json(clients: Clients, key: str, value: Any) -> None:
    await clients.store.write(key, json.dumps(value).encode(), "application/json")


async def put_user(clients: Clients, orders: Any, profile: Any = PROFILE) -> None:
    await put_json(clients, "users/7/profile.json", profile)
    await put_json(clients, "users/7/orders.json", orders)


async def test_csv_and_json_shards_of_one_table_have_the_same_totals(ctx: Ctx, clients: Clients) -> None:
    await clients.store.write("s/1.csv", b"date,a,b\n2024-01-01,1,x\n2024-02-01,3,\n", "text/csv")
    await put_json(
        clients, "s/1.json", [{"date": "2024-01-01", "a": 1, "b": "x"}, {"date": "2024-02-01", "a": 3, "b": ""}]
    )
    from_csv, from_json = [await fetch_partial_data(ctx, key) for key in ("s/1.csv", "s/1.json")]
    assert {**from_csv, "shard": ""} == {**from_json, "shard": ""}
    assert from_csv["columns"]["a"]["mean"] == 2
    assert from_csv["years"]["2024"]["a"] == [2, 4.0]


async def test_the_real_table_in_shards_has_the_totals_of_the_whole(ctx: Ctx, clients: Clients) -> None:
    table = find_input("", "").table
    shards = list(cut_into_shards(table, "shards/"))
    for shard in shards:
        await clients.store.write(shard.key, shard.data, shard.content_type)
    await clients.store.write("whole.csv", table.read_bytes(), "text/csv")

    parts = [await fetch_partial_data(ctx, shard.key) for shard in shards]
    merged = await merge_results(ctx, parts, "stocks")
    whole = await fetch_partial_data(ctx, "whole.csv")

    assert {shard.key.rpartition(".")[2] for shard in shards} == {"csv", "json"}
    assert (merged["rows"], merged["shards"], merged["dataset"]) == (524, len(shards), "stocks")
    assert merged["columns"]["Date"] == whole["columns"]["Date"]
    for name in set(whole["columns"]) - {"Date"}:
        assert merged["columns"][name] == pytest.approx(whole["columns"][name], rel=1e-9)
    stored = json.loads(await clients.store.read(merged["key"], max_bytes=1_000_000))
    assert stored == {key: value for key, value in merged.items() if key != "key"}


async def test_merging_twice_stores_the_same_bytes(ctx: Ctx, clients: Clients) -> None:
    await clients.store.write("s/1.csv", b"a\n0.1\n0.2\n", "text/csv")
    await clients.store.write("s/2.csv", b"a\n0.3\n", "text/csv")
    parts = [await fetch_partial_data(ctx, key) for key in ("s/1.csv", "s/2.csv")]
    first = await clients.store.read((await merge_results(ctx, parts))["key"], 10_000)
    assert await clients.store.read((await merge_results(ctx, parts[::-1]))["key"], 10_000) == first


async def test_a_large_shard_arrives_as_a_stream(ctx: Ctx, clients: Clients) -> None:
    rows = 60_000
    data = b"a,b\n" + b"".join(b"%d,some text that makes the row longer\n" % number for number in range(rows))
    await clients.store.write("large.csv", data, "text/csv")
    part = await fetch_partial_data(ctx, "large.csv")
    assert (part["rows"], part["columns"]["a"]["total"]) == (rows, rows * (rows - 1) / 2)
    assert part["columns"]["b"]["texts"] == rows


async def test_damaged_and_missing_shards_are_clear_errors(ctx: Ctx, clients: Clients) -> None:
    await clients.store.write("bad.json", b'[{"a": 1}', "application/json")
    with pytest.raises(InvalidRecords, match=r"'bad\.json' cannot be read"):
        await fetch_partial_data(ctx, "bad.json")
    with pytest.raises(ObjectMissing):
        await fetch_partial_data(ctx, "nothing.csv")


@pytest.mark.parametrize("dataset", ["", "../x", "a/b", "a b", "x" * 81])
async def test_a_data_set_has_a_plain_name(ctx: Ctx, dataset: str) -> None:
    with pytest.raises(InvalidInput, match="is no data set name"):
        await merge_results(ctx, [], dataset)


async def test_the_user_chain(ctx: Ctx, clients: Clients) -> None:
    await put_user(
        clients,
        [
            {"date": "2024-03-01", "item": "tea", "amount": 2.5},
            {"date": "2024-01-01", "item": "tea", "amount": "1.5"},
            {"date": "2024-02-01", "item": "cake", "amount": 4},
            {"date": "2024-02-01", "item": "cake", "amount": "free"},
            {"item": "cake", "amount": 1},
            "no order",
        ],
    )
    fetched = await fetch_data(ctx, "7")
    assert (len(fetched["orders"]), fetched["rejected"], fetched["email"]) == (3, 3, PROFILE["email"])

    summary = await process_data(ctx, fetched)
    assert summary["items"] == {"tea": 4.0, "cake": 4.0}
    assert (summary["total"], summary["first"], summary["last"]) == (8.0, "2024-01-01", "2024-03-01")
    assert json.loads(await clients.store.read(summary["key"], 10_000))["orders"] == 3

    queued = await send_notification(ctx, summary, fetched["email"])
    assert queued == {"status": "queued", "to": PROFILE["email"], "mail_job_id": "job-1-mail"}
    info = await ctx["redis"].job("job-1-mail", queue=EMAIL_QUEUE).info()
    assert info.function == "send_email"
    assert "김하늘" in info.args[2]


async def test_notifying_twice_enqueues_one_mail(ctx: Ctx) -> None:
    for _ in range(2):
        await send_notification(ctx, None, "a@example.org")
    assert await ctx["redis"].zcard(EMAIL_QUEUE) == 1


async def test_a_user_without_orders(ctx: Ctx, clients: Clients) -> None:
    await put_user(clients, [])
    summary = await process_data(ctx, await fetch_data(ctx, "7"))
    assert (summary["orders"], summary["largest"]) == (0, None)
    assert "no orders" in notification_text(summary)[1]


@pytest.mark.parametrize("user_id", ["", "../7", "7/..", "7\n"])
async def test_a_user_id_is_a_plain_name(ctx: Ctx, user_id: str) -> None:
    with pytest.raises(InvalidInput, match="is no user id"):
        await fetch_data(ctx, user_id)


@pytest.mark.parametrize("profile", [[], {"name": "x"}, "x", {"name": "x", "email": 7}, None])
async def test_a_damaged_profile_is_a_clear_error(ctx: Ctx, clients: Clients, profile: Any) -> None:
    await put_user(clients, [], profile)
    with pytest.raises(InvalidInput):
        await fetch_data(ctx, "7")


async def test_too_many_orders_are_refused(ctx: Ctx, clients: Clients) -> None:
    await put_user(clients, [{"date": "2024-01-01", "item": "x", "amount": 1}] * (MAX_ORDERS + 1))
    with pytest.raises(InvalidInput, match="more than 2,000 orders; use fetch_partial_data"):
        await fetch_data(ctx, "7")


@pytest.mark.parametrize("data", [{}, {"user_id": "7"}, {"user_id": "7", "name": "", "email": "", "orders": [[1]]}])
async def test_what_fetch_data_did_not_return_is_refused(ctx: Ctx, data: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput, match="no result of fetch_data"):
        await process_data(ctx, data)


async def test_a_notification_goes_to_one_address(ctx: Ctx) -> None:
    with pytest.raises(InvalidMessage):
        await send_notification(ctx, None, "a@example.org, b@example.org")


def test_the_showcase_finds_orders_in_the_table() -> None:
    orders = orders_of(find_input("", "").table)
    assert orders[0] == {"date": "1990-01-01", "item": "IBM", "amount": 10.97}
    assert len(orders) == 200
