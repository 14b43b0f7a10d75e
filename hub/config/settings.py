"""The settings of the hub, read once into frozen values.

Precedence: command line, environment (`HUB_…`, nested with `__`), TOML file, default. An unknown key is an error that
names the key. docs/configuration.md describes every setting; a test compares the two.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field, ValidationError, field_validator
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, InitSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from hub.config.influx_write import InfluxWriteSettings
from hub.config.mqtt import MqttSettings
from hub.config.sections import (
    AccessSettings,
    IngestSettings,
    JournalSettings,
    LiveSettings,
    LogSettings,
    PublicUrl,
    StoreSettings,
    TlsSettings,
    check_zone,
    parse_public_url,
)

EVERY_ADDRESS = frozenset({"0.0.0.0", "::"})
"""Addresses to listen on that a browser cannot open."""

ENVIRONMENT_PREFIX = "HUB_"

OTHER_VARIABLES = frozenset(
    {"HUB_CONFIG", "HUB_URL", "HUB_TOKEN", "HUB_CA", "HUB_CLIENT_CERTIFICATE", "HUB_CLIENT_KEY", "HUB_NPM"}
)
"""Variables with our prefix that are not settings: the name of the file, those of agents and simulators, npm."""

_OTHERS = re.compile(r"HUB_TEST_.+|HUB_SERVICE_.+|HUB_PORT(_.+)?")
"""Variables of the tests, and those that Kubernetes adds to every container if a service is called hub."""

INFLUXDB_VARIABLES = {
    f"INFLUXDB_{name.upper()}": name for name in ("url", "token", "org", "bucket", "user", "password")
}
"""Settings of the store under the names that the tools and images of InfluxDB use."""

MAX_SECRET_BYTES = 64 * 1024
"""Maximum size of a file that holds one secret; a larger file is the wrong one."""


class SettingsError(Exception):
    """Invalid settings. The message names each key and its problem."""


class Settings(BaseSettings):
    """All settings of a hub, frozen."""

    model_config = SettingsConfigDict(
        env_prefix=ENVIRONMENT_PREFIX,
        env_nested_delimiter="__",
        extra="forbid",
        frozen=True,
        nested_model_default_partial_update=True,
    )

    name: str = Field(
        default="Telemetry Hub", min_length=1, max_length=64, description="Name of the hub, shown in the page."
    )
    data: Path = Field(default=Path("data"), description="Directory of all data that the hub keeps.")
    listen: str = Field(
        default="127.0.0.1:8600", description="Address and port to listen on; port 0 picks a free port."
    )
    public_url: str | None = Field(
        default=None, description="URL of the hub for browsers and agents, if a proxy or a name leads to it."
    )
    zone: str = Field(default="UTC", description="Zone of times that devices and files send without an offset.")
    access: AccessSettings = AccessSettings()
    tls: TlsSettings = TlsSettings()
    ingest: IngestSettings = IngestSettings()
    journal: JournalSettings = JournalSettings()
    store: StoreSettings = StoreSettings()
    influx_write: InfluxWriteSettings = InfluxWriteSettings()
    live: LiveSettings = LiveSettings()
    log: LogSettings = LogSettings()
    mqtt: tuple[MqttSettings, ...] = Field(default=(), description="MQTT brokers that the hub connects to.")

    @field_validator("zone")
    @classmethod
    def _is_zone(cls, zone: str) -> str:
        check_zone(zone)
        return zone or "UTC"

    @field_validator("mqtt")
    @classmethod
    def _have_names(cls, brokers: tuple[MqttSettings, ...]) -> tuple[MqttSettings, ...]:
        names = [broker.name for broker in brokers]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"two brokers are called {name!r}: give each its own name")
        clients = [(broker.address, broker.client_id) for broker in brokers if broker.client_id]
        for address, client_id in clients:
            if clients.count((address, client_id)) > 1:
                raise ValueError(
                    f"two bridges use the client_id {client_id!r} at {address.host}: the broker disconnects the first "
                    "when the second connects. Remove client_id, or give each bridge its own"
                )
        return brokers

    @field_validator("public_url")
    @classmethod
    def _is_public_url(cls, url: str | None) -> str | None:
        # Compose files set variables without a value; these count as not set.
        return str(parse_public_url(url)) if url else None

    @property
    def public(self) -> PublicUrl | None:
        """The parts of `public_url`."""
        return None if self.public_url is None else parse_public_url(self.public_url)

    @property
    def browser_url(self) -> str:
        """The URL of the hub for a browser: `public_url`, or its address on this machine."""
        return self.public_url or browser_url(*self.address, tls=self.tls.certificate is not None)

    @property
    def address(self) -> tuple[str, int]:
        """Host and port of `listen`. Raises SettingsError."""
        host, separator, port = self.listen.rpartition(":")
        if not separator or not port.isdecimal() or int(port) > 65_535:
            raise SettingsError(f"listen: expected HOST:PORT, for example 127.0.0.1:8600, got {self.listen!r}")
        return host.strip("[]") or "0.0.0.0", int(port)


def browser_url(host: str, port: int, *, tls: bool) -> str:
    """Return the URL under which a browser on this machine reaches a hub that listens on this address."""
    if host in EVERY_ADDRESS:
        host = "localhost"
    return f"{'https' if tls else 'http'}://{f'[{host}]' if ':' in host else host}:{port}"


def load_settings(config: Path | None = None, overrides: Mapping[str, Any] | None = None) -> Settings:
    """Return the settings from the file, the environment and the command line. Raises SettingsError."""
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
    _ = settings.address  # validate it now, and not when the hub starts to listen
    return settings


def _is_known(variable: str) -> bool:
    if not variable.startswith(ENVIRONMENT_PREFIX) or variable in OTHER_VARIABLES or _OTHERS.fullmatch(variable):
        return True
    # Pydantic checks the keys inside a section, which a variable may also hold as a whole.
    section = variable.removeprefix(ENVIRONMENT_PREFIX).partition("__")[0].lower()
    return section in Settings.model_fields


def _nearest(variable: str) -> str:
    found = get_close_matches(variable.upper(), [*_variables(Settings), *sorted(OTHER_VARIABLES)], n=1)
    return f"there is no such setting{f'; did you mean {found[0]}?' if found else ''}"


def _variables(model: type[BaseModel], prefix: str = ENVIRONMENT_PREFIX) -> Iterator[str]:
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _variables(field.annotation, f"{prefix}{name.upper()}__")
        else:
            yield f"{prefix}{name.upper()}"


def _influxdb_values() -> dict[str, str]:
    """Return the settings of the store from the variables of InfluxDB. Raises SettingsError for a contradiction."""
    found: dict[str, str] = {}
    for variable, name in INFLUXDB_VARIABLES.items():
        # Compose files set variables without a value; these count as not set.
        value, path = os.environ.get(variable) or None, os.environ.get(f"{variable}_FILE") or None
        if value is not None and path is not None:
            raise SettingsError(f"{variable} and {variable}_FILE are both set: set one of them")
        if path is not None:
            value = _read_secret(f"{variable}_FILE", Path(path))
        if value is None:
            continue
        ours = f"{ENVIRONMENT_PREFIX}STORE__{name.upper()}"
        if os.environ.get(ours, value) != value:
            raise SettingsError(f"{ours} and {variable} have different values: set one of them")
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
        raise SettingsError(f"{variable}: {path} is not a text file") from None
    if not text or len(content) > MAX_SECRET_BYTES:
        raise SettingsError(f"{variable}: {path} is {'empty' if not text else 'too large to hold one setting'}")
    return text


def _file_source(values: dict[str, Any], environment: dict[str, Any]) -> type[Settings]:
    """Return a class of settings that reads the file after the environment. `environment` holds further variables."""

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
    # Pydantic puts "Value error, " before the message of our own checks.
    message = str(error["ctx"]["error"]) if error["type"] == "value_error" else error["msg"]
    return message[:1].lower() + message[1:]
