"""Several worker processes under one supervisor.

`supervisor.py` starts children (`child.py`), replaces those that end, and talks with them by `ipc.py`.
"""
