"""Changing many jobs: those of some ids, or those that a filter chooses; what became of each is told."""

import asyncio
import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from ..errors import SettingsError
from ..protocol.recent_jobs import EndedJob
from .arguments import since_ms
from .confirm import may
from .search import ENDED, MAX_ENDED, Search, find_ended
from .shell import Shell

__all__ = ("Change", "Done", "Filter", "Target", "change_jobs", "chosen_filter")

AT_ONCE = 100
SHOWN_FROM = 500  # jobs from which on the progress is shown
MAX_NAMED = 100  # jobs that were not changed and are named


class Target(NamedTuple):
    """A job that is to be changed.

    :ivar queue: None if it is to be found
    :ivar ended: the attempt as which it was chosen
    """

    id: str
    queue: str | None
    ended: EndedJob | None = None


class Done(NamedTuple):
    """What became of one job.

    :ivar code: 0 if it was done
    """

    id: str
    outcome: str
    code: int = 0


class Filter(NamedTuple):
    """Which jobs are to be changed."""

    state: str
    function: str | None
    since: str | None
    limit: int | None


class Chosen(NamedTuple):
    """The jobs that a filter chose.

    :ivar queue: None: of all queues
    :ivar not_kept: jobs that it would have chosen too, whose results are not kept any more
    """

    targets: list[Target]
    queue: str | None
    not_kept: int = 0


class Change(NamedTuple):
    """What is done to jobs.

    :ivar verb, past: "retry", "queued"
    :ivar one: does it to one job
    :ivar asks: also for jobs that were named one by one
    """

    verb: str
    past: str
    one: Callable[[Shell, Target], Awaitable[Done]]
    asks: bool = True


def chosen_filter(
    ids: list[str] | None,
    state: str | None,
    all_dead: bool,
    function: str | None,
    since: str | None,
    limit: int | None = None,
) -> Filter | None:
    """The filter of a command's options; None if it has ids.

    :raises SettingsError: both, or neither
    """
    if all_dead and state not in (None, "dead"):
        raise SettingsError(f"expected --all-dead or --state {state}, got both")
    state = "dead" if all_dead else state
    if bool(ids) == (state is not None):
        raise SettingsError(f"expected ids of jobs or --state, got {'both' if ids else 'neither'}")
    if state is None:
        if function is not None or since is not None or limit is not None:
            raise SettingsError("--function, --since, --limit: expected --state with them")
        return None
    return Filter(state, function, since, limit)


async def change_jobs(
    shell: Shell, change: Change, ids: list[str] | None, wanted: Filter | None, *, dry_run: bool, yes: bool
) -> None:
    """Change the jobs of ids, or of a filter; ask before. Ends with the worst exit code."""
    if wanted is not None:
        await _change_chosen(shell, change, wanted, dry_run=dry_run, yes=yes)
        return
    targets = [Target(job_id, shell.chosen_queue) for job_id in dict.fromkeys(ids or [])]
    what = f"{change.verb} {_count(len(targets), 'job')}"
    may_do = not dry_run and not change.asks
    if not may_do and not may(shell, what, yes=yes, dry_run=dry_run, document={"ids": [each.id for each in targets]}):
        return
    done = [await change.one(shell, target) for target in targets]
    shell.out.document({"jobs": [{"id": each.id, "outcome": each.outcome} for each in done]})
    for each in done:
        shell.out.line(f"{each.id}  {each.outcome}", style="" if each.code == 0 else "red")
    _end_with(done)


async def _change_chosen(shell: Shell, change: Change, wanted: Filter, *, dry_run: bool, yes: bool) -> None:
    chosen = await _chosen(shell, wanted)
    count = len(chosen.targets)
    of = "" if wanted.function is None else f" of function {wanted.function}"
    where = "of all queues" if chosen.queue is None else f"of queue {chosen.queue}"
    facts: dict[str, Any] = {
        "queue": chosen.queue,
        "state": wanted.state,
        "count": count,
        "results_not_kept": chosen.not_kept,
    }
    if chosen.not_kept:
        shell.out.note(f"{_count(chosen.not_kept, 'more job')} ended so, and their results are not kept any more")
    if not chosen.targets and not dry_run:
        shell.out.document({**facts, "outcome": change.past, "not_done": []})
        shell.out.line(f"no such job {'in the dead set' if wanted.state == 'dead' else f'is {wanted.state}'} {where}")
        return
    what = f"{change.verb} {_count(count, f'{wanted.state} job')}{of} {where}"
    if not may(shell, what, yes=yes, dry_run=dry_run, document=facts):
        return
    done = await _change_all(shell, change, chosen.targets)
    well = [each for each in done if each.code == 0]
    others = [each for each in done if each.code]
    shell.out.document(
        {
            **facts,
            "count": len(well),
            "outcome": change.past,
            "not_done": [{"id": each.id, "outcome": each.outcome} for each in others[:MAX_NAMED]],
        }
    )
    for outcome, number in Counter(each.outcome for each in well).most_common():
        shell.out.line(f"{number:,} {outcome}")
    for outcome, number in Counter(each.outcome for each in others).most_common():
        example = next(each.id for each in others if each.outcome == outcome)
        shell.out.line(f"{number:,} not: {outcome} ({example}{', ...' if number > 1 else ''})", style="red")
    _end_with(done)


async def _chosen(shell: Shell, wanted: Filter) -> Chosen:
    oldest_ms, limit = since_ms(wanted.since), wanted.limit
    if wanted.state in ENDED:
        found, more = await find_ended(
            shell.pool,
            wanted.state,
            queue=shell.chosen_queue,
            function=wanted.function,
            oldest_ms=oldest_ms,
            limit=MAX_ENDED,
        )
        if more:
            shell.out.note(f"these are the newest {MAX_ENDED:,}; there may be more")
        latest: dict[str, tuple[EndedJob, bool]] = {}
        for job, kept in found:  # of a job that failed twice: the latest
            latest.setdefault(job.job_id, (job, kept))
        targets = [Target(job.job_id, job.queue, job) for job, kept in latest.values() if kept]
        not_kept = len(latest) - len(targets)
        return Chosen(targets[:limit][::-1], shell.chosen_queue, not_kept)  # those that ended first are the first
    search = Search(shell.pool, shell.queue, wanted.function, oldest_ms)
    rows = search.dead() if wanted.state == "dead" else search.queued(wanted.state, 0, most=None)
    targets = []
    async for row in rows:
        targets.append(Target(row.id, shell.queue))
        if len(targets) == limit:
            break
        if len(targets) % AT_ONCE == 0:
            await asyncio.sleep(0)  # decoding many results takes a while: let Ctrl-C in
    return Chosen(targets, shell.queue)


async def _change_all(shell: Shell, change: Change, targets: Sequence[Target]) -> list[Done]:
    done: list[Done] = []
    with _progress(shell, change.verb, len(targets)) as advance:
        for first in range(0, len(targets), AT_ONCE):
            piece = targets[first : first + AT_ONCE]
            done += await asyncio.gather(*(change.one(shell, target) for target in piece))
            advance(len(piece))
    return done


@contextmanager
def _progress(shell: Shell, verb: str, total: int) -> Iterator[Callable[[int], None]]:
    """A bar on stderr, if there are many and somebody looks."""
    if total < SHOWN_FROM or shell.out.as_json or not sys.stderr.isatty():
        yield lambda _: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(verb, total=total)
        yield lambda count: progress.advance(task, count)


def _end_with(done: Sequence[Done]) -> None:
    worst = max((each.code for each in done), default=0)
    if worst:
        raise typer.Exit(worst)


def _count(number: int, name: str) -> str:
    return f"{number:,} {name}{'' if number == 1 else 's'}"
