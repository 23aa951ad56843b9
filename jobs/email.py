"""The job `send_email`."""

from __future__ import annotations

import posixpath
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import aiosmtplib

from arqestra import Backoff, job

from .clients import Clients, clients_of
from .errors import InvalidMessage, MailRejected, MailUndeliverable
from .mail_message import Attachment, MailContent, build_message, checked_address, message_id_of
from .queues import EMAIL_QUEUE
from .settings import load_settings

MAX_RETRIES = 3
_SENT_KEY_PREFIX = "service:mail:sent:"
_SENT_KEPT_S = 7 * 86_400


_RETRY = Backoff(
    on=(MailUndeliverable,),
    tries=MAX_RETRIES + 1,
    base=load_settings().mail_retry_base_s,
    factor=2,
    jitter="none",
)


@job(name="send_email", queue=EMAIL_QUEUE, timeout=120, retry=_RETRY)
async def send_email(
    ctx: dict[str, Any],
    to: str,
    subject: str,
    body: str,
    html: str | None = None,
    attachments: list[str] | None = None,
) -> dict[str, Any]:
    """Send one mail.

    Parameters:
        to: one address.
        subject: one line.
        body: the plain text.
        html: the same as HTML.
        attachments: S3 keys (or `s3://` locations) of files to attach, named by their last part.

    Returns:
        `{"status": "sent", "to": ..., "message_id": ...}`, and `"repeated": True` when an earlier run had sent it.

    Raises:
        MailUndeliverable: the server cannot be reached or answers 4xx; tried again after 10, 20, then 40 seconds.
        MailRejected: the server answered 5xx; not tried again.
        InvalidMessage: bad address, header injection, or more than `SERVICE_MAIL_MAX_BYTES`.
        ObjectMissing: an attachment is not in S3.

    Running it twice is harmless: the Message-ID comes from the job, so mailboxes recognise a second copy, and a note in
    Redis, written when the server has accepted the mail, makes a second run return without sending. Only a crash
    between the server's answer and that note lets a second copy out.
    """
    clients = clients_of(ctx)
    message_id = message_id_of(ctx["job_id"], ctx["enqueue_time"], clients.settings.mail_domain)
    sent_key = _SENT_KEY_PREFIX + sha256(message_id.encode()).hexdigest()[:32]
    result = {"status": "sent", "to": to, "message_id": message_id}
    if await ctx["redis"].exists(sent_key):
        return {**result, "repeated": True}

    files = await _fetch_attachments(clients, attachments or [])
    sender = clients.settings.mail_from
    message = build_message(MailContent(to, subject, body, html, files), sender, message_id)
    try:
        await clients.mail.send(checked_address(sender), checked_address(to), message)
    except (aiosmtplib.SMTPException, OSError) as error:
        failure = classify_failure(error)
        raise failure_to_raise(failure, to, ctx["job_try"]) from error
    await ctx["redis"].set(sent_key, b"1", ex=_SENT_KEPT_S)
    return result


@dataclass(frozen=True)
class DeliveryFailure:
    """What went wrong: for good or for the moment, and the server's words."""

    permanent: bool
    reason: str


def classify_failure(error: Exception) -> DeliveryFailure:
    """Tell a refusal for good (5xx, or something the server cannot do) from one that may pass (4xx, no connection)."""
    if isinstance(error, aiosmtplib.SMTPRecipientsRefused) and error.recipients:
        error = error.recipients[0]
    if isinstance(error, aiosmtplib.SMTPResponseException):
        return DeliveryFailure(500 <= error.code <= 599, f"{error.code} {error.message}")
    # A feature that the server does not announce (STARTTLS, AUTH) will not be there in ten seconds either.
    permanent = isinstance(error, aiosmtplib.SMTPNotSupported)
    return DeliveryFailure(permanent, f"{type(error).__name__}: {error}")


def failure_to_raise(failure: DeliveryFailure, to: str, job_try: int) -> Exception:
    """Return what the job raises: an error for good, or one that its retry policy is about.

    Parameters:
        failure: as `classify_failure` tells.
        to: the recipient, for the message.
        job_try: 1 for the first attempt.
    """
    if failure.permanent:
        return MailRejected(f"the mail server refused the mail to {to!r} for good: {failure.reason}")
    return MailUndeliverable(f"the mail to {to!r} was not delivered in {job_try} attempts: {failure.reason}")


async def _fetch_attachments(clients: Clients, keys: list[str]) -> tuple[Attachment, ...]:
    """Read the attachments one after the other, within the size that one mail may have."""
    files, left_bytes = [], clients.settings.mail_max_bytes
    for key in keys:
        data = await clients.store.read(key, max_bytes=left_bytes)
        left_bytes -= len(data)
        name = posixpath.basename(clients.store.key_of(key))
        if not name:
            raise InvalidMessage(f"the attachment {key!r} has no file name; expected a key such as 'reports/a.pdf'")
        files.append(Attachment(name, data))
    return tuple(files)
