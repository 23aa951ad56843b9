"""A small pool of kept SMTP connections.

A connection costs a TCP handshake, perhaps a TLS one, EHLO and a login: more than a short mail itself. The pool keeps
up to `size` of them, lends each to one mail at a time, and drops those that were idle for so long that the server has
probably hung up. What went wrong in a borrowed connection's transaction is never lent to the next mail.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import aiosmtplib

if TYPE_CHECKING:
    from .settings import ServiceSettings


@dataclass
class _Idle:
    connection: aiosmtplib.SMTP
    since_s: float


class SmtpPool:
    """Lends kept connections to one mail at a time.

    Parameters:
        connect: makes an unconnected client; the pool connects it.
        size: connections at most, so that a burst of mails does not open hundreds.
        idle_s: seconds after which an unused connection is closed instead of lent.

    Attributes:
        opened: connections made so far.
    """

    def __init__(self, connect: Callable[[], aiosmtplib.SMTP], size: int, idle_s: float) -> None:
        self._connect = connect
        self._slots = asyncio.Semaphore(size)
        self._idle: list[_Idle] = []
        self._idle_s = idle_s
        self.opened = 0

    @property
    def idle(self) -> int:
        """How many connections wait to be lent."""
        return len(self._idle)

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[aiosmtplib.SMTP]:
        """Lend a connected, logged-in client; it returns to the pool only if the body ended without an exception.

        Raises:
            aiosmtplib.SMTPException: the server cannot be reached, or refuses the login.
        """
        async with self._slots:
            connection = await self._checked_idle() or await self._open()
            try:
                yield connection
            except BaseException:
                # Also on cancellation: a half-done transaction must not become the next mail's.
                connection.close()
                raise
            self._idle.append(_Idle(connection, asyncio.get_running_loop().time()))

    async def send(self, sender: str, recipient: str, message: bytes) -> str:
        """Hand one message over and return the server's answer.

        Raises:
            aiosmtplib.SMTPException: as `aiosmtplib.SMTP.sendmail`.
        """
        async with self.connection() as connection:
            _, answer = await connection.sendmail(sender, [recipient], message)
            return answer

    async def ping(self) -> None:
        """Raise what aiosmtplib raises if the server does not answer."""
        async with self.connection() as connection:
            await connection.noop()

    async def close(self) -> None:
        """Say goodbye on every idle connection."""
        while self._idle:
            await _quit(self._idle.pop().connection)

    async def _checked_idle(self) -> aiosmtplib.SMTP | None:
        """Return the most recently used connection that still answers, or None; close those that are too old."""
        while self._idle:
            idle = self._idle.pop()
            is_fresh = asyncio.get_running_loop().time() - idle.since_s < self._idle_s
            # RSET asks whether the server is still there, so that a closed connection costs no failed mail.
            with suppress(aiosmtplib.SMTPException, OSError):
                if is_fresh and idle.connection.is_connected:
                    await idle.connection.rset()
                    return idle.connection
            await _quit(idle.connection)
        return None

    async def _open(self) -> aiosmtplib.SMTP:
        connection = self._connect()
        try:
            await connection.connect()
        except BaseException:
            connection.close()
            raise
        self.opened += 1
        return connection


def open_smtp_pool(settings: ServiceSettings) -> SmtpPool:
    """Make the pool that the settings describe. It connects when the first mail needs it."""
    tls_context = None
    if settings.smtp_security != "none":
        tls_context = ssl.create_default_context(cafile=settings.smtp_ca_file)
    password = settings.smtp_password

    def connect() -> aiosmtplib.SMTP:
        return aiosmtplib.SMTP(
            hostname=settings.smtp_host,
            port=settings.smtp_port,
            username=settings.smtp_username,
            password=password.get_secret_value() if password else None,
            timeout=settings.smtp_timeout_s,
            use_tls=settings.smtp_security == "tls",
            start_tls=settings.smtp_security == "starttls",
            tls_context=tls_context,
        )

    return SmtpPool(connect, size=settings.smtp_connections, idle_s=settings.smtp_idle_s)


async def _quit(connection: aiosmtplib.SMTP) -> None:
    """End a connection politely, and at once if the server is no longer there."""
    try:
        if connection.is_connected:
            await connection.quit()
    except (aiosmtplib.SMTPException, OSError):
        connection.close()
