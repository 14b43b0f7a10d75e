"""The sections of the settings except [[mqtt]]: frozen values with their bounds and descriptions."""

from __future__ import annotations

import math
import re
from collections.abc import Container
from pathlib import Path
from typing import Literal, NamedTuple, Self
from urllib.parse import SplitResult, urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator

from hub.storage.influxdb.series_naming import FIELD, MEASUREMENT, TAGS, check_templates
from wire import limits

GIB = 1024**3

MAX_DAYS = 36_500
"""Upper bound of a retention: a hundred years. 0 stands for unlimited."""

MAX_BASE_PATH = 128
"""Bound of the path of a public URL, far above what a person types."""

_NETLOC = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(:[0-9]+)?")
_BASE_PATH = re.compile(r"(/(?!\.{1,2}(/|$))[A-Za-z0-9._-]+)*/?")

_SIZE = re.compile(r"[0-9]+(\.[0-9]+)? ?[KMGT]i?B", re.IGNORECASE)


class Section(BaseModel):
    """Frozen values of one section. An unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def check_zone(zone: str) -> None:
    """Raise ValueError for a zone that does not exist; an empty one is not set."""
    try:
        if zone:
            ZoneInfo(zone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(f"the zone {zone!r} is unknown: use a name such as Europe/Berlin, or UTC") from None


def split_address(url: str, schemes: Container[str]) -> SplitResult | None:
    """Return the parts of an address with a host, or None if it is invalid or has another scheme."""
    try:
        parts = urlsplit(url)
        return parts if parts.scheme in schemes and parts.hostname and parts.port != 0 else None
    except ValueError:
        return None


class PublicUrl(NamedTuple):
    """The address under which browsers and agents reach the hub."""

    scheme: str
    authority: str
    base_path: str
    """Begins and ends with a slash."""

    @property
    def origin(self) -> str:
        """The origin of its pages."""
        return f"{self.scheme}://{self.authority}"

    def __str__(self) -> str:
        """Return the address without a slash at its end."""
        return f"{self.origin}{self.base_path.rstrip('/')}"


def parse_public_url(text: str) -> PublicUrl:
    """Return the parts of a public URL. Raises ValueError with an example.

    The path goes into the page, a cookie and redirects, so only characters are allowed that need no escape there.
    """
    parts = split_address(text.strip(), ("http", "https"))
    if parts is None:
        raise ValueError("expected the URL of the hub for browsers, for example https://example.org/telemetry/")
    if _NETLOC.fullmatch(parts.netloc) is None or parts.query or parts.fragment:
        raise ValueError(
            f"{text!r} may contain a host in ASCII, a port and a path, for example https://example.org:8443/telemetry/"
        )
    if _BASE_PATH.fullmatch(parts.path) is None or len(parts.path) > MAX_BASE_PATH:
        raise ValueError(
            f"the path {parts.path!r} may contain letters, digits, '-', '_', '.' and single slashes, at most "
            f"{MAX_BASE_PATH} characters, and no part of it is '.' or '..'"
        )
    return PublicUrl(parts.scheme, parts.netloc.lower(), f"{parts.path.rstrip('/')}/")


class AccessSettings(Section):
    """Proxies, host names and origins that may reach the hub."""

    behind_proxy: bool = Field(default=False, description="A reverse proxy in front of the hub terminates TLS.")
    trusted_proxies: tuple[str, ...] = Field(
        default=(),
        description="Addresses and networks of proxies whose X-Forwarded headers count; empty: this machine, with "
        "`behind_proxy`.",
    )
    allowed_hosts: tuple[str, ...] = Field(default=(), description="Host names under which the page may be opened.")
    allowed_origins: tuple[str, ...] = Field(
        default=(), description="Other origins whose pages may read the API and use the hub's cookie."
    )


class TlsSettings(Section):
    """TLS on the port of the hub."""

    certificate: Path | None = Field(default=None, description="PEM file with the certificate chain.")
    key: Path | None = Field(default=None, description="PEM file with the private key.")
    client_ca: Path | None = Field(
        default=None, description="PEM file with the authority whose certificates devices must present."
    )

    @model_validator(mode="after")
    def _are_both_or_neither(self) -> Self:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("certificate and key belong together: set both or neither")
        if self.client_ca is not None and self.certificate is None:
            raise ValueError("client_ca needs certificate and key: only a hub with TLS sees certificates of devices")
        return self


class IngestSettings(Section):
    """Limits of the device protocol."""

    window: int = Field(
        default=limits.DEFAULT_WINDOW,
        ge=1,
        le=65_536,
        description="Batches that one device may send before the first is acknowledged.",
    )


class JournalSettings(Section):
    """Size and retention of the journal, the durable log of accepted batches."""

    keep_bytes: int = Field(
        default=GIB, ge=0, description="Bytes of entries kept after every consumer has processed them."
    )
    keep_seconds: float = Field(
        default=86_400,
        ge=0,
        allow_inf_nan=False,
        description="Age in seconds up to which they are kept, for dashboards that reconnect.",
    )
    resend_seconds: float = Field(
        default=1_800,
        ge=0,
        allow_inf_nan=False,
        description="Seconds for which entries are kept after every consumer has acknowledged them, for a store that "
        "loses what it acknowledged.",
    )
    max_bytes: int = Field(
        default=32 * GIB, ge=1 << 20, description="At this size the hub rejects new data until the store has caught up."
    )

    @model_validator(mode="after")
    def _leave_room(self) -> Self:
        if self.keep_bytes > self.max_bytes // 2:
            raise ValueError(
                f"keep_bytes ({self.keep_bytes}) may be half of max_bytes ({self.max_bytes}) at most: the entries that "
                "are kept must leave room for those that are not stored yet"
            )
        return self


class StoreSettings(Section):
    """The store of the history: DuckDB in the data directory, or InfluxDB if there is a `url`."""

    url: str | None = Field(default=None, description="Address of InfluxDB; without it DuckDB is the store.")
    token: SecretStr | None = Field(default=None, description="Token that may read and write the bucket (InfluxDB 2).")
    org: str = Field(default="", description="InfluxDB's organisation (InfluxDB 2).")
    bucket: str = Field(
        default="", description="Bucket in InfluxDB; for InfluxDB 1 the database, or DATABASE/RETENTION_POLICY."
    )
    user: str = Field(default="", description="User of the database (InfluxDB 1).")
    password: SecretStr | None = Field(default=None, description="The user's password (InfluxDB 1).")
    gzip: bool = Field(default=False, description="Compress requests to InfluxDB; for slow networks.")
    measurement: str = Field(default=MEASUREMENT, description="Template of the measurement in InfluxDB.")
    tags: tuple[str, ...] = Field(default=TAGS, description="Tags of a point in InfluxDB, in addition to `device`.")
    field: str = Field(default=FIELD, description="Template of the field in InfluxDB.")
    max_series_per_device: int = Field(
        default=2_048, ge=1, le=1_000_000, description="Series that one device may have in InfluxDB."
    )
    memory_limit: str = Field(default="1GB", description="Memory that DuckDB may use.")
    threads: int = Field(default=1, ge=1, le=64, description="Threads that DuckDB may use for one query.")
    keep_raw: float = Field(
        default=0, ge=0, le=MAX_DAYS, description="Days that DuckDB keeps every reading; 0 is unlimited."
    )
    keep_minutes: float = Field(
        default=0, ge=0, le=MAX_DAYS, description="Days that DuckDB keeps one rollup per minute; 0 is unlimited."
    )
    keep_hours: float = Field(
        default=0, ge=0, le=MAX_DAYS, description="Days that DuckDB keeps one rollup per hour; 0 is unlimited."
    )

    @field_validator("url")
    @classmethod
    def _is_url(cls, url: str | None) -> str | None:
        if not url:
            return None
        parts = split_address(url, ("http", "https"))
        if parts is None:
            raise ValueError("expected InfluxDB's address, for example http://localhost:8086")
        if parts.username or parts.password or parts.query or parts.fragment:
            raise ValueError("expected only the address; the token, or user and password, have their own settings")
        return url.rstrip("/")

    @model_validator(mode="after")
    def _are_of_influxdb(self) -> Self:
        if self.url is None:
            if self.token or self.org or self.bucket or self.user or self.password:
                raise ValueError("url is missing: the other settings are for InfluxDB. Set url, or remove them")
        elif not self.bucket.partition("/")[0]:
            raise ValueError("bucket is missing: name the bucket of InfluxDB to write to")
        if bool(self.user) != bool(self.password):
            raise ValueError("user and password belong together: set both or neither")
        if self.token:
            if self.user:
                raise ValueError("token is for InfluxDB 2, user and password for InfluxDB 1: set one of the two")
            if not self.org:
                raise ValueError("org is missing: a token belongs to an organisation")
        check_templates(measurement=self.measurement, tags=self.tags, field=self.field)
        return self

    @field_validator("memory_limit")
    @classmethod
    def _is_size(cls, text: str) -> str:
        if not _SIZE.fullmatch(text):
            raise ValueError(f"{text!r} is not a size: write a number and KB, MB, GB or TB (or KiB …), for example 4GB")
        return text

    @model_validator(mode="after")
    def _keep_the_coarse_longer(self) -> Self:
        for finer, coarser in (("keep_raw", "keep_minutes"), ("keep_minutes", "keep_hours")):
            longest, shortest = (getattr(self, name) or math.inf for name in (coarser, finer))
            if shortest > longest:
                raise ValueError(
                    f"{coarser} ({getattr(self, coarser):g}) must be at least {finer} ({getattr(self, finer):g}), or 0 "
                    "for unlimited: the coarser data answer queries after the finer are deleted"
                )
        return self


class LiveSettings(Section):
    """Live updates to dashboards."""

    compression: bool = Field(
        default=False, description="Offer permessage-deflate; an update then costs the hub several times the work."
    )


class LogSettings(Section):
    """The log of the hub on stderr."""

    level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="Lowest level that is logged."
    )
    format: Literal["auto", "console", "json"] = Field(
        default="auto", description="`auto`: readable lines on a terminal, JSON lines elsewhere."
    )
