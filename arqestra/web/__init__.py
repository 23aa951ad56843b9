"""The dashboard: pages and an API that show queues, jobs, workers, schedules and workflows, and act on them.

`create_app(...)` makes a Starlette application: run it with `arqestra dashboard`, or mount it in one of yours. It needs
`pip install arqestra[web]`. It may use all folders below it but the worker. Start with `app.py`, the routes; then read
`catalogue.py`, the table of views, and `actions.py`, the table of actions.
"""

from .app import create_app
from .auth import Auth, BasicAuth, CallableAuth, Identity, TokenAuth

__all__ = ("Auth", "BasicAuth", "CallableAuth", "Identity", "TokenAuth", "create_app")
