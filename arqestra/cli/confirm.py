"""Asks before a command destroys something."""

import contextlib
import signal
import sys
import threading
from collections.abc import Iterator
from typing import Annotated, Any

import typer

from .shell import FAILED, USAGE, Shell, Stop

__all__ = ("DryRun", "Yes", "confirmed")

Yes = Annotated[bool, typer.Option("--yes", "-y", help="do not ask")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="only say what would be done")]


def confirmed(shell: Shell, what: str, *, yes: bool, dry_run: bool, document: Any = None) -> bool:
    """Whether the command may do something. It asks, if there is a terminal to ask at.

    :param what: "delete 3 jobs"
    :param document: what a dry run adds to its JSON document
    :returns: False in a dry run, after printing what would be done
    :raises Stop: the answer is no, or there is nobody to ask
    """
    if dry_run:
        shell.out.document({"dry_run": True, "would": what, **(document or {})})
        shell.out.line(f"would {what}")
        return False
    if yes:
        return True
    if not sys.stdin.isatty():
        raise Stop(f"expected -y to {what}: there is no terminal to ask at (--dry-run says what would be done)", USAGE)
    with _interruptible():
        agreed = typer.confirm(f"{what[0].upper()}{what[1:]}?", err=True)
    if not agreed:
        raise Stop("nothing was done", FAILED)
    return True


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """Let Ctrl-C end the question. asyncio would cancel the task, but the task cannot run while the question waits."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
