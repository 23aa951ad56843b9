"""send_email against a real SMTP server: what arrives, what is tried again, and what fails at once."""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiosmtplib
import pytest
from aiosmtpd.smtp import AuthResult
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from pydantic import SecretStr

from jobs.clients import Clients
from jobs.development_servers import MailSink, smtp_sink
from jobs.email import classify_failure, failure_to_raise, send_email
from jobs.errors import InvalidInput, InvalidMessage, MailRejected, MailUndeliverable, ObjectMissing
from jobs.smtp_pool import SmtpPool, open_smtp_pool

Ctx = dict[str, Any]


async def test_a_mail_arrives_and_the_result_says_so(ctx: Ctx, sink: MailSink) -> None:
    result = await send_email(ctx, "a@example.org", "제목", "본문")
    (mail,) = sink.mails
    assert result == {"status": "sent", "to": "a@example.org", "message_id": mail.message["Message-ID"]}
    assert (mail.recipients, mail.message["Subject"]) == (("a@example.org",), "제목")
    assert mail.message.get_content().strip() == "본문"
    assert mail.path.exists()


async def test_html_and_attachments_come_along(ctx: Ctx, clients: Clients, sink: MailSink) -> None:
    await clients.store.write("reports/a.pdf", b"%PDF-", "application/pdf")
    attachments = ["reports/a.pdf", f"s3://{clients.store.bucket}/reports/a.pdf"]
    await send_email(ctx, "a@example.org", "x", "text", html="<b>x</b>", attachments=attachments)
    files = list(sink.mails[0].message.iter_attachments())
    assert [(file.get_filename(), file.get_content()) for file in files] == [("a.pdf", b"%PDF-")] * 2


async def test_a_second_run_sends_nothing_and_has_the_same_message_id(ctx: Ctx, sink: MailSink) -> None:
    first = await send_email(ctx, "a@example.org", "x", "x")
    second = await send_email({**ctx, "job_try": 2}, "a@example.org", "x", "x")
    assert second == {**first, "repeated": True}
    assert len(sink.mails) == 1


async def test_connections_are_kept_and_shared(ctx: Ctx, clients: Clients, sink: MailSink) -> None:
    for number in range(3):
        await send_email({**ctx, "job_id": f"one-{number}"}, "a@example.org", "x", "x")
    assert clients.mail.opened == 1
    mails = (send_email({**ctx, "job_id": f"many-{number}"}, "a@example.org", "x", "x") for number in range(30))
    await asyncio.gather(*mails)
    assert clients.mail.opened <= clients.settings.smtp_connections
    assert len(sink.mails) == 33


async def test_a_connection_that_the_server_closed_costs_no_attempt(ctx: Ctx, clients: Clients, sink: MailSink) -> None:
    await send_email(ctx, "a@example.org", "x", "x")
    sink.drop_connections()
    result = await send_email({**ctx, "job_id": "job-2"}, "a@example.org", "x", "x")
    assert (result["status"], clients.mail.opened) == ("sent", 2)


async def test_a_connection_too_long_idle_is_closed_and_not_lent(sink: MailSink) -> None:
    pool = SmtpPool(lambda: aiosmtplib.SMTP(hostname="127.0.0.1", port=sink.port, use_tls=False), size=1, idle_s=0.0)
    await pool.ping()
    await pool.ping()
    await pool.close()
    assert pool.opened == 2


@pytest.mark.parametrize("answer", ["451 try later", "RCPT 450 mailbox busy", "421 closing"])
async def test_4xx_is_an_error_that_is_tried_again(ctx: Ctx, sink: MailSink, answer: str) -> None:
    sink.answers = [answer]
    with pytest.raises(MailUndeliverable) as caught:
        await send_email(ctx, "a@example.org", "x", "x")
    assert send_email.job_options.retry is not None
    assert send_email.job_options.retry.retries(caught.value)
    assert not sink.mails


def test_retries_come_later_and_later() -> None:
    policy = send_email.job_options.retry
    assert policy is not None
    assert [policy.delay_s(attempt) / policy.base_s for attempt in (1, 2, 3)] == [1, 2, 4]
    assert (policy.tries, send_email.max_tries) == (4, 4)
    assert not policy.retries(MailRejected("no"))


async def test_4xx_after_three_retries_is_an_error(ctx: Ctx, sink: MailSink) -> None:
    sink.answers = ["451 try later"]
    with pytest.raises(MailUndeliverable, match="not delivered in 4 attempts: 451 try later"):
        await send_email({**ctx, "job_try": 4}, "a@example.org", "x", "x")


@pytest.mark.parametrize(
    ("answer", "reason"), [("554 spam", "554 spam"), ("RCPT 550 no such user", "550 no such user")]
)
async def test_5xx_fails_at_once(ctx: Ctx, sink: MailSink, answer: str, reason: str) -> None:
    sink.answers = [answer]
    with pytest.raises(MailRejected, match=f"refused the mail to 'a@example.org' for good: {reason}"):
        await send_email(ctx, "a@example.org", "x", "x")


async def test_a_refused_mail_does_not_spoil_the_next(ctx: Ctx, sink: MailSink) -> None:
    sink.answers = ["554 spam"]
    with pytest.raises(MailRejected):
        await send_email(ctx, "a@example.org", "x", "x")
    assert (await send_email(ctx, "a@example.org", "x", "x"))["status"] == "sent"


async def test_no_server_is_tried_again(ctx: Ctx, clients: Clients, free_port: int) -> None:
    lost = clients.settings.model_copy(update={"smtp_port": free_port})
    pool = open_smtp_pool(lost)
    with pytest.raises(aiosmtplib.SMTPConnectError) as caught:
        await pool.ping()
    failure = classify_failure(caught.value)
    assert isinstance(failure_to_raise(failure, "a@example.org", 1), MailUndeliverable)


@pytest.mark.parametrize(
    ("error", "permanent"),
    [
        (aiosmtplib.SMTPDataError(554, "no"), True),
        (aiosmtplib.SMTPDataError(452, "full"), False),
        (aiosmtplib.SMTPAuthenticationError(535, "no"), True),
        (aiosmtplib.SMTPAuthenticationError(454, "later"), False),
        (aiosmtplib.SMTPConnectResponseError(554, "no service"), True),
        (aiosmtplib.SMTPSenderRefused(550, "no", "a@b.org"), True),
        (aiosmtplib.SMTPRecipientsRefused([aiosmtplib.SMTPRecipientRefused(550, "no", "a@b.org")]), True),
        (aiosmtplib.SMTPRecipientsRefused([aiosmtplib.SMTPRecipientRefused(450, "no", "a@b.org")]), False),
        (aiosmtplib.SMTPNotSupported("STARTTLS"), True),
        (aiosmtplib.SMTPServerDisconnected("gone"), False),
        (aiosmtplib.SMTPReadTimeoutError("slow"), False),
        (ConnectionResetError(), False),
    ],
)
def test_failures_are_told_apart(error: Exception, permanent: bool) -> None:
    assert classify_failure(error).permanent is permanent


@pytest.mark.parametrize(
    ("to", "subject"),
    [
        ("a@example.org\r\nBcc: b@example.org", "x"),
        ("a@example.org, b@example.org", "x"),
        ("a@example.org", "x\r\nBcc: b@example.org"),
        ("a@example.org", "=?utf-8?q?x=0D=0ABcc=3A_b=40example.org?="),
    ],
)
async def test_injection_reaches_no_server(ctx: Ctx, sink: MailSink, to: str, subject: str) -> None:
    with pytest.raises(InvalidMessage):
        await send_email(ctx, to, subject, "x")
    assert not sink.mails


async def test_missing_or_too_large_attachments_are_refused(ctx: Ctx, clients: Clients, sink: MailSink) -> None:
    with pytest.raises(ObjectMissing, match=r"'nothing\.pdf'"):
        await send_email(ctx, "a@example.org", "x", "x", attachments=["nothing.pdf"])
    with pytest.raises(InvalidInput, match="lies in bucket 'foreign'"):
        await send_email(ctx, "a@example.org", "x", "x", attachments=["s3://foreign/a.pdf"])
    await clients.store.write("large.bin", b"x" * (clients.settings.mail_max_bytes // 2 + 1), "text/plain")
    with pytest.raises(InvalidInput, match="larger than"):
        await send_email(ctx, "a@example.org", "x", "x", attachments=["large.bin"] * 2)
    assert not sink.mails


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A self-signed certificate for 127.0.0.1, key and certificate in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    built = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path / "certificate.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(private + built.public_bytes(serialization.Encoding.PEM))
    return path


@pytest.fixture
async def secure_sink(certificate: Path, tmp_path: Path) -> AsyncIterator[MailSink]:
    """A server that wants STARTTLS, and the login `me` with `secret`."""
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(certificate)

    def authenticate(server: Any, session: Any, envelope: Any, mechanism: str, data: Any) -> AuthResult:
        return AuthResult(success=(data.login, data.password) == (b"me", b"secret"), handled=False)

    options: dict[str, Any] = {
        "tls_context": tls,
        "require_starttls": True,
        "authenticator": authenticate,
        "auth_required": True,
    }
    async with smtp_sink(tmp_path / "secure", **options) as sink:
        yield sink


@pytest.mark.parametrize("password", ["secret", "wrong"])
async def test_starttls_and_login(clients: Clients, secure_sink: MailSink, certificate: Path, password: str) -> None:
    changes = {
        "smtp_port": secure_sink.port,
        "smtp_security": "starttls",
        "smtp_ca_file": certificate,
        "smtp_username": "me",
        "smtp_password": SecretStr(password),
    }
    pool = open_smtp_pool(clients.settings.model_copy(update=changes))
    message = b"Subject: x\r\n\r\nx\r\n"
    if password == "secret":
        await pool.send("a@example.org", "b@example.org", message)
        await pool.close()
        assert len(secure_sink.mails) == 1
    else:
        with pytest.raises(aiosmtplib.SMTPAuthenticationError) as caught:
            await pool.send("a@example.org", "b@example.org", message)
        assert classify_failure(caught.value).permanent


async def test_a_certificate_of_nobody_is_not_trusted(clients: Clients, secure_sink: MailSink) -> None:
    changes = {"smtp_port": secure_sink.port, "smtp_security": "starttls"}
    pool = open_smtp_pool(clients.settings.model_copy(update=changes))
    with pytest.raises((aiosmtplib.SMTPException, ssl.SSLError)):
        await pool.ping()
    assert not secure_sink.mails
