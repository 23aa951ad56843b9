"""Clients are opened once and closed: at the end, and when the start fails half-way."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest

from jobs import clients as clients_module
from jobs.clients import CLIENTS, clients_of, on_shutdown, on_startup
from jobs.development_servers import MailSink
from jobs.settings import ServiceSettings
from tests.support.repository import REPOSITORY


async def test_shutdown_closes_what_startup_opened(settings: ServiceSettings, sink: MailSink) -> None:
    ctx: dict[str, Any] = {"settings": settings}
    await on_startup(ctx)
    clients = clients_of(ctx)
    await clients.mail.ping()
    await clients.store.create_bucket()
    await on_shutdown(ctx)
    assert not clients.mail.idle
    with pytest.raises(RuntimeError, match="shutdown"):
        clients.threads.submit(print)
    await on_shutdown(ctx)


async def test_a_start_that_fails_closes_what_it_had_opened(
    settings: ServiceSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(settings: ServiceSettings) -> None:
        raise OSError("no mail")

    monkeypatch.setattr(clients_module, "open_smtp_pool", fail)
    ctx: dict[str, Any] = {"settings": settings}
    # An S3 client that stays open would warn when it is collected, and a warning fails a test here.
    with pytest.raises(OSError, match="no mail"):
        await on_startup(ctx)
    assert CLIENTS not in ctx


def test_libvips_is_told_its_threads_before_it_starts() -> None:
    code = "import worker, pyvips; print(pyvips.concurrency_get())"
    environment = {name: value for name, value in os.environ.items() if name != "VIPS_CONCURRENCY"}
    project = REPOSITORY
    output = subprocess.run(
        [sys.executable, "-c", code], cwd=project, env=environment, capture_output=True, text=True, check=True
    )
    assert output.stdout.strip() == "1"
