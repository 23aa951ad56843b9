"""The servers that the service's tests run against: Valkey, moto's S3 and an SMTP sink, all real, all on loopback."""

from __future__ import annotations

import os
import socket
import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.support.pools import serializers

# The jobs read these when they are imported: no test waits 10 s for a retry, or 6 s for its turn.
os.environ["SERVICE_MAIL_RETRY_BASE_S"] = "0.02"
os.environ["SERVICE_IMAGE_RATE"] = "600/m"

from arqestra import Pool
from jobs.clients import Clients, clients_of, on_shutdown, on_startup
from jobs.development_servers import DUMMY_CREDENTIAL, MailSink, s3_server, smtp_sink
from jobs.settings import ServiceSettings


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def s3_url(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    async with s3_server(tmp_path_factory.mktemp("s3") / "s3.log") as url:
        yield url


@pytest.fixture
async def sink(tmp_path: Path) -> AsyncIterator[MailSink]:
    async with smtp_sink(tmp_path / "mail") as sink:
        yield sink


@pytest.fixture
def settings(redis_url: str, s3_url: str, sink: MailSink, tmp_path: Path) -> ServiceSettings:
    """Settings that lead to the servers, with a bucket and an image folder of this test's own."""
    root = tmp_path / "images"
    root.mkdir()
    return ServiceSettings.model_validate(
        {
            "redis_url": redis_url,
            "s3_endpoint_url": s3_url,
            "s3_access_key_id": DUMMY_CREDENTIAL,
            "s3_secret_access_key": DUMMY_CREDENTIAL,
            "s3_bucket": f"test-{uuid.uuid4().hex}",
            "smtp_port": sink.port,
            "image_root": root,
            "image_output_root": tmp_path / "output",
        }
    )


serializer = serializers("msgpack")


@pytest.fixture
async def ctx(settings: ServiceSettings, pool: Pool) -> AsyncIterator[dict[str, Any]]:
    """What a job gets: open clients, the pool, and the facts of one attempt."""
    ctx: dict[str, Any] = {
        "settings": settings,
        "redis": pool,
        "job_id": "job-1",
        "job_try": 1,
        "enqueue_time": datetime(2026, 11, 22, 9, 0, tzinfo=UTC),
    }
    await on_startup(ctx)
    await clients_of(ctx).store.create_bucket()
    yield ctx
    await on_shutdown(ctx)


@pytest.fixture
def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def clients(ctx: dict[str, Any]) -> Clients:
    return clients_of(ctx)
