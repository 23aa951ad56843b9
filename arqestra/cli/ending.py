"""Commands that go on until they are told to end: by Ctrl-C, SIGTERM, a key, or a reader that has closed the pipe."""

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

__all__ = ("run_until_told",)


async def run_until_told(work: Coroutine[Any, Any, None], keys: str = "") -> None:
    """Run something until it ends, or until it is told to; either way the command has succeeded.

    :param keys: each of these ends it, if there is a terminal to press it at
    """
    told = asyncio.Event()
    with contextlib.ExitStack() as stack:
        stack.enter_context(_signals(told))
        stack.enter_context(_closed_pipe(told))
        if keys:
            stack.enter_context(_pressed(keys, told))
        task, waiting = asyncio.ensure_future(work), asyncio.ensure_future(told.wait())
        try:
            await asyncio.wait((task, waiting), return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiting.cancel()
            if not task.done():
                task.cancel()
        try:
            await task
        except asyncio.CancelledError:
            if not told.is_set():
                raise
        except BrokenPipeError:
            told.set()
    _let_go_of_a_closed_pipe()


@contextlib.contextmanager
def _signals(told: asyncio.Event) -> Iterator[None]:
    loop = asyncio.get_running_loop()
    numbers = (signal.SIGINT, signal.SIGTERM)
    try:
        for number in numbers:
            loop.add_signal_handler(number, told.set)
    except (ValueError, RuntimeError):  # not the main thread
        yield
        return
    try:
        yield
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)


@contextlib.contextmanager
def _closed_pipe(told: asyncio.Event) -> Iterator[None]:
    """Whoever reads a pipe may leave while there is nothing to write: the system tells that as an error of the pipe."""
    number = _pipe()
    if number is None:
        yield
        return
    loop = asyncio.get_running_loop()
    loop.add_reader(number, told.set)
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
def _pressed(keys: str, told: asyncio.Event) -> Iterator[None]:
    """Keys without Enter, and without showing them."""
    if not sys.stdin.isatty():
        yield
        return
    loop, number = asyncio.get_running_loop(), sys.stdin.fileno()
    before = termios.tcgetattr(number)

    def read() -> None:
        if any(key in keys for key in os.read(number, 100).decode(errors="replace")):
            told.set()

    tty.setcbreak(number)
    loop.add_reader(number, read)
    try:
        yield
    finally:
        loop.remove_reader(number)
        termios.tcsetattr(number, termios.TCSADRAIN, before)


def _let_go_of_a_closed_pipe() -> None:
    """What is left in the buffer must not fail at the end of the process."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
