"""`make run`: starts servers and workers, runs every job on real input, and goes on serving until Ctrl-C.

Environment: `IMAGES=folder` and `DATA=file.csv` are worked on instead of matplotlib's samples; `ONCE=1` ends after the
work, with exit code 1 if anything failed. Everything is kept below `SHOWCASE_FOLDER`, which is `data`; `service.env`
there tells a second terminal where the servers are. All that is started here stops with it.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
import sys
import time
from collections.abc import Coroutine, Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import Any, TypeVar

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from arqestra import create_pool
from arqestra.embedded import EmbeddedRedis

from .child_processes import ChildProcess, start_python
from .development_servers import DUMMY_CREDENTIAL, HOST, ArrivedMail, s3_server, smtp_sink
from .object_store import open_object_store
from .settings import load_settings
from .showcase_input import NoInput, ShowcaseInput, find_input
from .showcase_work import Outcome, Place, ShowcaseWork

DATA_FOLDER = Path(os.environ.get("SHOWCASE_FOLDER") or "data")
SERVICE_ENV = DATA_FOLDER / "service.env"
WORKER, SCHEDULES = "worker.WorkerSettings", "scheduler.SCHEDULES"
DASHBOARD = ["dashboard", "--port", os.environ.get("DASHBOARD_PORT") or "0", "--settings", WORKER]
PROCESSES = 2
_PROJECT = Path(__file__).resolve().parent.parent
Result = TypeVar("Result")
_EXIT_FAILED, _EXIT_USAGE, _EXIT_INTERRUPTED = 1, 2, 130


class AlreadyRunning(Exception):
    """Another showcase uses the same data folder."""


class ChildEnded(Exception):
    """A worker, the scheduler or the dashboard ended on its own."""


def main() -> int:
    """Run the showcase and return the exit code."""
    console = Console()
    try:
        given = find_input(os.environ.get("IMAGES", ""), os.environ.get("DATA", ""))
        os.chdir(_PROJECT)
        with exclusive(DATA_FOLDER), EmbeddedRedis(data_dir=DATA_FOLDER / "redis") as redis:
            return asyncio.run(_until_stopped(redis.url, given, console))
    except (NoInput, AlreadyRunning) as error:
        console.print(f"[red]{escape(str(error))}")
        return _EXIT_USAGE


@contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Hold the data folder, which two showcases would damage.

    Raises:
        AlreadyRunning: another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "showcase.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise AlreadyRunning(f"a showcase already runs on {folder.resolve()}; stop it first") from None
        yield


async def _until_stopped(redis_url: str, given: ShowcaseInput, console: Console) -> int:
    """Show and serve; SIGINT and SIGTERM end it in order."""
    task = asyncio.create_task(_show(redis_url, given, console))
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, task.cancel)
    try:
        return await task
    except asyncio.CancelledError:
        console.print("Interrupted.")
        return _EXIT_INTERRUPTED
    except ChildEnded as error:
        console.print(f"[red]{escape(str(error))}")
        return _EXIT_FAILED


async def _show(redis_url: str, given: ShowcaseInput, console: Console) -> int:
    serving = asyncio.Event()
    run_id = time.strftime("%Y%m%d-%H%M%S")

    def on_mail(mail: ArrivedMail) -> None:
        if serving.is_set():
            subject = escape(str(mail.message["Subject"]))
            console.print(
                f"[green]mail[/] to {escape(', '.join(mail.recipients))}: {subject} → {mail.path}", soft_wrap=True
            )

    async with AsyncExitStack() as stack:
        sink = await stack.enter_async_context(smtp_sink(DATA_FOLDER / "mail" / run_id, on_mail))
        s3_url = await stack.enter_async_context(s3_server(DATA_FOLDER / "logs" / "s3.log"))
        environment = service_environment(redis_url, s3_url, sink.port, given.image_root)
        stack.enter_context(published(environment))
        running = await _start(stack)
        dashboard = await _start_dashboard(stack, running)
        console.print(
            f"[bold]arqestra[/] runs {PROCESSES} worker processes and a scheduler; their log is in "
            f"{DATA_FOLDER / 'logs'}.\nWatch them: [bold]{escape(dashboard)}[/]\n"
        )
        outcomes = await _unless_one_ends(running, _work(stack, given, run_id, console))
        print_outcomes(console, outcomes)
        succeeded = all(outcome.ok for outcome in outcomes)
        if os.environ.get("ONCE"):
            return 0 if succeeded else _EXIT_FAILED
        serving.set()
        _print_addresses(console, environment, dashboard)
        try:
            await _end_of_any(running)
        except asyncio.CancelledError:
            # Ctrl-C is how serving ends, so it is no failure.
            console.print("Stopping.")
    return 0 if succeeded else _EXIT_FAILED


def service_environment(redis_url: str, s3_url: str, smtp_port: int, image_root: Path) -> dict[str, str]:
    """Return the variables that lead the service to the development servers."""
    return {
        "REDIS_URL": redis_url,
        "SERVICE_S3_ENDPOINT_URL": s3_url,
        "SERVICE_S3_ACCESS_KEY_ID": DUMMY_CREDENTIAL,
        "SERVICE_S3_SECRET_ACCESS_KEY": DUMMY_CREDENTIAL,
        "SERVICE_SMTP_PORT": str(smtp_port),
        "SERVICE_IMAGE_ROOT": str(image_root),
        "SERVICE_IMAGE_OUTPUT_ROOT": str((DATA_FOLDER / "images").resolve()),
    }


@contextmanager
def published(environment: dict[str, str]) -> Iterator[None]:
    """Set the variables for us and our children, and leave them in a file for other terminals while we run."""
    os.environ.update(environment)
    SERVICE_ENV.write_text("".join(f"{name}={value}\n" for name, value in environment.items()))
    try:
        yield
    finally:
        SERVICE_ENV.unlink(missing_ok=True)


async def _start(stack: AsyncExitStack) -> list[ChildProcess]:
    """Start the supervisor of the worker processes, and a scheduler beside those that the workers have."""
    commands = {"worker": [WORKER, "--processes", str(PROCESSES)], "scheduler": [SCHEDULES]}
    running = []
    for command, arguments in commands.items():
        log = DATA_FOLDER / "logs" / f"{command}.log"
        child = await start_python(f"{command} {arguments[0]}", ["-m", "arqestra.cli", command, *arguments], log)
        stack.push_async_callback(child.stop)
        running.append(child)
    return running


async def _start_dashboard(stack: AsyncExitStack, running: list[ChildProcess]) -> str:
    """Start the dashboard beside them and return its address."""
    log = DATA_FOLDER / "logs" / "dashboard.log"
    child = await start_python("dashboard", ["-m", "arqestra.cli", *DASHBOARD], log)
    stack.push_async_callback(child.stop)
    running.append(child)
    return (await child.first_line()).removeprefix("dashboard: ") or f"it did not start; {log} says why"


async def _work(stack: AsyncExitStack, given: ShowcaseInput, run_id: str, console: Console) -> list[Outcome]:
    """Run all steps, with their bars."""
    settings = load_settings()
    store = await open_object_store(settings, stack)
    await store.create_bucket()
    pool = await create_pool(settings.redis_url, serializer="msgpack")
    stack.push_async_callback(pool.close, close_connection_pool=True)
    columns = (TextColumn("{task.description:<20}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        place = Place(pool, store, settings, DATA_FOLDER, run_id)
        return await ShowcaseWork(place, given, progress).run()


def print_outcomes(console: Console, outcomes: list[Outcome]) -> None:
    """Print what was produced and where to look."""
    table = Table(title="What was produced", title_justify="left", title_style="bold")
    for heading in ("", "step", "result", "where to look"):
        table.add_column(heading, overflow="fold")
    table.add_column("ms", justify="right")
    for outcome in outcomes:
        mark = "[green]✓" if outcome.ok else "[red]✗"
        table.add_row(mark, outcome.step, escape(outcome.produced), escape(outcome.where), f"{outcome.spent_ms:,.0f}")
    console.print()
    console.print(table)


def _print_addresses(console: Console, environment: dict[str, str], dashboard: str) -> None:
    console.print(f"\n[bold]Serving.[/] Redis {environment['REDIS_URL']}, S3 {environment['SERVICE_S3_ENDPOINT_URL']},")
    console.print(f"SMTP {HOST}:{environment['SERVICE_SMTP_PORT']}. Variables for another terminal: {SERVICE_ENV}")
    console.print(f"Dashboard: [bold]{escape(dashboard)}[/]")
    console.print("Send a mail from there: [bold]make send TO=someone@example.org[/]. Ctrl-C stops everything.\n")


async def _unless_one_ends(running: list[ChildProcess], work: Coroutine[Any, Any, Result]) -> Result:
    """Return what the work returns, without waiting for results that a dead worker will never bring.

    Raises:
        ChildEnded: a child ended first.
    """
    working, watching = asyncio.create_task(work), asyncio.create_task(_end_of_any(running))
    try:
        await asyncio.wait({working, watching}, return_when=asyncio.FIRST_COMPLETED)
        if watching.done():
            await watching
        return await working
    finally:
        working.cancel()
        watching.cancel()
        await asyncio.gather(working, watching, return_exceptions=True)


async def _end_of_any(running: list[ChildProcess]) -> None:
    """Wait until one of the children ends, which it should not.

    Raises:
        ChildEnded: always, naming the child.
    """
    watching = {asyncio.create_task(child.ended()): child for child in running}
    try:
        ended, _ = await asyncio.wait(watching, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in watching:
            task.cancel()
    raise ChildEnded(f"{watching[ended.pop()].name} ended on its own; {DATA_FOLDER / 'logs'} says why")


if __name__ == "__main__":
    sys.exit(main())
