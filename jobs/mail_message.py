"""Builds the bytes of one mail, so that nothing in its arguments can add a header or a recipient.

Three walls, each enough alone: addresses and subject are refused when they hold a control character or an RFC 2047
encoded word; no header is built from text that the standard library parses, because until Python 3.11.10 it decodes
`Subject: =?utf-8?q?a=0D=0ABcc=3A_x=40y.z?=` and then writes two headers; and the finished bytes are read back and must
have exactly the headers that were meant.
"""

import mimetypes
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.errors import MessageError
from email.header import Header
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from hashlib import sha256

from .errors import InvalidMessage

MAX_SUBJECT_CHARACTERS = 500
# 7bit: not every server takes bytes beyond ASCII, so text is written as base64 or quoted-printable.
_POLICY = SMTP.clone(cte_type="7bit")
_ENCODED_WORD = re.compile(r"=\?[^?\s]*\?[A-Za-z]\?")
_LOCAL_PART = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*")
_DOMAIN = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*")
_PLAIN_JOB_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")


@dataclass(frozen=True)
class Attachment:
    """A file that goes along: its name as the reader sees it, and its bytes."""

    name: str
    data: bytes


@dataclass(frozen=True)
class MailContent:
    """What a mail says.

    Attributes:
        to: one address, `name@example.org`.
        subject: one line of text.
        body: the plain text.
        html: the same as HTML, for readers that show it.
        attachments: files.
    """

    to: str
    subject: str
    body: str
    html: str | None = None
    attachments: tuple[Attachment, ...] = ()


def message_id_of(job_id: str, enqueued_at: datetime, domain: str) -> str:
    """Return the Message-ID of the mail of one job: the same for every run of it, another for a later job of that id.

    Parameters:
        job_id: any text; one with unusual characters is replaced by its hash.
        enqueued_at: when the job was enqueued, which no retry changes.
        domain: the right-hand side.
    """
    token = job_id if _PLAIN_JOB_ID.fullmatch(job_id) else sha256(job_id.encode()).hexdigest()[:32]
    return f"<{token}.{int(enqueued_at.timestamp() * 1000)}@{domain}>"


def build_message(content: MailContent, sender: str, message_id: str) -> bytes:
    """Return the mail as it goes over the wire.

    Parameters:
        content: what it says.
        sender: the From address.
        message_id: as `message_id_of` makes it.

    Raises:
        InvalidMessage: an address, the subject or an attachment's name is not what it should be.
    """
    headers = {
        "From": Address(addr_spec=checked_address(sender)),
        "To": Address(addr_spec=checked_address(content.to)),
        "Message-ID": message_id,
        "Date": format_datetime(datetime.now(UTC)),
        # Tells vacation responders and lists that a program wrote this (RFC 3834).
        "Auto-Submitted": "auto-generated",
    }
    subject = _checked_line(content.subject, "subject")
    message = EmailMessage(policy=_POLICY)
    try:
        for name, value in headers.items():
            message[name] = value
        message.set_content(content.body)
        if content.html is not None:
            message.add_alternative(content.html, subtype="html")
        for attachment in content.attachments:
            _attach(message, attachment)
        data = _subject_line(subject) + message.as_bytes()
    except (MessageError, ValueError) as error:
        raise InvalidMessage(f"the mail to {content.to!r} cannot be written: {error}") from error
    _verify_headers(data, ["Subject", *message.keys()])
    return data


def checked_address(address: str) -> str:
    """Return an address in ASCII (the domain by IDNA), or refuse it.

    Raises:
        InvalidMessage: not exactly one plain `name@domain`.
    """
    local_part, _, domain = address.rpartition("@")
    try:
        ascii_domain = domain.encode("idna").decode("ascii") if domain else ""
    except UnicodeError:
        ascii_domain = ""
    well_formed = len(local_part) <= 64 and _LOCAL_PART.fullmatch(local_part) and _DOMAIN.fullmatch(ascii_domain)
    if not well_formed or _ENCODED_WORD.search(address):
        raise InvalidMessage(f"{address!r} is not one mail address; expected name@example.org and nothing else")
    return f"{local_part}@{ascii_domain}"


def _checked_line(text: str, what: str) -> str:
    """Return text that is one harmless header line, or refuse it."""
    if len(text) > MAX_SUBJECT_CHARACTERS:
        raise InvalidMessage(f"the {what} has {len(text)} characters; at most {MAX_SUBJECT_CHARACTERS} are allowed")
    if not text.isprintable():
        raise InvalidMessage(f"the {what} {text!r} has control characters or line breaks; expected one line of text")
    if _ENCODED_WORD.search(text):
        raise InvalidMessage(f"the {what} {text!r} holds an encoded word (=?...?=); give the text itself")
    return text


def _attach(message: EmailMessage, attachment: Attachment) -> None:
    name = _checked_line(attachment.name, "attachment's name")
    guessed, encoding = mimetypes.guess_type(name)
    if guessed is None or encoding is not None:
        guessed = "application/octet-stream"
    main_type, _, subtype = guessed.partition("/")
    message.add_attachment(attachment.data, maintype=main_type, subtype=subtype, filename=name)


def _subject_line(subject: str) -> bytes:
    """Return the header, folded. EmailMessage would lose the spaces between the lines of a long subject that is not
    ASCII (seen in Python 3.11), and would decode an encoded word in it."""
    charset = "us-ascii" if subject.isascii() else "utf-8"
    folded = Header(subject, charset, header_name="Subject").encode(linesep="\r\n")
    return f"Subject: {folded}\r\n".encode("ascii")


def _verify_headers(data: bytes, expected: Sequence[str]) -> None:
    """Read the finished bytes back: exactly the meant headers, each once, and no stray line break."""
    block = data.partition(b"\r\n\r\n")[0]
    lines = block.split(b"\r\n")
    names = [line.partition(b":")[0].decode("ascii", "replace") for line in lines if not line.startswith((b" ", b"\t"))]
    if sorted(names) != sorted(expected) or any(b"\r" in line or b"\n" in line for line in lines):
        raise InvalidMessage(f"the mail would have the headers {sorted(names)} instead of {sorted(expected)}")
