"""The search box: finds jobs, functions, queues, schedules, workers and flows by any text that contains their names."""

import contextlib
import re
from typing import Annotated
from urllib.parse import parse_qs, urlsplit

from msgspec import Meta, Struct

from ...store.find import find_jobs
from ...store.read_flows import read_flow
from ..app_state import AppState
from ..links import link

__all__ = ("Hit", "SearchQuery", "SearchResult", "read_search")

MAX_WORDS = 12
MAX_HITS = 50
_WORD = re.compile(r"[^\s'\"`,;()\[\]{}<>]+")


class SearchQuery(Struct, frozen=True):
    """What was pasted."""

    q: Annotated[str, Meta(max_length=2000)] = ""


class Hit(Struct, frozen=True):
    """Something that was found.

    :ivar kind: "job", "function", "queue", "schedule", "worker" or "flow"
    :ivar href: its page, below the dashboard's root
    :ivar exact: it is called just so
    """

    kind: str
    name: str
    detail: str
    href: str
    exact: bool


class SearchResult(Struct, frozen=True):
    """What was found, what is called just so first."""

    query: str
    hits: list[Hit]


async def read_search(app_state: AppState, query: SearchQuery) -> SearchResult:
    """Everything whose id or name is in the text. It may be a name, a line of a log, or an address of a page."""
    text = query.q.strip()
    words = _words(text)
    hits = [*await _jobs(app_state, words), *await _flows(app_state, words), *await _named(app_state, words)]
    unique = {(hit.kind, hit.href): hit for hit in sorted(hits, key=lambda hit: hit.exact)}
    return SearchResult(query.q, sorted(unique.values(), key=lambda hit: not hit.exact)[:MAX_HITS])


def _words(text: str) -> list[str]:
    """What may be an id or a name: the whole text, its words, and parts of them (`id:function` in arq's log lines)."""
    if not text:
        return []
    words = [text]
    if "://" in text:
        with contextlib.suppress(ValueError):  # a bracket without an IPv6 address; the text still has words
            for values in parse_qs(urlsplit(text).query).values():
                words += values
    for word in _WORD.findall(text):
        words.append(word)
        words += [piece for piece in re.split(r"[:=→]", word) if piece]
    return list(dict.fromkeys(words))[:MAX_WORDS]


async def _jobs(app_state: AppState, words: list[str]) -> list[Hit]:
    found = await find_jobs(app_state.store, words, (await app_state.queues())[:200])
    return [Hit("job", job_id, queue, link("/job", id=job_id, queue=queue), True) for job_id, queue in found]


async def _flows(app_state: AppState, words: list[str]) -> list[Hit]:
    hits = []
    for word in words:
        record = await read_flow(app_state.store, word)
        if record is not None:
            hits.append(Hit("flow", word, record.name, link("/workflow", id=word), True))
    return hits


async def _named(app_state: AppState, words: list[str]) -> list[Hit]:
    hours = await app_state.stats.hours(24)
    functions = sorted({function for bucket in hours.values() for _, function in bucket})
    schedules = await app_state.cache.get("schedules", app_state.pool.schedules.list, fresh_s=5.0)
    workers = await app_state.cache.get("workers", app_state.pool.workers)
    candidates = [
        *(("queue", name, "", link("/queue", name=name)) for name in await app_state.queues()),
        *(("function", name, "", link("/jobs", state="complete", function=name)) for name in functions),
        *(("schedule", info.name, info.words, link("/schedule", name=info.name)) for info in schedules),
        *(("worker", each.worker_id, f"{each.presence.host} {each.presence.pid}", "/workers") for each in workers),
    ]
    lower = [word.lower() for word in words if len(word) > 1]
    return [
        Hit(kind, name, detail, href, name in words)
        for kind, name, detail, href in candidates
        if name in words or any(word in name.lower() or word == detail.lower() for word in lower)
    ]
