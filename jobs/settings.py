"""The service's configuration: read from the environment once, frozen, with defaults for development.

Every setting is `SERVICE_` and its name in capitals; the Redis address is also taken from `REDIS_URL`.
docs/service.md lists them all, and a test compares that list with this class.
"""

import difflib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Literal
from zoneinfo import ZoneInfo

from pydantic import AliasChoices, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from arqestra import RateLimit, SettingsError

from .errors import InvalidSettings

ENVIRONMENT_PREFIX = "SERVICE_"


class ServiceSettings(BaseSettings):
    """All settings of the service. Sizes are in bytes or pixels, durations in seconds, as the names say."""

    model_config = SettingsConfigDict(
        env_prefix=ENVIRONMENT_PREFIX,
        env_parse_none_str="null",
        frozen=True,
        extra="forbid",
        populate_by_name=True,
    )

    redis_url: str = Field("redis://127.0.0.1:6379", validation_alias=AliasChoices("SERVICE_REDIS_URL", "REDIS_URL"))
    time_zone: str = "Asia/Seoul"

    smtp_host: str = "127.0.0.1"
    smtp_port: int = Field(1025, ge=1, le=65535)
    smtp_security: Literal["none", "starttls", "tls"] = "none"
    smtp_username: str | None = None
    smtp_password: SecretStr | None = None
    smtp_ca_file: Path | None = None
    smtp_timeout_s: float = Field(20.0, gt=0)
    smtp_connections: int = Field(4, ge=1, le=100)
    smtp_idle_s: float = Field(30.0, gt=0)

    mail_from: str = "service@localhost"
    mail_domain: str = Field("arqestra.invalid", pattern=r"^[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?$")
    mail_retry_base_s: float = Field(10.0, ge=0)
    mail_max_bytes: int = Field(20_000_000, ge=1)

    s3_endpoint_url: str | None = "http://127.0.0.1:9000"
    s3_region: str = "us-east-1"
    s3_access_key_id: str | None = None
    s3_secret_access_key: SecretStr | None = None
    s3_bucket: str = "arqestra"
    s3_connections: int = Field(20, ge=1)
    s3_url_lifetime_s: int = Field(86_400, ge=1, le=604_800)

    image_root: Path = Path("data/images")
    image_output_root: Path | None = None
    image_max_pixels: int = Field(100_000_000, ge=1)
    image_max_bytes: int = Field(50_000_000, ge=1)
    image_rate: str = "10/m"
    image_threads: int = Field(2, ge=1, le=64)

    data_max_record_bytes: int = Field(1_000_000, ge=1)
    data_max_columns: int = Field(200, ge=1)

    report_title: str = "Daily report"
    report_subtitle: str = "일일 보고서"
    report_fonts: tuple[str, ...] = (
        *("Inter", "Noto Sans", "Source Sans 3", "DejaVu Sans"),
        *("Noto Sans CJK KR", "Noto Sans KR", "NanumGothic", "Malgun Gothic", "Apple SD Gothic Neo"),
    )
    report_font_paths: tuple[Path, ...] = ()
    report_system_fonts: bool = True
    report_hours: int = Field(24, ge=1, le=25)

    session_index: str = "service:sessions"
    session_key_prefix: str = "service:session:"
    session_batch: int = Field(500, ge=1, le=10_000)
    session_max_batches: int = Field(1_000, ge=1)

    health_timeout_s: float = Field(5.0, gt=0)

    @field_validator("time_zone")
    @classmethod
    def _zone_exists(cls, value: str) -> str:
        """Refuse a zone that the machine does not know, at start rather than at nine in the morning."""
        try:
            ZoneInfo(value)
        except (KeyError, ValueError, OSError) as error:
            raise ValueError(f"{value!r} is not a time zone; expected a name such as 'Asia/Seoul'") from error
        return value

    @field_validator("image_rate")
    @classmethod
    def _rate_is_one(cls, value: str) -> str:
        """Refuse a rate that is none when the settings are read."""
        try:
            RateLimit(value)
        except SettingsError as error:
            raise ValueError(str(error)) from error
        return value

    @property
    def zone(self) -> ZoneInfo:
        """The zone in which the schedules are read."""
        return ZoneInfo(self.time_zone)


def load_settings(env_file: Path | None = None) -> ServiceSettings:
    """Read the settings from the environment.

    Parameters:
        env_file: a file of `NAME=value` lines for what the environment does not say, such as the one that
            `make run` leaves in `data/service.env`.

    Raises:
        InvalidSettings: a variable with our prefix is no setting (a misspelling), or a value is wrong.
    """
    refuse_unknown_names(os.environ)
    try:
        return ServiceSettings(_env_file=env_file)  # type: ignore[call-arg]
    except ValidationError as error:
        raise InvalidSettings(f"the service's settings are wrong: {error}") from error


def refuse_unknown_names(names: Iterable[str]) -> None:
    """Raise InvalidSettings for a variable that has our prefix and no setting, naming the nearest one."""
    known = {ENVIRONMENT_PREFIX + field.upper() for field in ServiceSettings.model_fields}
    for name in names:
        if name.startswith(ENVIRONMENT_PREFIX) and name not in known:
            nearest = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {nearest[0]}?" if nearest else "; docs/service.md lists them all"
            raise InvalidSettings(f"{name} is no setting of this service{hint}")
