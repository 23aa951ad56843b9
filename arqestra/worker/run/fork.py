"""A child process that a job forks is no second worker.

A fork copies all: the event loop, the sockets, the handlers of signals and the descriptor by which the loop hears of
them, which the two processes then share, so that a signal to the child shuts the worker down. And a forked child that
returns from the job's function would go on as a copy of the worker, on the worker's connections.

So in the child the handlers of signals are the usual ones again (signals wait until that is done), and the process
ends where it would come back to the copy of the loop: when the function that forked returns, raises or awaits. What it
does before that is its own affair. `multiprocessing`, `subprocess` and whoever calls `os._exit` never come so far.
"""

import contextlib
import dis
import logging
import os
import signal
import sys
import threading
from functools import cache
from pathlib import Path
from types import FrameType
from typing import Any

__all__ = ("guard_forks",)

logger = logging.getLogger("arq.worker")

# Code that runs a job: the frame that it has called is where the child must end.
_RUNNERS = (
    str(Path(__file__).parents[1]),  # arqestra/worker
    *(str(Path(os.__file__).parent / "asyncio" / name) for name in ("events.py", "base_events.py", "runners.py")),
    str(Path(os.__file__).parent / "concurrent" / "futures" / "thread.py"),
)
_LOOPS = ("asyncio", "uvloop")
_MULTIPROCESSING = "popen_fork.py"  # it ends its children by itself
_masks: dict[int, set[Any]] = {}  # thread that forks -> signals that it had blocked before


@cache  # once a process
def guard_forks() -> None:
    """From here on, every child that this process forks is told that it is none of its workers."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(before=_hold_signals, after_in_parent=_let_signals_go, after_in_child=_become_a_child)


def _hold_signals() -> None:
    """A signal to the child must not come before its handlers are the usual ones."""
    _masks[threading.get_ident()] = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())


def _let_signals_go() -> None:
    mask = _masks.pop(threading.get_ident(), None)
    if mask is not None:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _become_a_child() -> None:
    _reset_signals()
    _let_signals_go()
    frame = _outermost_of_job(sys._getframe(1))
    if frame is not None:
        _end_behind(frame)


def _reset_signals() -> None:
    with contextlib.suppress(ValueError):  # not in the main thread of the main interpreter
        signal.set_wakeup_fd(-1)
        for number in signal.valid_signals():
            handler = signal.getsignal(number)
            if callable(handler) and str(getattr(handler, "__module__", "")).split(".")[0] in _LOOPS:
                usual = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
                signal.signal(number, usual)


def _outermost_of_job(frame: FrameType | None) -> FrameType | None:
    """The outermost frame of what forked that is not the worker's own; None if no worker has called it."""
    while frame is not None and frame.f_back is not None:
        if frame.f_code.co_filename.endswith(_MULTIPROCESSING):
            return None
        if frame.f_back.f_code.co_filename.startswith(_RUNNERS):
            return frame
        frame = frame.f_back
    return None


def _end_behind(frame: FrameType) -> None:
    """End this process when the frame is left, by whatever way: a `finally` of the job cannot prevent it."""
    raised: BaseException | None = None

    def trace(of: FrameType, event: str, value: Any) -> Any:
        nonlocal raised
        if of is frame:
            if event == "exception":
                raised = value[1]
            elif event == "return":
                _end(frame, None if _comes_back(frame) else raised)
        return trace

    frame.f_trace, frame.f_trace_lines = trace, False
    sys.settrace(lambda *_: None)  # a frame's own function is called while there is one of the thread


def _comes_back(frame: FrameType) -> bool:
    """Whether it returns or awaits; a frame that raises ends with another instruction than one of these."""
    code = frame.f_code.co_code
    return 0 <= frame.f_lasti < len(code) and dis.opname[code[frame.f_lasti]].startswith(("RETURN_", "YIELD_"))


def _end(frame: FrameType, raised: BaseException | None) -> None:
    sys.settrace(None)
    code = 1
    try:
        if isinstance(raised, SystemExit) and not isinstance(raised.code, str):
            code = int(raised.code or 0)
        else:
            logger.error(
                "child process %d, which %s forked, came back to its worker: it ends here; expected os._exit() in it",
                os.getpid(),
                frame.f_code.co_qualname,
                exc_info=raised,
            )
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)
