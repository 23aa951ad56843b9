"""`arqestra doctor`: what is wrong with the server and the queues, and what to do."""

import asyncio
from typing import Annotated

import typer

from ..store.queues import QueueSurvey
from ..store.server import read_server
from .checks import Finding, check_queue, check_server
from .queues import NO_QUEUE, all_queues, survey_or_none
from .shell import Shell, command, redacted

__all__ = ("add_doctor",)

CODES = {"ok": 0, "warning": 1, "problem": 2}
RECHECK_AFTER_S = 0.3


def add_doctor(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "doctor")(doctor)


async def doctor(
    shell: Shell,
    strict: Annotated[bool, typer.Option("--strict", help="a warning counts as a problem: exit code 2")] = False,
) -> None:
    """Check the server and the queues: each line is ok, a warning or a problem, and says what to do.

    Exit codes: 0 all is well, 1 there are warnings, 2 there are problems, or no Redis answers.
    """
    store = shell.pool.store
    findings = [Finding("server", "ok", f"answers at {redacted(shell.url)}")]
    findings += check_server(await read_server(store))
    cut = False
    if not any(each.level == "problem" and each.subject == "scripts" for each in findings):
        served = {queue for worker in await shell.pool.workers() if worker.alive for queue in worker.presence.queues}
        queues, cut = ([shell.queue], False) if shell.chosen_queue else await all_queues(shell.pool)
        for queue in sorted({*queues, *(() if shell.chosen_queue else served)}):
            seen = await _queue(shell, queue, registered=queue in served)
            findings += [_no_queue(queue, store.keys.queue(queue))] if seen is None else check_queue(seen)
    if cut:
        text = "more than 100,000 keys: there may be queues that were not looked at"
        findings.append(Finding("queues", "ok", text, "name one by --queue"))
    worst = max(findings, key=lambda each: CODES[each.level]).level
    shell.out.document({"verdict": worst, "findings": [each._asdict() for each in findings]})
    shell.out.table(
        ("checked", "verdict", "found"),
        (row for each in findings for row in _rows(each)),
    )
    code = CODES[worst]
    if code:
        raise typer.Exit(2 if strict else code)


def _rows(each: Finding) -> list[tuple[str, str, str]]:
    """A finding, and below it what to do."""
    rows = [(each.subject, str(each.level), each.text)]
    return [*rows, ("", "", f"→ {each.advice}")] if each.advice else rows


async def _queue(shell: Shell, name: str, *, registered: bool) -> QueueSurvey | None:
    """The state of a queue. One that seems to have no worker is read twice: a worker may be between two jobs."""
    seen = await survey_or_none(shell.pool, name)
    if seen is None or seen._replace(registered=registered).served:
        return seen and seen._replace(registered=registered)
    await asyncio.sleep(RECHECK_AFTER_S)
    return await survey_or_none(shell.pool, name)


def _no_queue(name: str, key: str) -> Finding:
    return Finding(f"queue {name}", "problem", NO_QUEUE, f"see what wrote it: TYPE {key}; rename or delete that key")
