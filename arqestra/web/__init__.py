"""The dashboard: pages and an API over what a Redis holds of queues, jobs, workers, schedules and workflows.

`create_app(...)` is a Starlette application: run it by `arqestra dashboard`, or mount it in one of your own.
It needs `pip install arqestra[web]`.
"""

from .app import create_app
from .auth import Auth, BasicAuth, CallableAuth, Identity, TokenAuth

__all__ = ("Auth", "BasicAuth", "CallableAuth", "Identity", "TokenAuth", "create_app")
