"""`make send`: enqueues one mail on a running service and waits for it.

    python -m jobs.send --to someone@example.org [--subject ...] [--body ...] [--attach S3-KEY]

The service is found by its environment variables, or else by `data/service.env`, which `make run` writes.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from arqestra import create_pool

from .email import send_email
from .settings import load_settings

_PROJECT = Path(__file__).resolve().parent.parent
SERVICE_ENV = _PROJECT / (os.environ.get("SHOWCASE_FOLDER") or "data") / "service.env"
RESULT_TIMEOUT_S = 120


def main(arguments: list[str] | None = None) -> int:
    """Send one mail and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m jobs.send", description="enqueue one mail on a running service")
    parser.add_argument("--to", default="someone@example.org", help="the recipient")
    parser.add_argument("--subject", default="A mail from a second terminal")
    parser.add_argument("--body", default="It was enqueued by jobs.send and sent by a worker.\n")
    parser.add_argument("--attach", action="append", default=[], metavar="KEY", help="an S3 key; may be repeated")
    options = parser.parse_args(arguments)
    console = Console()
    if not SERVICE_ENV.exists() and "REDIS_URL" not in os.environ:
        console.print("[red]No service is running here: start `make run` first, or set REDIS_URL.")
        return 2
    return asyncio.run(_send(options, console))


async def _send(options: argparse.Namespace, console: Console) -> int:
    settings = load_settings(env_file=SERVICE_ENV)
    pool = await create_pool(settings.redis_url, serializer="msgpack")
    try:
        job = await pool.enqueue(
            send_email, options.to, options.subject, options.body, attachments=options.attach or None
        )
        if job is None:
            raise RuntimeError("a job with this id exists")
        console.print(f"enqueued job {job.job_id} on {send_email.queue}")
        result = await job.result(timeout=RESULT_TIMEOUT_S)
    except Exception as error:  # the job's own error, or no answer: either way the user reads one line
        console.print(f"[red]{type(error).__name__}: {escape(str(error))}", soft_wrap=True)
        return 1
    finally:
        await pool.close(close_connection_pool=True)
    console.print(
        f"[green]{result['status']}[/] to {result['to']}, Message-ID {escape(result['message_id'])}", soft_wrap=True
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
