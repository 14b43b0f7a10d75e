"""The settings of [[mqtt]]: one table for each MQTT broker.

The checks here need no decoder. `hub.app.check` also builds the decoders, which reads the files that settings name.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, NamedTuple, Self
from urllib.parse import urlsplit

import msgspec
from pydantic import Field, SecretStr, field_validator, model_validator

from formats.rules import Ambiguous, Rules, rules_of
from hub.config.sections import Section, check_zone, split_address
from hub.mqtt.topics import TopicTemplate, placeholders, sparkplug_group
from wire.command import CommandDeclaration, CommandParameter
from wire.model import MetricType

PORTS = {"mqtt": 1883, "mqtts": 8883}
"""Ports of an address without a port: those that IANA has registered for MQTT without and with TLS."""

MAX_PERIOD_S = 86_400
"""Upper bound of the time between two messages of one metric."""

PRESETS = ("zigbee2mqtt", "tasmota", "esphome", "shelly", "home_assistant", "the_things_stack")
"""Names of the ready-made subscriptions. A test compares them with the decoders."""

Payload = Literal[
    "json", "value", "senml", "line", "csv", "pairs", "plotter", "nmea", "regex", "signalk", "rtl_433", "gpsd",
    "modbus", "function", "sparkplug", "auto",
]  # fmt: skip
"""Format of messages: one of formats.rules.Format, or Sparkplug, whose messages depend on each other."""


class BrokerAddress(NamedTuple):
    """Host, port and transport of a broker."""

    host: str
    port: int
    tls: bool


class SubscribeSettings(Section):
    """A subscription at the broker: a topic, and the format of its messages."""

    topic: str = Field(
        description="Template of the topics: `sensors/{site}/{device}/{metric}`, with `+` and `#` for other levels."
    )
    payload: Payload = Field(
        default="json", description="Format of the messages, such as json, value, line, csv, sparkplug or function."
    )
    qos: Literal[0, 1] = Field(default=1, description="Quality of service of the subscription.")
    function: Path | None = Field(default=None, description="Python file with `decode(topic, payload)`.")
    device: str = Field(
        default="", description="Template of the device, made of names in the topic and of fields: `{model}-{id}`."
    )
    metric: str = Field(default="", description="Template of the metric: `{metric}.{field}`.")
    columns: dict[str, str] = Field(
        default={}, description="Fields that are stored, with their metrics; empty: all of them."
    )
    time: str | tuple[str, ...] = Field(
        default="", description="Field with the time, or several fields; empty: ts, time, timestamp and similar names."
    )
    time_format: str = Field(
        default="auto", description="Form of that time, such as iso8601, s, ms, uptime_ms or `%d.%m.%Y %H:%M`."
    )
    zone: str = Field(
        default="", description="Zone of times without an offset; empty: the one of `rules`, else of the hub."
    )
    ambiguous: Ambiguous = Field(
        default="order", description="Meaning of a local time that occurs twice: order, earlier, later or refuse."
    )
    no_value: tuple[str, ...] = Field(default=(), description="Words without a value, besides the built-in ones.")
    decimal: Literal["", ".", ","] = Field(default="", description="Decimal mark of numbers; empty: by evidence.")
    thousands: Literal["", ".", ",", " ", "'"] = Field(
        default="", description="Mark between thousands; empty: by evidence."
    )
    numbers: Literal["auto", "text"] = Field(default="auto", description="text: numbers in texts of JSON stay texts.")
    types: dict[str, MetricType] = Field(
        default={}, description="Types of metrics: float, integer, boolean or string; others by their first value."
    )
    units: dict[str, str] = Field(default={}, description="Units of metrics.")
    encoding: str = Field(default="auto", description="Encoding of texts.")
    pattern: str = Field(default="", description="regex: the regular expression, with named groups.")
    delimiter: str = Field(default="", description="csv: the character between cells.")
    header: bool | None = Field(default=None, description="csv: whether the first line has names.")
    metric_column: str = Field(default="", description="csv: the column with the name of the metric.")
    value_column: str = Field(default="", description="csv: the column with its value.")
    modbus: dict[str, Any] | None = Field(default=None, description="modbus: the map of the registers.")

    def rules(self, defaults: dict[str, Any]) -> Rules:
        """Return the rules of the messages; these defaults are used where this table has no setting."""
        own = self.model_dump(include=self.model_fields_set - {"topic", "payload", "qos", "function"})
        return rules_of({**defaults, **own, "format": "json" if self.payload == "sparkplug" else self.payload})

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        template = TopicTemplate.parse(self.topic)
        if self.payload == "sparkplug":
            sparkplug_group(self.topic)
            if "qos" in self.model_fields_set:
                raise ValueError("qos is not for Sparkplug: the specification defines how its messages are published")
        if self.payload == "value" and "metric" not in template.names:
            raise ValueError(f"the topic {self.topic!r} needs {{metric}}: a bare value does not name its metric")
        if self.payload in ("json", "value", "senml") and not self.device and "device" not in template.names:
            raise ValueError(
                f"the topic {self.topic!r} needs {{device}}; or set `device` to the device that the messages belong to"
            )
        if (self.function is not None) != (self.payload == "function"):
            raise ValueError('function and payload = "function" belong together: set both or neither')
        names = placeholders(self.device)
        if self.payload == "value" and not names <= {*template.names}:
            raise ValueError(f"device: {self.device!r} may contain only names that the topic contains")
        check_zone(self.zone)
        self.rules({})
        return self


class PublishSettings(Section):
    """Readings published to the broker, and their topics."""

    topic: str = Field(description="Template of the topics: `hub/{device}/{metric}`, or `hub/{device}/state`.")
    payload: Literal["value", "json", "line"] = Field(
        default="value",
        description="Format of the messages: value (one reading each), json or line (all readings of one time).",
    )
    devices: str = Field(default="*", min_length=1, description="Pattern of the devices whose readings are published.")
    qos: Literal[0, 1] = Field(default=1, description="Quality of service of the messages.")
    retain: bool = Field(default=False, description="Let the broker keep the last message of each topic.")
    every: float = Field(
        default=0,
        ge=0,
        le=MAX_PERIOD_S,
        allow_inf_nan=False,
        description="Seconds between two messages of a metric; 0: every reading.",
    )
    historical: bool = Field(default=False, description="Publish historical readings too.")

    @field_validator("topic")
    @classmethod
    def _is_template(cls, topic: str) -> str:
        template = TopicTemplate.parse(topic)
        if "device" not in template.names:
            raise ValueError(f"the topic {topic!r} needs {{device}}: otherwise devices overwrite each other")
        if template.share or any(level.wild and not level.name for level in template.levels):
            raise ValueError(f"the topic {topic!r} is published to: it must not contain '+', '#' or a group")
        if topic.startswith("$"):
            raise ValueError(f"the topic {topic!r} begins with '$': such topics belong to the broker")
        return topic

    @model_validator(mode="after")
    def _names_the_metric(self) -> Self:
        if self.payload == "value" and "metric" not in TopicTemplate.parse(self.topic).names:
            raise ValueError(f"the topic {self.topic!r} needs {{metric}}: a bare value does not name its metric")
        return self


class MqttCommandSettings(Section):
    """A command to devices of the broker: what is published, and what confirms it."""

    name: str = Field(description="Name of the command.")
    devices: str = Field(default="*", min_length=1, description="Pattern of the devices that take the command.")
    description: str = Field(default="", description="Text for operators.")
    confirm: bool = Field(default=False, description="Ask the operator before it is sent.")
    parameters: tuple[dict[str, Any], ...] = Field(
        default=(), description="Parameters: name, type, unit, min, max, choices, default, required, description."
    )
    topic: str = Field(description="Topic of the command, with {device} and parameters: `plant/{device}/set`.")
    payload: str = Field(
        default="", description="Payload with {id}, {device} and parameters; empty: JSON with the parameters."
    )
    response_topic: str = Field(
        default="", description="Topic of the answer, which has the correlation data of MQTT 5 or {id} in its topic."
    )
    confirm_topic: str = Field(default="", description="Topic of another message that confirms the command.")
    confirm_pattern: str = Field(default="", description="Regular expression for that message, with parameters.")
    repeat: bool = Field(
        default=False, description="Publish it again after an interruption: the device may execute it twice."
    )

    def declaration(self) -> CommandDeclaration:
        """Return the command as operators see it. Raises ValueError with a sentence."""
        parameters = []
        for number, content in enumerate(self.parameters, 1):
            try:
                parameters.append(msgspec.convert(content, CommandParameter))
            except msgspec.ValidationError as error:
                name = content.get("name", number)
                raise ValueError(f"the parameter {name} of {self.name!r}: {str(error).split(' - at `$')[0]}") from None
        content = {
            "name": self.name,
            "description": self.description,
            "confirm": self.confirm,
            "parameters": msgspec.to_builtins(parameters),
        }
        try:
            return msgspec.convert(content, CommandDeclaration)
        except msgspec.ValidationError as error:
            raise ValueError(f"the command {self.name!r}: {str(error).split(' - at `$')[0]}") from None

    @model_validator(mode="after")
    def _is_valid(self) -> Self:
        self.declaration()
        for topic in (self.topic, self.response_topic.replace("{client_id}", "hub"), self.confirm_topic):
            if topic:
                TopicTemplate.parse(topic)
        return self


class DiscoverySettings(Section):
    """Announcement of published devices to Home Assistant."""

    enabled: bool = Field(default=False, description="Announce the published devices to Home Assistant.")
    prefix: str = Field(default="homeassistant", min_length=1, description="Discovery prefix of Home Assistant.")

    @field_validator("prefix")
    @classmethod
    def _is_prefix(cls, prefix: str) -> str:
        if any(character in prefix for character in "+#{}\0") or prefix.startswith("$") or not all(prefix.split("/")):
            raise ValueError(f"{prefix!r} begins topics: it must not contain '+' or '#', or '/' at either end")
        return prefix


class MqttSettings(Section):
    """One broker: address, credentials, subscriptions and publications."""

    name: str = Field(
        default="mqtt",
        pattern=r"^[a-z0-9_-]{1,32}$",
        description="Name of the bridge: lower-case letters, digits, - and _.",
    )
    url: str = Field(description="Address of the broker: mqtt://HOST:PORT, or mqtts:// for TLS.")
    user: str = Field(default="", description="User name at the broker.")
    password: SecretStr | None = Field(default=None, description="The user's password.")
    password_file: Path | None = Field(default=None, description="File that holds the password.")
    client_id: str = Field(
        default="",
        max_length=128,
        description="MQTT client id; empty: telemetry-hub-, the id of the hub and the name of the bridge.",
    )
    keepalive: int = Field(
        default=30, ge=5, le=3_600, description="Seconds of silence after which the connection is checked."
    )
    session_expiry: int = Field(
        default=7 * 86_400,
        ge=0,
        le=2**32 - 1,
        description="Seconds that the broker keeps messages while the hub is not connected.",
    )
    receive_maximum: int = Field(
        default=1_000, ge=1, le=65_535, description="Messages that may be received before the first is on disk."
    )
    share: str = Field(default="", max_length=64, description="Group of hubs that share the messages.")
    tls_ca: Path | None = Field(
        default=None, description="PEM file with the authority that signed the broker's certificate."
    )
    tls_certificate: Path | None = Field(default=None, description="PEM file with the hub's certificate.")
    tls_key: Path | None = Field(default=None, description="PEM file with the hub's private key.")
    will_topic: str = Field(
        default="{client_id}/status", description="Topic with the retained status online or offline; empty: none."
    )
    presence_topic: str = Field(
        default="", description="Topic with {device} for the retained presence of each published device; empty: none."
    )
    allow_commands: bool = Field(
        default=False, description="Let this broker pass commands: to its devices, and from its clients."
    )
    command_topic: str = Field(
        default="", description="Topic with {device} and {command} on which clients send commands; empty: none."
    )
    setting_topic: str = Field(
        default="", description="Topic with {device} and {setting} on which clients set desired values; empty: none."
    )
    command_devices: tuple[str, ...] = Field(
        default=(), description="Patterns of the devices that clients of the broker may command."
    )
    subscribe: tuple[SubscribeSettings, ...] = Field(default=(), description="Subscriptions at the broker.")
    presets: tuple[str, ...] = Field(
        default=(), description="Ready-made subscriptions: zigbee2mqtt, or zigbee2mqtt=BASE."
    )
    host_id: str = Field(
        default="", description="Id of the hub as a Sparkplug host application; empty: no host application."
    )
    rules: dict[str, Any] = Field(
        default={}, description="Rules of formats.md for all subscriptions and presets, such as zone or no_value."
    )
    publish: tuple[PublishSettings, ...] = Field(default=(), description="Readings published to the broker.")
    discovery: DiscoverySettings = DiscoverySettings()
    commands: tuple[MqttCommandSettings, ...] = Field(
        default=(), description="Commands to devices of the broker, besides those of presets."
    )

    @property
    def address(self) -> BrokerAddress:
        """The parts of `url`."""
        parts = urlsplit(self.url)
        return BrokerAddress(parts.hostname or "", parts.port or PORTS[parts.scheme], parts.scheme == "mqtts")

    @field_validator("url")
    @classmethod
    def _is_url(cls, url: str) -> str:
        parts = split_address(url, PORTS)
        if parts is None:
            raise ValueError(
                "expected the broker's address, for example mqtt://localhost:1883 or mqtts://broker.example"
            )
        if parts.username or parts.password or parts.query or parts.fragment or parts.path.strip("/"):
            raise ValueError("expected only the address; user and password have their own settings")
        return url.rstrip("/")

    @field_validator("presets")
    @classmethod
    def _are_presets(cls, presets: tuple[str, ...]) -> tuple[str, ...]:
        for text in presets:
            name, is_given, base = text.partition("=")
            if name not in PRESETS:
                raise ValueError(f"there is no preset {name!r}: use {', '.join(PRESETS)}")
            if is_given and not base.strip("/"):
                raise ValueError(f"the preset {text!r} has no base topic after '='")
            if is_given:
                TopicTemplate.parse(base)
        return presets

    @field_validator("rules")
    @classmethod
    def _are_rules(cls, rules: dict[str, Any]) -> dict[str, Any]:
        if "format" in rules:
            raise ValueError("format is a setting of each subscription: `payload`")
        check_zone(rules_of(rules).zone)
        return rules

    @field_validator("will_topic")
    @classmethod
    def _is_topic(cls, topic: str) -> str:
        if any(character in topic for character in "+#\0") or "{" in topic.replace("{client_id}", ""):
            raise ValueError(f"{topic!r} is published to: it may contain {{client_id}}, but not '+' or '#'")
        return topic

    @field_validator("client_id", "share", "host_id")
    @classmethod
    def _is_level(cls, text: str) -> str:
        if any(character in text for character in "/+#\0"):
            raise ValueError(f"{text!r} is one level of a topic: it must not contain '/', '+' or '#'")
        return text

    @model_validator(mode="after")
    def _belong_together(self) -> Self:
        if self.password is not None and self.password_file is not None:
            raise ValueError("password and password_file are both set: set one of them")
        if (self.password or self.password_file) and not self.user:
            raise ValueError("user is missing: a password needs a user name")
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ValueError("tls_certificate and tls_key belong together: set both or neither")
        if (self.tls_ca or self.tls_certificate) and not self.address.tls:
            raise ValueError("tls_ca and tls_certificate are for mqtts:// only")
        is_sparkplug = bool(self.host_id) or any(subscription.payload == "sparkplug" for subscription in self.subscribe)
        if is_sparkplug and self.share:
            raise ValueError("share is not for Sparkplug: a host application needs every message of its edge nodes")
        published = [(publication.topic, publication.devices) for publication in self.publish]
        if twice := next((topic for topic, devices in published if published.count((topic, devices)) > 1), None):
            raise ValueError(f"two tables of publish use the topic {twice!r}: change one of them")
        if self.discovery.enabled and not any(publication.payload != "line" for publication in self.publish):
            raise ValueError("discovery needs readings published as value or json: add publish, or disable discovery")
        if self.presence_topic and TopicTemplate.parse(self.presence_topic).names != ("device",):
            raise ValueError(f"presence_topic {self.presence_topic!r} needs {{device}}, and no other placeholder")
        if self.presence_topic and not self.publish:
            raise ValueError("presence_topic is for devices whose readings are published: add publish")
        if not (self.subscribe or self.presets or self.publish or self.host_id or self.command_topic):
            raise ValueError("the broker is not used: set subscribe, presets, publish, host_id or command_topic")
        if self.commands and not self.allow_commands:
            raise ValueError(
                "commands let operators control the devices of this broker: set allow_commands = true, too"
            )
        if self.allow_commands and self.share:
            raise ValueError(
                "allow_commands is not for hubs that share messages: another hub would get the answers of the devices"
            )
        self._check_command_topic()
        return self

    def _check_command_topic(self) -> None:
        topics = {"command": self.command_topic, "setting": self.setting_topic}
        if any(topics.values()) != bool(self.command_devices):
            raise ValueError(
                "command_topic or setting_topic and command_devices belong together: set both, such as "
                'command_topic = "telemetry/{device}/command/{command}" and command_devices = ["pump-*"]'
            )
        if any(topics.values()) and not self.allow_commands:
            raise ValueError(
                "command_topic and setting_topic let everybody who may publish there command devices: set "
                "allow_commands = true, too"
            )
        for kind, topic in topics.items():
            if topic and {*TopicTemplate.parse(topic).names} != {"device", kind}:
                raise ValueError(f"{kind}_topic {topic!r} needs {{device}} and {{{kind}}}, and no other placeholder")
        if self.setting_topic and not self.publish:
            raise ValueError("setting_topic is for a broker that gets readings: add publish")
