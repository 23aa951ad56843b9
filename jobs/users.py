"""The chain `fetch_data` -> `process_data` -> `send_notification`: a user's orders, a summary, and a mail about it."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from typing import Any

from arqestra import job

from .aggregates import ColumnTotals, number_of
from .clients import Clients, clients_of
from .email import send_email
from .errors import InvalidInput
from .mail_message import checked_address
from .queues import DEFAULT_QUEUE
from .record_stream import RecordReader

MAX_ORDERS = 2_000
_MAX_PROFILE_BYTES = 100_000
_USER_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")


@job(name="fetch_data", queue=DEFAULT_QUEUE, timeout=120)
async def fetch_data(ctx: dict[str, Any], user_id: str) -> dict[str, Any]:
    """Read a user's profile and orders from S3.

    Parameters:
        user_id: names the folder: `users/<user_id>/profile.json` is an object with `name` and `email`, and
            `users/<user_id>/orders.json` an array of objects with `date`, `item` and `amount`, read as a stream.

    Returns:
        `{"user_id", "name", "email", "orders": [[date, item, amount], ...], "rejected"}`; `rejected` counts what had
        no date, item or number.

    Raises:
        ObjectMissing: no such user.
        InvalidRecords, InvalidInput: damaged data, or more than 2,000 orders, which are a case for
            `fetch_partial_data`, whose result does not grow with its input.

    Running it twice is harmless: it only reads.
    """
    clients = clients_of(ctx)
    folder = _folder_of(user_id)
    profile = await _read_profile(clients, f"{folder}/profile.json")
    reader = RecordReader(f"{folder}/orders.json", clients.settings.data_max_record_bytes)
    orders: list[list[Any]] = []
    rejected = 0
    async for record in reader.records(clients.store.chunks(f"{folder}/orders.json")):
        amount = number_of(record.get("amount"))
        date, item = record.get("date"), record.get("item")
        if amount is None or not isinstance(date, str) or not isinstance(item, str):
            rejected += 1
            continue
        if len(orders) == MAX_ORDERS:
            raise InvalidInput(f"user {user_id!r} has more than {MAX_ORDERS:,} orders; use fetch_partial_data")
        orders.append([date, item, amount])
    return {"user_id": user_id, **profile, "orders": orders, "rejected": rejected + reader.rejected}


@job(name="process_data", queue=DEFAULT_QUEUE, timeout=60)
async def process_data(ctx: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
    """Summarise what `fetch_data` read, and keep the summary in S3.

    Parameters:
        data: the result of `fetch_data`.

    Returns:
        `{"user_id", "name", "email", "orders", "total", "mean", "largest", "first", "last", "items": {item: total},
        "key"}`; `key` is `users/<user_id>/summary.json`.

    Raises:
        InvalidInput: something else than a result of `fetch_data`.

    Running it twice is harmless: the summary follows from the data and replaces the object whole.
    """
    try:
        folder = _folder_of(data["user_id"])
        summary = {name: data[name] for name in ("user_id", "name", "email")} | _summary_of(data["orders"])
    except (KeyError, TypeError, ValueError) as error:
        raise InvalidInput(f"this is no result of fetch_data: {error!r}") from error
    key = f"{folder}/summary.json"
    body = json.dumps(summary, ensure_ascii=False, sort_keys=True).encode()
    await clients_of(ctx).store.write(key, body, "application/json")
    return {**summary, "key": key}


@job(name="send_notification", queue=DEFAULT_QUEUE, timeout=60)
async def send_notification(ctx: dict[str, Any], summary: dict[str, Any] | None, user_email: str) -> dict[str, Any]:
    """Tell a user that the data is processed, by a `send_email` job on the e-mail queue.

    Parameters:
        summary: the result of `process_data`; with None the mail says only that the work is done.
        user_email: one address.

    Returns:
        `{"status": "queued", "to", "mail_job_id"}`; the mail job has the delivery's own result, and its retries.

    Raises:
        InvalidMessage: not one address.

    Running it twice is harmless: the mail job's id follows from this job's, and an id is enqueued once.
    """
    to = checked_address(user_email)
    subject, body = notification_text(summary)
    mail_job_id = f"{ctx['job_id']}-mail"
    await ctx["redis"].enqueue(send_email.options(job_id=mail_job_id), to, subject, body)
    return {"status": "queued", "to": to, "mail_job_id": mail_job_id}


def notification_text(summary: dict[str, Any] | None) -> tuple[str, str]:
    """Return subject and body of the mail."""
    if not summary or not summary.get("orders"):
        return "Your data has been processed", "Your data has been processed; there were no orders in it.\n"
    lines = [f"    {item:<12} {total:>14,.2f}" for item, total in sorted(summary["items"].items())]
    name = str(summary["name"])
    body = (
        f"Dear {name},\n\n{summary['orders']} orders between {summary['first']} and {summary['last']} "
        f"come to {summary['total']:,.2f}, on average {summary['mean']:,.2f}:\n\n" + "\n".join(lines) + "\n"
    )
    return f"Your {summary['orders']} orders have been processed", body


def _summary_of(orders: list[list[Any]]) -> dict[str, Any]:
    totals = ColumnTotals()
    items: dict[str, float] = defaultdict(float)
    for _, item, amount in orders:
        totals.add(amount)
        items[item] += amount
    dates = sorted(date for date, _, _ in orders)
    return {
        "orders": totals.count,
        "total": totals.total,
        "mean": totals.mean,
        "largest": totals.maximum if orders else None,
        "first": dates[0] if dates else None,
        "last": dates[-1] if dates else None,
        "items": dict(items),
    }


async def _read_profile(clients: Clients, key: str) -> dict[str, str]:
    data = await clients.store.read(key, _MAX_PROFILE_BYTES)
    try:
        profile = json.loads(data)
        return {"name": str(profile["name"]), "email": checked_address(str(profile["email"]))}
    except (ValueError, KeyError, TypeError) as error:
        raise InvalidInput(f"{key!r} is no profile with a name and an email: {error!r}") from error


def _folder_of(user_id: str) -> str:
    if not _USER_ID.fullmatch(user_id):
        raise InvalidInput(f"{user_id!r} is no user id; expected letters, digits, '.', '_' and '-'")
    return f"users/{user_id}"
