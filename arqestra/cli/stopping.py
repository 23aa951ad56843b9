"""Runs commands that go on until they are stopped: by Ctrl-C, SIGTERM, a key, or a reader that closes the pipe."""

import asyncio
import contextlib
import os
import signal
import stat
import sys
import termios
import tty
from collections.abc import Coroutine, Iterator
from typing import Any

__all__ = ("run_until_stopped",)


async def run_until_stopped(work: Coroutine[Any, Any, None], keys: str = "") -> None:
    """Run a coroutine until it ends or is stopped. Both count as success.

    :param keys: each of these keys stops it, if there is a terminal to press it at
    """
    stopped = asyncio.Event()
    with contextlib.ExitStack() as stack:
        stack.enter_context(_signals(stopped))
        stack.enter_context(_closed_pipe(stopped))
        if keys:
            stack.enter_context(_pressed(keys, stopped))
        task, waiter = asyncio.ensure_future(work), asyncio.ensure_future(stopped.wait())
        try:
            await asyncio.wait((task, waiter), return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiter.cancel()
            if not task.done():
                task.cancel()
        try:
            await task
        except asyncio.CancelledError:
            if not stopped.is_set():
                raise
        except BrokenPipeError:
            stopped.set()
    _abandon_closed_pipe()


@contextlib.contextmanager
def _signals(stopped: asyncio.Event) -> Iterator[None]:
    loop = asyncio.get_running_loop()
    numbers = (signal.SIGINT, signal.SIGTERM)
    try:
        for number in numbers:
            loop.add_signal_handler(number, stopped.set)
    except (ValueError, RuntimeError):  # not the main thread
        yield
        return
    try:
        yield
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)


@contextlib.contextmanager
def _closed_pipe(stopped: asyncio.Event) -> Iterator[None]:
    """Stop when the reader closes the pipe, also while there is nothing to write: the system reports that."""
    number = _pipe()
    if number is None:
        yield
        return
    loop = asyncio.get_running_loop()
    loop.add_reader(number, stopped.set)
    try:
        yield
    finally:
        loop.remove_reader(number)


def _pipe() -> int | None:
    """The file descriptor of stdout, if it is a pipe."""
    try:
        number = sys.stdout.fileno()
        return number if stat.S_ISFIFO(os.fstat(number).st_mode) else None
    except (OSError, ValueError):
        return None


@contextlib.contextmanager
def _pressed(keys: str, stopped: asyncio.Event) -> Iterator[None]:
    """Stop at one of the keys, without Enter and without showing the key."""
    if not sys.stdin.isatty():
        yield
        return
    loop, number = asyncio.get_running_loop(), sys.stdin.fileno()
    before = termios.tcgetattr(number)

    def read() -> None:
        if any(key in keys for key in os.read(number, 100).decode(errors="replace")):
            stopped.set()

    tty.setcbreak(number)
    loop.add_reader(number, read)
    try:
        yield
    finally:
        loop.remove_reader(number)
        termios.tcsetattr(number, termios.TCSADRAIN, before)


def _abandon_closed_pipe() -> None:
    """Drop what is left in the buffer of a closed pipe: else Python fails to flush it when the process ends."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
