"""A process that imports everything once and then forks workers, so that a killed worker is replaced in milliseconds.

Lines of JSON on standard input are its orders: `{"start": {...settings}, "log": path}` and `{"signal": n, "pid": pid}`.
Lines on standard output are its reports: `{"started": pid, "log": path}` and `{"ended": pid, "status": code}`, with a
negative code for a signal. It signals only children that it has not reaped, so never a process that got an old id. When
its input closes, or its parent dies, it kills all of them and ends; when it is killed itself, the kernel kills them
(Linux).
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import json
import logging.config
import os
import select
import signal
import sys
import traceback
from typing import Any, NoReturn

import uvloop  # noqa: F401 - imported before the forks
from arq.logs import default_log_config

import arqestra
from tests.chaos.chaos_jobs import FUNCTIONS

REAP_EVERY_S = 0.01
PR_SET_PDEATHSIG = 1


def main() -> None:
    """Obey orders until the input closes."""
    _die_with(int(sys.argv[1]))
    gc.freeze()
    children: set[int] = set()
    pending = b""
    try:
        while True:
            readable, _, _ = select.select([0], [], [], REAP_EVERY_S)
            if readable:
                data = os.read(0, 65536)
                if not data:
                    return
                *orders, pending = (pending + data).split(b"\n")
                for order in orders:
                    _obey(json.loads(order), children)
            _reap(children)
    finally:
        for pid in children:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def _obey(order: dict[str, Any], children: set[int]) -> None:
    if "start" in order:
        fork_server = os.getpid()
        pid = os.fork()
        if pid == 0:
            _become_worker(fork_server, order["start"], order["log"])
        children.add(pid)
        _report({"started": pid, "log": order["log"]})
    elif order["pid"] in children:
        os.kill(order["pid"], order["signal"])


def _reap(children: set[int]) -> None:
    for pid in list(children):
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            children.discard(pid)
            _report({"ended": pid, "status": os.waitstatus_to_exitcode(status)})


def _report(report: dict[str, Any]) -> None:
    with contextlib.suppress(BrokenPipeError):
        os.write(1, json.dumps(report).encode() + b"\n")


def _become_worker(fork_server: int, settings: dict[str, Any], log_path: str) -> NoReturn:
    code = 1
    try:
        _die_with(fork_server)
        log = os.open(log_path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(log, 1)
        os.dup2(log, 2)
        logging.config.dictConfig(default_log_config(False))
        arqestra.run_worker({"functions": FUNCTIONS, **settings})
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def _die_with(parent: int) -> None:
    """Have the kernel kill this process when its parent ends, however that happens."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)


if __name__ == "__main__":
    main()
