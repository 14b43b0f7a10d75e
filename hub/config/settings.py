"""The hub's settings: read once, in one place, into frozen values.

Command line > environment (`HUB_…`, nested with `__`) > TOML file > default. Unknown keys are errors that name the key.
Every setting is described in docs/configuration.md; a test compares the two.
"""

from __future__ import annotations

import math
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, InitSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from hub.config.mqtt import MqttSettings
from hub.config.section import Section
from hub.storage.influxdb.naming import FIELD, MEASUREMENT, TAGS, check_templates
from wire import limits

GIB = 1024**3

MAX_DAYS = 36_500
"""Of a retention: a hundred years; longer is for ever."""

EVERY_ADDRESS = frozenset({"0.0.0.0", "::"})
"""Addresses to listen on that no browser can open."""


ENVIRONMENT_PREFIX = "HUB_"

OTHER_VARIABLES = frozenset({"HUB_CONFIG", "HUB_URL", "HUB_TOKEN", "HUB_NPM"})
"""Variables with our prefix that are no settings: the file's name, what agents and simulators read, the build's npm."""

_OTHERS = re.compile(r"HUB_TEST_.+|HUB_SERVICE_.+|HUB_PORT(_.+)?")
"""More of them: the tests', and those that Kubernetes gives to every container beside a service that is called hub."""

INFLUXDB_VARIABLES = {
    f"INFLUXDB_{name.upper()}": name for name in ("url", "token", "org", "bucket", "user", "password")
}
"""The names that InfluxDB's own tools and images use, for the settings of the store that they mean."""

MAX_SECRET_BYTES = 64 * 1024
"""Of a file that holds one setting; a larger one is some other file."""

_SIZE = re.compile(r"[0-9]+(\.[0-9]+)? ?[KMGT]i?B", re.IGNORECASE)


class SettingsError(Exception):
    """The settings cannot be used; the message names each key and says what is wrong with it."""


class AccessSettings(Section):
    """Who may come in, and how."""

    behind_proxy: bool = Field(default=False, description="A reverse proxy in front of the hub terminates TLS.")
    allowed_hosts: tuple[str, ...] = Field(default=(), description="Host names that the page may be opened under.")
    allowed_origins: tuple[str, ...] = Field(
        default=(), description="Other origins whose pages may use the hub's cookie."
    )


class TlsSettings(Section):
    """TLS on the hub's own port."""

    certificate: Path | None = Field(default=None, description="PEM file with the certificate chain.")
    key: Path | None = Field(default=None, description="PEM file with the private key.")

    @model_validator(mode="after")
    def _are_both_or_neither(self) -> Self:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("certificate and key need each other: give both or neither")
        return self


class IngestSettings(Section):
    """Taking in data."""

    window: int = Field(
        default=limits.DEFAULT_WINDOW, ge=1, le=65_536, description="Batches of one device that may be unacknowledged."
    )


class JournalSettings(Section):
    """The durable log of accepted batches."""

    keep_bytes: int = Field(
        default=GIB, ge=0, description="Entries that every consumer is done with are kept up to this many bytes in all."
    )
    keep_seconds: float = Field(
        default=86_400,
        ge=0,
        allow_inf_nan=False,
        description="… and up to this age, for dashboards that come back.",
    )
    max_bytes: int = Field(
        default=32 * GIB, ge=1 << 20, description="At this size new data are refused until the store has caught up."
    )

    @model_validator(mode="after")
    def _leave_room(self) -> Self:
        if self.keep_bytes > self.max_bytes // 2:
            raise ValueError(
                f"keep_bytes ({self.keep_bytes}) may be half of max_bytes ({self.max_bytes}) at most: what is kept "
                "must leave room for what the store has not got yet"
            )
        return self


class StoreSettings(Section):
    """Where history lives: DuckDB in the data directory, or InfluxDB where there is a `url`."""

    url: str | None = Field(default=None, description="InfluxDB's address; without one, DuckDB is the store.")
    token: SecretStr | None = Field(default=None, description="Token that may read and write the bucket (InfluxDB 2).")
    org: str = Field(default="", description="InfluxDB's organisation (InfluxDB 2).")
    bucket: str = Field(
        default="", description="InfluxDB's bucket; of InfluxDB 1 the database, or DATABASE/RETENTION_POLICY."
    )
    user: str = Field(default="", description="User of the database (InfluxDB 1).")
    password: SecretStr | None = Field(default=None, description="The user's password (InfluxDB 1).")
    gzip: bool = Field(default=False, description="Compress what is sent to InfluxDB; for thin lines.")
    measurement: str = Field(default=MEASUREMENT, description="Template of the measurement in InfluxDB.")
    tags: tuple[str, ...] = Field(default=TAGS, description="Which tags points have in InfluxDB, beside `device`.")
    field: str = Field(default=FIELD, description="Template of the field in InfluxDB.")
    max_series_per_device: int = Field(
        default=2_048, ge=1, le=1_000_000, description="Series that one device may have in InfluxDB."
    )
    memory_limit: str = Field(default="1GB", description="Memory that DuckDB may use.")
    threads: int = Field(default=1, ge=1, le=64, description="Threads that DuckDB may use for one query.")
    keep_raw: float = Field(
        default=0, ge=0, le=MAX_DAYS, description="Days that DuckDB keeps every reading; 0 is for ever."
    )
    keep_minutes: float = Field(
        default=0, ge=0, le=MAX_DAYS, description="Days that it keeps minutes of them, from least to greatest."
    )
    keep_hours: float = Field(default=0, ge=0, le=MAX_DAYS, description="Days that it keeps hours of them.")

    @field_validator("url")
    @classmethod
    def _is_url(cls, url: str | None) -> str | None:
        if not url:
            return None
        try:
            parts = urlsplit(url)
            is_address = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        except ValueError:
            is_address = False
        if not is_address:
            raise ValueError("expected InfluxDB's address, for example http://localhost:8086")
        if parts.username or parts.password or parts.query or parts.fragment:
            raise ValueError("expected only the address; a token, or user and password, are settings of their own")
        return url.rstrip("/")

    @model_validator(mode="after")
    def _are_of_influxdb(self) -> Self:
        if self.url is None:
            if self.token or self.org or self.bucket or self.user or self.password:
                raise ValueError("url is missing: what is set is for InfluxDB, so say where it is")
        elif not self.bucket.partition("/")[0]:
            raise ValueError("bucket is missing: say which one of InfluxDB to write to")
        if bool(self.user) != bool(self.password):
            raise ValueError("user and password need each other: give both or neither")
        if self.token:
            if self.user:
                raise ValueError("token is for InfluxDB 2, user and password for InfluxDB 1: give one of them")
            if not self.org:
                raise ValueError("org is missing: a token belongs to an organisation")
        check_templates(measurement=self.measurement, tags=self.tags, field=self.field)
        return self

    @field_validator("memory_limit")
    @classmethod
    def _is_size(cls, text: str) -> str:
        if not _SIZE.fullmatch(text):
            raise ValueError(f"{text!r} is no size: a number and KB, MB, GB or TB (or KiB …), for example 4GB")
        return text

    @model_validator(mode="after")
    def _keep_the_coarse_longer(self) -> Self:
        for finer, coarser in (("keep_raw", "keep_minutes"), ("keep_minutes", "keep_hours")):
            longest, shortest = (getattr(self, name) or math.inf for name in (coarser, finer))
            if shortest > longest:
                raise ValueError(
                    f"{coarser} ({getattr(self, coarser):g}) must be {finer} ({getattr(self, finer):g}) at least, or 0 "
                    "for ever: what is coarser answers when the finer is gone"
                )
        return self


class LiveSettings(Section):
    """Updates to dashboards."""

    compression: bool = Field(
        default=False, description="Offer permessage-deflate; it costs the hub several times the work for each update."
    )


class LogSettings(Section):
    """What the hub says of itself, on stderr."""

    level: Literal["debug", "info", "warning", "error"] = Field(default="info", description="The least that is said.")
    format: Literal["auto", "console", "json"] = Field(
        default="auto", description="`auto`: for people on a terminal, JSON lines elsewhere."
    )


class Settings(BaseSettings):
    """All settings of a hub."""

    model_config = SettingsConfigDict(
        env_prefix=ENVIRONMENT_PREFIX,
        env_nested_delimiter="__",
        extra="forbid",
        frozen=True,
        nested_model_default_partial_update=True,
    )

    name: str = Field(
        default="Telemetry Hub", min_length=1, max_length=64, description="The hub's name, shown in the page."
    )
    data: Path = Field(default=Path("data"), description="The directory that holds everything the hub keeps.")
    listen: str = Field(default="127.0.0.1:8600", description="Address and port; port 0 takes a free one.")
    access: AccessSettings = AccessSettings()
    tls: TlsSettings = TlsSettings()
    ingest: IngestSettings = IngestSettings()
    journal: JournalSettings = JournalSettings()
    store: StoreSettings = StoreSettings()
    live: LiveSettings = LiveSettings()
    log: LogSettings = LogSettings()
    mqtt: tuple[MqttSettings, ...] = Field(default=(), description="The MQTT brokers that the hub is bridged to.")

    @field_validator("mqtt")
    @classmethod
    def _have_names(cls, brokers: tuple[MqttSettings, ...]) -> tuple[MqttSettings, ...]:
        names = [broker.name for broker in brokers]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"two brokers are called {name!r}: give each its name")
        clients = [(broker.address, broker.client_id) for broker in brokers if broker.client_id]
        for address, client_id in clients:
            if clients.count((address, client_id)) > 1:
                raise ValueError(
                    f"two bridges are {client_id!r} at {address.host}: a broker throws out the one that was there "
                    "first. Leave client_id out, or give each its own"
                )
        return brokers

    @property
    def address(self) -> tuple[str, int]:
        """`listen` as host and port. Raises SettingsError."""
        host, separator, port = self.listen.rpartition(":")
        if not separator or not port.isdecimal() or int(port) > 65_535:
            raise SettingsError(f"listen: expected HOST:PORT, for example 127.0.0.1:8600, got {self.listen!r}")
        return host.strip("[]") or "0.0.0.0", int(port)


def browser_url(host: str, port: int, *, tls: bool) -> str:
    """Where a browser on this machine reaches a hub that listens there."""
    if host in EVERY_ADDRESS:
        host = "localhost"
    return f"{'https' if tls else 'http'}://{f'[{host}]' if ':' in host else host}:{port}"


def load_settings(config: Path | None = None, overrides: Mapping[str, Any] | None = None) -> Settings:
    """The settings from the file, the environment and the command line's values. Raises SettingsError."""
    values: dict[str, Any] = {}
    if config is not None:
        try:
            values = tomllib.loads(config.read_text(encoding="utf-8"))
        except OSError as error:
            raise SettingsError(f"{config}: {error.strerror}") from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise SettingsError(f"{config}: {error}") from None
    unknown = [f"{name}: {_nearest(name)}" for name in os.environ if not _is_known(name.upper())]
    if unknown:
        raise SettingsError("; ".join(unknown))
    source = _file_source(values, {"store": _influxdb_values()})
    try:
        settings = source(**dict(overrides or {}))
    except ValidationError as error:
        lines = [f"{'.'.join(map(str, e['loc']))}: {_explain(e)}" for e in error.errors()]
        raise SettingsError("; ".join(lines)) from None
    _ = settings.address  # a wrong address is found now, and not when the hub starts to listen
    return settings


def _is_known(variable: str) -> bool:
    if not variable.startswith(ENVIRONMENT_PREFIX) or variable in OTHER_VARIABLES or _OTHERS.fullmatch(variable):
        return True
    # What is inside a section is judged with the section, which may also come as a whole.
    section = variable.removeprefix(ENVIRONMENT_PREFIX).partition("__")[0].lower()
    return section in Settings.model_fields


def _nearest(variable: str) -> str:
    found = get_close_matches(variable.upper(), [*_variables(Settings), *sorted(OTHER_VARIABLES)], n=1)
    return f"there is no such setting{f'; there is {found[0]}' if found else ''}"


def _variables(model: type[BaseModel], prefix: str = ENVIRONMENT_PREFIX) -> Iterator[str]:
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _variables(field.annotation, f"{prefix}{name.upper()}__")
        else:
            yield f"{prefix}{name.upper()}"


def _influxdb_values() -> dict[str, str]:
    """The store's settings from the names of InfluxDB's own tools. Raises SettingsError where two disagree."""
    found: dict[str, str] = {}
    for variable, name in INFLUXDB_VARIABLES.items():
        # A variable without a value is one that was left open, as Compose files do it.
        value, path = os.environ.get(variable) or None, os.environ.get(f"{variable}_FILE") or None
        if value is not None and path is not None:
            raise SettingsError(f"{variable} and {variable}_FILE: give one of them")
        if path is not None:
            value = _read_secret(f"{variable}_FILE", Path(path))
        if value is None:
            continue
        ours = f"{ENVIRONMENT_PREFIX}STORE__{name.upper()}"
        if os.environ.get(ours, value) != value:
            raise SettingsError(f"{ours} and {variable} say different things: give one of them")
        found[name] = value
    return found


def _read_secret(variable: str, path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_SECRET_BYTES + 1)
        text = content.decode().strip()
    except OSError as error:
        raise SettingsError(f"{variable}: {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise SettingsError(f"{variable}: {path} is no text") from None
    if not text or len(content) > MAX_SECRET_BYTES:
        raise SettingsError(f"{variable}: {path} is {'empty' if not text else 'too large to hold one setting'}")
    return text


def _file_source(values: dict[str, Any], environment: dict[str, Any]) -> type[Settings]:
    """Settings with the file's values below the environment's, of which `environment` are more."""

    class WithFile(Settings):
        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            *sources: PydanticBaseSettingsSource,
            **named: PydanticBaseSettingsSource,
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            file = InitSettingsSource(settings_cls, init_kwargs=values)
            more = InitSettingsSource(settings_cls, init_kwargs=environment)
            return named["init_settings"], named["env_settings"], more, file

    return WithFile


def _explain(error: ErrorDetails) -> str:
    if error["type"] == "extra_forbidden":
        return "there is no such setting"
    # What our own checks say is said as it is; pydantic would put "Value error, " before it.
    message = str(error["ctx"]["error"]) if error["type"] == "value_error" else error["msg"]
    return message[:1].lower() + message[1:]
