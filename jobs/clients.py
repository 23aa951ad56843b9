"""What the jobs of a worker share: opened once in `on_startup`, closed in `on_shutdown`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any, TypeVar

from .object_store import ObjectStore, open_object_store
from .settings import ServiceSettings, load_settings
from .smtp_pool import SmtpPool, open_smtp_pool

CLIENTS = "clients"
_CLOSER = "clients_closer"
Result = TypeVar("Result")


@dataclass(frozen=True)
class Clients:
    """The open clients of one worker.

    Attributes:
        settings: the configuration.
        mail: kept SMTP connections.
        store: the S3 bucket.
        threads: where libvips and typst work, away from the event loop.
    """

    settings: ServiceSettings
    mail: SmtpPool
    store: ObjectStore
    threads: ThreadPoolExecutor

    async def in_thread(self, function: Callable[..., Result], *arguments: Any) -> Result:
        """Run a blocking function in the pool and return what it returns."""
        return await asyncio.get_running_loop().run_in_executor(self.threads, function, *arguments)


async def on_startup(ctx: dict[str, Any]) -> None:
    """Open the clients. Settings put into `ctx["settings"]` beforehand win over the environment (tests do that)."""
    settings = ctx.get("settings") or load_settings()
    async with AsyncExitStack() as stack:
        store = await open_object_store(settings, stack)
        mail = open_smtp_pool(settings)
        stack.push_async_callback(mail.close)
        threads = ThreadPoolExecutor(settings.image_threads, thread_name_prefix="service")
        stack.callback(threads.shutdown, wait=False, cancel_futures=True)
        ctx[CLIENTS] = Clients(settings, mail, store, threads)
        # Reached only if everything opened; otherwise the stack has closed what did.
        ctx[_CLOSER] = stack.pop_all()


async def on_shutdown(ctx: dict[str, Any]) -> None:
    """Close what `on_startup` opened."""
    closer = ctx.pop(_CLOSER, None)
    if closer is not None:
        await closer.aclose()


def clients_of(ctx: dict[str, Any]) -> Clients:
    """Return the clients of the worker that runs this job."""
    clients: Clients = ctx[CLIENTS]
    return clients
