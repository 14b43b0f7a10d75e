"""The hub's settings: read once, in one place, into frozen values.

Command line > environment (`HUB_…`, nested with `__`) > TOML file > default. Unknown keys are errors that name the key.
Every setting is described in docs/configuration.md; a test compares the two.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, InitSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from wire import limits

GIB = 1024**3

EVERY_ADDRESS = frozenset({"0.0.0.0", "::"})
"""Addresses to listen on that no browser can open."""


ENVIRONMENT_PREFIX = "HUB_"

OTHER_VARIABLES = frozenset({"HUB_CONFIG", "HUB_URL", "HUB_TOKEN", "HUB_NPM"})
"""Variables with our prefix that are no settings: the file's name, what agents and simulators read, the build's npm."""

_OTHERS = re.compile(r"HUB_TEST_.+|HUB_SERVICE_.+|HUB_PORT(_.+)?")
"""More of them: the tests', and those that Kubernetes gives to every container beside a service that is called hub."""

_SIZE = re.compile(r"[0-9]+(\.[0-9]+)? ?[KMGT]i?B", re.IGNORECASE)


class SettingsError(Exception):
    """The settings cannot be used; the message names each key and says what is wrong with it."""


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class AccessSettings(_Section):
    """Who may come in, and how."""

    behind_proxy: bool = Field(default=False, description="A reverse proxy in front of the hub terminates TLS.")
    allowed_hosts: tuple[str, ...] = Field(default=(), description="Host names that the page may be opened under.")
    allowed_origins: tuple[str, ...] = Field(
        default=(), description="Other origins whose pages may use the hub's cookie."
    )


class TlsSettings(_Section):
    """TLS on the hub's own port."""

    certificate: Path | None = Field(default=None, description="PEM file with the certificate chain.")
    key: Path | None = Field(default=None, description="PEM file with the private key.")

    @model_validator(mode="after")
    def _are_both_or_neither(self) -> Self:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("certificate and key need each other: give both or neither")
        return self


class IngestSettings(_Section):
    """Taking in data."""

    window: int = Field(
        default=limits.DEFAULT_WINDOW, ge=1, le=65_536, description="Batches of one device that may be unacknowledged."
    )


class JournalSettings(_Section):
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


class StoreSettings(_Section):
    """Where history lives: DuckDB in the data directory."""

    memory_limit: str = Field(default="1GB", description="Memory that DuckDB may use.")
    threads: int = Field(default=1, ge=1, le=64, description="Threads that DuckDB may use for one query.")

    @field_validator("memory_limit")
    @classmethod
    def _is_size(cls, text: str) -> str:
        if not _SIZE.fullmatch(text):
            raise ValueError(f"{text!r} is no size: a number and KB, MB, GB or TB (or KiB …), for example 4GB")
        return text


class LiveSettings(_Section):
    """Updates to dashboards."""

    compression: bool = Field(
        default=False, description="Offer permessage-deflate; it costs the hub several times the work for each update."
    )


class LogSettings(_Section):
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
    source = _file_source(values)
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


def _file_source(values: dict[str, Any]) -> type[Settings]:
    """Settings with the file's values below the environment's."""

    class WithFile(Settings):
        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            *sources: PydanticBaseSettingsSource,
            **named: PydanticBaseSettingsSource,
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            file = InitSettingsSource(settings_cls, init_kwargs=values)
            return named["init_settings"], named["env_settings"], file

    return WithFile


def _explain(error: ErrorDetails) -> str:
    if error["type"] == "extra_forbidden":
        return "there is no such setting"
    # What our own checks say is said as it is; pydantic would put "Value error, " before it.
    message = str(error["ctx"]["error"]) if error["type"] == "value_error" else error["msg"]
    return message[:1].lower() + message[1:]
