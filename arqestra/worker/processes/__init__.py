"""Several worker processes under one supervisor.

`supervisor.py` decides which processes there are. `launcher.py` starts them: as forks of a process that has imported
the settings (`fork_client.py`, `fork_server.py`), or as interpreters of their own. `process.py` is the supervisor's
side of a process, `child.py` the process itself; they talk by `ipc.py`.
"""
