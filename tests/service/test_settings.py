"""The configuration: misspelt names, wrong values, and a page that lists what there is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pydantic import ValidationError

from jobs.errors import InvalidSettings
from jobs.settings import ENVIRONMENT_PREFIX, ServiceSettings, load_settings
from tests.support.repository import REPOSITORY

DOCUMENTATION = REPOSITORY / "docs" / "service.md"


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REDIS_URL", raising=False)


def test_defaults_are_for_development() -> None:
    settings = load_settings()
    assert (settings.time_zone, settings.smtp_host, settings.s3_bucket) == ("Asia/Seoul", "127.0.0.1", "arqestra")


@pytest.mark.parametrize("name", ["REDIS_URL", "SERVICE_REDIS_URL"])
def test_redis_is_found_by_either_name(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "redis://elsewhere:1")
    assert load_settings().redis_url == "redis://elsewhere:1"


def test_null_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SERVICE_S3_ENDPOINT_URL", "null")
    assert load_settings().s3_endpoint_url is None


def test_lists_are_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SERVICE_REPORT_FONTS", '["Inter"]')
    assert load_settings().report_fonts == ("Inter",)


def test_a_misspelt_name_is_an_error_that_names_the_nearest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SERVICE_SMTP_HSOT", "x")
    with pytest.raises(InvalidSettings, match=r"SERVICE_SMTP_HSOT is no setting.*did you mean SERVICE_SMTP_HOST\?"):
        load_settings()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SMTP_PORT", "0"),
        ("SMTP_SECURITY", "ssl"),
        ("TIME_ZONE", "Mars/Base"),
        ("MAIL_DOMAIN", "a>\r\n"),
        ("IMAGE_THREADS", "x"),
    ],
)
def test_a_wrong_value_is_an_error(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(f"SERVICE_{name}", value)
    with pytest.raises(InvalidSettings, match=name.lower()):
        load_settings()


def test_the_environment_wins_over_the_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "service.env"
    file.write_text("REDIS_URL=redis://file:1\nSERVICE_SMTP_PORT=2\nSERVICE_S3_BUCKET=from-file\n")
    monkeypatch.setenv("SERVICE_SMTP_PORT", "3")
    settings = load_settings(env_file=file)
    assert (settings.redis_url, settings.smtp_port, settings.s3_bucket) == ("redis://file:1", 3, "from-file")


def test_settings_are_frozen() -> None:
    with pytest.raises(ValidationError):
        load_settings().smtp_port = 1


def test_a_password_is_not_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SERVICE_SMTP_PASSWORD", "hunter2")
    assert "hunter2" not in repr(load_settings())


def test_the_documentation_lists_exactly_the_settings() -> None:
    documented = set(re.findall(r"^\| `(SERVICE_\w+)`", DOCUMENTATION.read_text(), re.MULTILINE))
    assert documented == {ENVIRONMENT_PREFIX + name.upper() for name in ServiceSettings.model_fields}
