"""Whether a process may be forked: what its children would share, and must not.

A fork copies memory and the thread that forks. Other threads are gone in the child, with the locks that they held, and
open sockets and files are one for all.
"""

import contextlib
import fcntl
import gc
import os
import stat
import sys
import tempfile
import threading
import warnings
from collections.abc import Collection
from pathlib import Path

__all__ = ("open_descriptors", "platform_can_fork", "reason_not_to_fork")

_DESCRIPTORS = Path("/proc/self/fd")
_THREADS = Path("/proc/self/task")


def platform_can_fork() -> bool:
    """Whether this system has what a fork server needs. macOS has not: its own libraries do not survive a fork."""
    if sys.platform != "linux" or not _THREADS.is_dir():
        return False
    try:
        os.close(os.pidfd_open(os.getpid()))
    except OSError:  # Linux before 5.3, or a sandbox
        return False
    return True


def open_descriptors() -> dict[int, os.stat_result]:
    """The file descriptors of this process, and what they are."""
    found = {}
    for name in os.listdir(_DESCRIPTORS):
        with contextlib.suppress(OSError):  # the one by which the folder was read is closed
            found[int(name)] = os.fstat(int(name))
    return found


def reason_not_to_fork(before: Collection[int]) -> str | None:
    """Why children of this process would not be as good as processes of their own; None if they would.

    :param before: descriptors that were open before anything was imported
    """
    threads = [thread.name for thread in threading.enumerate() if thread is not threading.main_thread()]
    if threads:
        return f"threads were started: {', '.join(sorted(threads))}"
    opened = {number: found for number, found in open_descriptors().items() if number not in before}
    harmful = [_name_of(number) for number, found in opened.items() if not _is_harmless(number, found.st_mode)]
    if harmful:
        return f"connections or files were opened: {', '.join(harmful)}"
    if any(type(each) is tempfile.TemporaryDirectory for each in gc.get_objects()):
        return "a temporary folder was made, which the first process to end would remove"
    if _has_threads_after_a_fork():
        return "a library has started threads of its own"
    return None


def _is_harmless(number: int, mode: int) -> bool:
    """Whether several processes may have a descriptor: of a device, or of a log, to which each appends."""
    return stat.S_ISCHR(mode) or (stat.S_ISREG(mode) and bool(fcntl.fcntl(number, fcntl.F_GETFL) & os.O_APPEND))


def _name_of(number: int) -> str:
    return str((_DESCRIPTORS / str(number)).readlink())


def _has_threads_after_a_fork() -> bool:
    """Whether threads of C libraries are left. Libraries that know of forks, as OpenBLAS, end theirs before one."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python's own, about such threads
        child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    return len(list(_THREADS.iterdir())) > 1
