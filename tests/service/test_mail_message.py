"""What a mail looks like, and that nothing in its arguments adds a header or a recipient."""

from datetime import UTC, datetime
from email import message_from_bytes, policy
from email.message import EmailMessage

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.errors import InvalidMessage
from jobs.mail_message import Attachment, MailContent, build_message, checked_address, message_id_of

AT = datetime(2026, 11, 22, 9, 0, tzinfo=UTC)


def parsed(content: MailContent) -> EmailMessage:
    return message_from_bytes(build_message(content, "service@example.org", "<1@example.org>"), policy=policy.default)


def test_text_html_and_attachment_arrive_as_parts() -> None:
    message = parsed(MailContent("a@b.org", "Hello", "text", "<b>html</b>", (Attachment("한글.pdf", b"%PDF"),)))
    for form, content in (("plain", "text"), ("html", "<b>html</b>")):
        body = message.get_body((form,))
        assert body is not None
        assert body.get_content().strip() == content
    (attached,) = message.iter_attachments()
    assert (attached.get_filename(), attached.get_content_type()) == ("한글.pdf", "application/pdf")
    assert attached.get_content() == b"%PDF"


def test_everything_is_seven_bit_and_short_lined() -> None:
    data = build_message(MailContent("a@b.org", "제목 " * 60, "본문 " * 500), "service@example.org", "<1@example.org>")
    assert data.isascii()
    assert max(map(len, data.split(b"\r\n"))) <= 998


@pytest.mark.parametrize("subject", ["Hello", "제목 subject " * 30, "a  b", "word " * 80 + "end", "=? not one ?="])
def test_subject_arrives_as_written(subject: str) -> None:
    assert parsed(MailContent("a@b.org", subject, "x"))["Subject"] == subject


@pytest.mark.parametrize(
    "subject",
    [
        "a\r\nBcc: x@evil.org",
        "a\nBcc: x@evil.org",
        "a\rBcc: x@evil.org",
        "a\x00b",
        "a\u2028Bcc: x@evil.org",
        "a\x85Bcc: x@evil.org",
        # Python before 3.11.10 decodes this and then writes a Bcc header.
        "=?utf-8?q?a=0D=0ABcc=3A_x=40evil.org?=",
        "=?utf-8?B?YQ0KQmNjOiB4QGV2aWwub3Jn?=",
        "x" * 501,
    ],
)
def test_subject_that_could_inject_is_refused(subject: str) -> None:
    with pytest.raises(InvalidMessage):
        build_message(MailContent("a@b.org", subject, "x"), "service@example.org", "<1@example.org>")


@pytest.mark.parametrize(
    "address",
    [
        *("", "a", "a@", "@b.org", "a@b.org, c@d.org", "a@b.org;c@d.org", "A <a@b.org>", "a b@c.org", "a@b..org"),
        *("a@b.org\r\nBcc: x@evil.org", "a\n@b.org", '"a\r\nBcc: x"@b.org', "=?utf-8?q?a=0D=0A?=@b.org", "a@-b.org"),
        *("a@b.org>", "<a@b.org>", "한@b.org", ".a@b.org", "a" * 65 + "@b.org", "a@b.org\0", "a@b.org "),
    ],
)
def test_what_is_not_one_address_is_refused(address: str) -> None:
    with pytest.raises(InvalidMessage, match="is not one mail address"):
        checked_address(address)


def test_international_domain_becomes_ascii() -> None:
    assert checked_address("kim@한국.kr") == "kim@xn--3e0b707e.kr"


@pytest.mark.parametrize("name", ["a\r\nX: y.pdf", "=?utf-8?q?=0D=0AX=3A?=.pdf"])
def test_attachment_name_that_could_inject_is_refused(name: str) -> None:
    with pytest.raises(InvalidMessage, match="attachment's name"):
        parsed(MailContent("a@b.org", "x", "x", None, (Attachment(name, b""),)))


@given(subject=st.text(max_size=200), body=st.text(max_size=200), name=st.text(min_size=1, max_size=40))
def test_no_input_adds_a_header(subject: str, body: str, name: str) -> None:
    content = MailContent("a@b.org", subject, body, body, (Attachment(name, b"x"),))
    try:
        message = parsed(content)
    except InvalidMessage:
        return
    expected = ["Subject", "From", "To", "Message-ID", "Date", "Auto-Submitted", "MIME-Version", "Content-Type"]
    assert sorted(message.keys()) == sorted(expected)
    assert message["To"] == "a@b.org"


def test_message_id_is_the_same_for_each_run_of_one_job_only() -> None:
    first = message_id_of("welcome-42", AT, "example.org")
    assert first == message_id_of("welcome-42", AT, "example.org") == "<welcome-42.1795338000000@example.org>"
    assert first != message_id_of("welcome-42", AT.replace(hour=10), "example.org")
    assert first != message_id_of("welcome-43", AT, "example.org")


def test_message_id_of_an_unusual_job_id_is_a_hash() -> None:
    assert "\r" not in message_id_of("a\r\nX: y", AT, "example.org")
    assert message_id_of("a>b", AT, "example.org") != message_id_of("a<b", AT, "example.org")
