"""The servers of `make run` and the tests: an SMTP sink that keeps mails as files, and moto's S3 in a process.

Both listen on 127.0.0.1 and on a port that the system chose. `python -m jobs.development_servers` is the S3 process.
"""

from __future__ import annotations

import asyncio
import logging
import re
import signal
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .child_processes import start_python

if TYPE_CHECKING:
    from aiosmtpd.smtp import SMTP, Envelope, Session

HOST = "127.0.0.1"
DUMMY_CREDENTIAL = "development"
_MAX_MAIL_BYTES = 50_000_000


@dataclass(frozen=True)
class ArrivedMail:
    """A mail that the sink has kept."""

    path: Path
    recipients: tuple[str, ...]
    message: EmailMessage


class MailSink:
    """Keeps every mail as an `.eml` file, and refuses what a test asks it to refuse.

    Parameters:
        folder: where the files go.
        on_mail: called for each mail.

    Attributes:
        mails: all that arrived.
        transports: the open connections.
        answers: replies to give to the next mails instead of keeping them, such as `451 later`, in order.
    """

    def __init__(self, folder: Path, on_mail: Callable[[ArrivedMail], None] | None = None) -> None:
        self._folder = folder
        self._on_mail = on_mail
        self.mails: list[ArrivedMail] = []
        self.answers: list[str] = []
        self.port = 0
        self.transports: set[asyncio.BaseTransport] = set()

    def drop_connections(self) -> None:
        """Close all connections without a word, as a server that restarts does."""
        for transport in list(self.transports):
            transport.close()

    async def handle_RCPT(  # noqa: N802 - aiosmtpd's name
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        """Take any recipient, unless an answer that begins with `RCPT` waits."""
        if self.answers and self.answers[0].startswith("RCPT "):
            return self.answers.pop(0).removeprefix("RCPT ")
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        """Keep the mail, or give the next answer that waits."""
        if self.answers:
            return self.answers.pop(0)
        content = envelope.original_content or b""
        message = message_from_bytes(content, policy=policy.default)
        path = self._folder / f"{len(self.mails) + 1:04}-{_file_name(envelope.rcpt_tos[0])}.eml"
        await asyncio.to_thread(path.write_bytes, content)
        mail = ArrivedMail(path, tuple(envelope.rcpt_tos), message)
        self.mails.append(mail)
        if self._on_mail:
            self._on_mail(mail)
        return "250 kept"


@asynccontextmanager
async def smtp_sink(
    folder: Path, on_mail: Callable[[ArrivedMail], None] | None = None, **options: Any
) -> AsyncIterator[MailSink]:
    """Run an SMTP server that delivers nothing.

    Parameters:
        folder: where mails are kept as files.
        on_mail: called for each mail.
        options: for `aiosmtpd.smtp.SMTP`, such as `tls_context` or `authenticator`.
    """
    from aiosmtpd.smtp import SMTP

    await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
    sink = MailSink(folder, on_mail)

    class Protocol(SMTP):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            sink.transports.add(transport)
            super().connection_made(transport)

        def connection_lost(self, error: Exception | None) -> None:
            sink.transports.discard(self.transport)
            super().connection_lost(error)

    def protocol() -> SMTP:
        return Protocol(sink, hostname="localhost", data_size_limit=_MAX_MAIL_BYTES, **options)

    server = await asyncio.get_running_loop().create_server(protocol, HOST, 0)
    sink.port = server.sockets[0].getsockname()[1]
    try:
        yield sink
    finally:
        server.close()
        sink.drop_connections()
        await server.wait_closed()


@asynccontextmanager
async def s3_server(log_path: Path) -> AsyncIterator[str]:
    """Run moto's S3 server in a process of its own and yield its URL. It keeps everything in memory.

    Parameters:
        log_path: where its messages go.

    Raises:
        RuntimeError: it did not start; the message names the log.
    """
    child = await start_python("s3", ["-m", "jobs.development_servers"], log_path)
    try:
        url = await child.first_line()
        if not url:
            raise RuntimeError(f"the S3 server did not start; {log_path} says why")
        yield url
    finally:
        await child.stop()


def _file_name(address: str) -> str:
    return re.sub(r"[^A-Za-z0-9@._-]+", "_", address)[:80]


def _serve_s3() -> None:
    """Serve S3 until SIGTERM; the first line on standard output is the URL."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    stopped = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    server = ThreadedMotoServer(ip_address=HOST, port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    print(f"http://{host}:{port}", flush=True)
    stopped.wait()


if __name__ == "__main__":
    _serve_s3()
