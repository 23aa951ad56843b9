"""Changes many jobs, given by their ids or by a filter, and prints the outcome of each."""

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
from .confirm import confirmed
from .output import count_of
from .search import ENDED, MAX_ENDED, Search, find_ended
from .shell import Shell

__all__ = ("Change", "Filter", "JobOutcome", "Target", "change_jobs", "chosen_filter")

AT_ONCE = 100
PROGRESS_FROM = 500  # from this many jobs on, a bar shows the progress
MAX_NAMED = 100  # how many of the jobs that were not changed are named


class Target(NamedTuple):
    """A job to change.

    :ivar queue: None if it has to be found
    :ivar ended: the ended attempt by which the filter chose it
    """

    id: str
    queue: str | None
    ended: EndedJob | None = None


class JobOutcome(NamedTuple):
    """What became of one job.

    :ivar code: exit code; 0 if the job was changed
    """

    id: str
    outcome: str
    code: int = 0


class Filter(NamedTuple):
    """Which jobs to change."""

    state: str
    function: str | None
    since: str | None
    limit: int | None


class Chosen(NamedTuple):
    """The jobs that a filter chose.

    :ivar queue: None for all queues
    :ivar not_kept: how many more jobs fit whose results are not kept any more
    """

    targets: list[Target]
    queue: str | None
    not_kept: int = 0


class Change(NamedTuple):
    """What to do to jobs.

    :ivar verb, past: "retry", "queued"
    :ivar change_one: does it to one job
    :ivar asks: ask first, also for jobs that were named one by one
    """

    verb: str
    past: str
    change_one: Callable[[Shell, Target], Awaitable[JobOutcome]]
    asks: bool = True


def chosen_filter(
    ids: list[str] | None,
    *,
    state: str | None,
    function: str | None,
    since: str | None,
    limit: int | None,
    all_dead: bool = False,
) -> Filter | None:
    """The filter in the options of a command; None if the command has ids.

    :raises SettingsError: it has both, or neither
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
    """Ask, then change the jobs of some ids or of a filter. The command ends with the worst exit code."""
    if wanted is not None:
        await _change_chosen(shell, change, wanted, dry_run=dry_run, yes=yes)
        return
    targets = [Target(job_id, shell.chosen_queue) for job_id in dict.fromkeys(ids or [])]
    what = f"{change.verb} {count_of(len(targets), 'job')}"
    asked = dry_run or change.asks
    if asked and not confirmed(shell, what, yes=yes, dry_run=dry_run, document={"ids": [each.id for each in targets]}):
        return
    done = [await change.change_one(shell, target) for target in targets]
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
        shell.out.note(f"{count_of(chosen.not_kept, 'more job')} ended so, and their results are not kept any more")
    if not chosen.targets and not dry_run:
        shell.out.document({**facts, "outcome": change.past, "not_done": []})
        shell.out.line(f"no such job {'in the dead set' if wanted.state == 'dead' else f'is {wanted.state}'} {where}")
        return
    what = f"{change.verb} {count_of(count, f'{wanted.state} job')}{of} {where}"
    if not confirmed(shell, what, yes=yes, dry_run=dry_run, document=facts):
        return
    done = await _change_all(shell, change, chosen.targets)
    changed = [each for each in done if each.code == 0]
    unchanged = [each for each in done if each.code]
    shell.out.document(
        {
            **facts,
            "count": len(changed),
            "outcome": change.past,
            "not_done": [{"id": each.id, "outcome": each.outcome} for each in unchanged[:MAX_NAMED]],
        }
    )
    for outcome, number in Counter(each.outcome for each in changed).most_common():
        shell.out.line(f"{number:,} {outcome}")
    for outcome, number in Counter(each.outcome for each in unchanged).most_common():
        example = next(each.id for each in unchanged if each.outcome == outcome)
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
        for job, kept in found:  # a job that failed twice: its latest attempt
            latest.setdefault(job.job_id, (job, kept))
        targets = [Target(job.job_id, job.queue, job) for job, kept in latest.values() if kept]
        not_kept = len(latest) - len(targets)
        return Chosen(targets[:limit][::-1], shell.chosen_queue, not_kept)  # the oldest first
    search = Search(shell.pool, shell.queue, wanted.function, oldest_ms)
    rows = search.dead() if wanted.state == "dead" else search.queued(wanted.state, 0, max_inspected=None)
    targets = []
    async for row in rows:
        targets.append(Target(row.id, shell.queue))
        if len(targets) == limit:
            break
        if len(targets) % AT_ONCE == 0:
            await asyncio.sleep(0)  # decoding many results takes a while: let Ctrl-C through
    return Chosen(targets, shell.queue)


async def _change_all(shell: Shell, change: Change, targets: Sequence[Target]) -> list[JobOutcome]:
    done: list[JobOutcome] = []
    with _progress(shell, change.verb, len(targets)) as advance:
        for first in range(0, len(targets), AT_ONCE):
            batch = targets[first : first + AT_ONCE]
            done += await asyncio.gather(*(change.change_one(shell, target) for target in batch))
            advance(len(batch))
    return done


@contextmanager
def _progress(shell: Shell, verb: str, total: int) -> Iterator[Callable[[int], None]]:
    """A bar on stderr, if there are many jobs and stderr is a terminal."""
    if total < PROGRESS_FROM or shell.out.as_json or not sys.stderr.isatty():
        yield lambda _: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(verb, total=total)
        yield lambda count: progress.advance(task, count)


def _end_with(done: Sequence[JobOutcome]) -> None:
    worst = max((each.code for each in done), default=0)
    if worst:
        raise typer.Exit(worst)
