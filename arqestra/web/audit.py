"""The audit log: who did what, to what, from where, and with which outcome. It has failed actions too."""

from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from ..store.audit import add_to_audit, read_audit
from .app_state import AppState

__all__ = ("AuditEntry", "AuditList", "AuditQuery", "add_entry", "read_entries")

TARGETS_SHOWN = 20
PAGE = 100


class AuditEntry(Struct, frozen=True):
    """An action.

    :ivar who: name of the person, and their role
    :ivar address: from where
    :ivar action: such as "jobs/retry"
    :ivar targets: the first twenty of what it was done to
    :ivar filter: that chose them; "" if they were chosen by hand
    :ivar done, failed: how many of them it was done to, and could not be done to
    :ivar outcome: in words
    """

    at_ms: int
    who: str
    role: str
    address: str
    action: str
    targets: list[str]
    filter: str
    done: int
    failed: int
    outcome: str


class AuditQuery(Struct, frozen=True):
    """Which page of it."""

    offset: Annotated[int, Meta(ge=0, le=10_000)] = 0
    limit: Annotated[int, Meta(ge=1, le=500)] = PAGE


class AuditList(Struct, frozen=True):
    """Entries of the audit log, the latest first.

    :ivar next: `offset` of the next page; None if this is the last
    """

    now_ms: int
    entries: list[AuditEntry]
    next: int | None


async def read_entries(app_state: AppState, query: AuditQuery) -> AuditList:
    """A page of the audit log."""
    found = await read_audit(app_state.store, query.offset, query.limit + 1)
    entries = []
    for data in found[: query.limit]:
        try:
            entries.append(msgspec.json.decode(data, type=AuditEntry))
        except msgspec.MsgspecError:
            continue  # another version wrote it
    return AuditList(app_state.now_ms(), entries, query.offset + query.limit if len(found) > query.limit else None)


async def add_entry(app_state: AppState, entry: AuditEntry) -> None:
    """Add an entry, with its first twenty targets."""
    short = msgspec.structs.replace(entry, targets=[target[:200] for target in entry.targets[:TARGETS_SHOWN]])
    await add_to_audit(app_state.store, msgspec.json.encode(short))
