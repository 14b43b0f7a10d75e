"""The settings of [[mqtt]]: a table for each broker that the hub is bridged to."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, NamedTuple, Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator, model_validator

from hub.config.section import Section
from hub.mqtt.decoders.configured import preset_decoder
from hub.mqtt.decoders.mapping import places_of
from hub.mqtt.sparkplug.host import sparkplug_group
from hub.mqtt.topics import TopicTemplate

PORTS = {"mqtt": 1883, "mqtts": 8883}
"""Of an address that names none: what IANA has registered for MQTT, without and with TLS."""

MAX_PERIOD_S = 86_400
"""Between two messages of one metric: a day."""

Payload = Literal["json", "value", "senml", "line", "sparkplug", "function"]
TimeFormat = Literal["auto", "iso8601", "s", "ms", "us", "ns"]


class Address(NamedTuple):
    """Where a broker is."""

    host: str
    port: int
    tls: bool


class SubscribeSettings(Section):
    """What is taken from the broker: a topic, and what its messages hold."""

    topic: str = Field(description="Template of the topics: `sensors/{site}/{device}/{metric}`; `+` and `#` elsewhere.")
    payload: Payload = Field(
        default="json", description="What messages hold: json, value, senml, line, sparkplug or function."
    )
    device: str = Field(default="", description="Template of the device, of the topic's names: `{site}-{device}`.")
    qos: Literal[0, 1] = Field(default=1, description="Quality of service that the broker is asked for.")
    time: str = Field(default="", description="Field of a JSON message with its time; empty: ts, time or timestamp.")
    time_format: TimeFormat = Field(
        default="auto", description="How that time is written: iso8601, s, ms, us or ns; auto tells by its size."
    )
    function: Path | None = Field(default=None, description="Python file with `decode(topic, payload)`.")

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        template = TopicTemplate.parse(self.topic)
        if self.payload == "sparkplug":
            sparkplug_group(self.topic)
            if "qos" in self.model_fields_set:
                raise ValueError("qos is not for Sparkplug, which says itself how its messages are published")
        if self.payload == "value" and "metric" not in template.names:
            raise ValueError(f"the topic {self.topic!r} needs {{metric}}: a bare value does not say what it is")
        if self.payload in ("json", "value", "senml") and not self.device and "device" not in template.names:
            raise ValueError(
                f"the topic {self.topic!r} needs {{device}}, or say with `device` whose messages these are"
            )
        if (self.function is not None) != (self.payload == "function"):
            raise ValueError('function and payload = "function" need each other: give both or neither')
        if not places_of(self.device) <= {*template.names}:
            raise ValueError(f"device: {self.device!r} may name only what the topic names")
        return self


class PublishSettings(Section):
    """What is given to the broker: readings, under topics."""

    topic: str = Field(description="Template of the topics: `hub/{device}/{metric}`, or `hub/{device}/state`.")
    payload: Literal["value", "json", "line"] = Field(
        default="value", description="What messages hold: value (one reading each), json or line (all of a time)."
    )
    devices: str = Field(default="*", min_length=1, description="Pattern of the devices whose readings go out.")
    qos: Literal[0, 1] = Field(default=1, description="Quality of service that readings go out with.")
    retain: bool = Field(default=False, description="The broker keeps the last message of each topic.")
    every: float = Field(
        default=0, ge=0, le=MAX_PERIOD_S, allow_inf_nan=False, description="Seconds between messages; 0: every reading."
    )
    historical: bool = Field(default=False, description="Backfill goes out, too.")

    @field_validator("topic")
    @classmethod
    def _is_template(cls, topic: str) -> str:
        template = TopicTemplate.parse(topic)
        if "device" not in template.names:
            raise ValueError(f"the topic {topic!r} needs {{device}}: devices would overwrite each other")
        if template.share or any(level.wild and not level.name for level in template.levels):
            raise ValueError(f"the topic {topic!r} is to be published to, so it may have no '+', no '#' and no group")
        if topic.startswith("$"):
            raise ValueError(f"the topic {topic!r} begins with '$': such topics are the broker's own")
        return topic

    @model_validator(mode="after")
    def _names_the_metric(self) -> Self:
        if self.payload == "value" and "metric" not in TopicTemplate.parse(self.topic).names:
            raise ValueError(f"the topic {self.topic!r} needs {{metric}}: a bare value does not say what it is")
        return self


class DiscoverySettings(Section):
    """Devices announce themselves to Home Assistant."""

    enabled: bool = Field(default=False, description="Announce the devices that are published to Home Assistant.")
    prefix: str = Field(default="homeassistant", min_length=1, description="Home Assistant's discovery prefix.")

    @field_validator("prefix")
    @classmethod
    def _is_prefix(cls, prefix: str) -> str:
        if any(character in prefix for character in "+#{}\0") or prefix.startswith("$") or not all(prefix.split("/")):
            raise ValueError(f"{prefix!r} begins topics: it may not have '+', '#', nor a '/' at either end")
        return prefix


class MqttSettings(Section):
    """One broker."""

    name: str = Field(
        default="mqtt",
        pattern=r"^[a-z0-9_-]{1,32}$",
        description="Name of the bridge: small letters, digits, - and _.",
    )
    url: str = Field(description="The broker's address: mqtt://HOST:PORT, or mqtts:// for TLS.")
    user: str = Field(default="", description="User at the broker.")
    password: SecretStr | None = Field(default=None, description="The user's password.")
    password_file: Path | None = Field(default=None, description="File that holds the password.")
    client_id: str = Field(
        default="",
        max_length=128,
        description="The hub's id at the broker; empty: telemetry-hub-, its own id and the bridge's name.",
    )
    keepalive: int = Field(default=30, ge=5, le=3_600, description="Seconds after which silence is looked into.")
    session_expiry: int = Field(
        default=7 * 86_400, ge=0, le=2**32 - 1, description="Seconds that the broker keeps messages for an absent hub."
    )
    receive_maximum: int = Field(
        default=1_000, ge=1, le=65_535, description="Messages that may be on their way to the disk."
    )
    share: str = Field(default="", max_length=64, description="Group of hubs that divide the messages among them.")
    tls_ca: Path | None = Field(default=None, description="PEM file with the authority that signed the broker's.")
    tls_certificate: Path | None = Field(default=None, description="PEM file with the hub's certificate.")
    tls_key: Path | None = Field(default=None, description="PEM file with its private key.")
    will_topic: str = Field(
        default="{client_id}/status", description="Topic that says online or offline, retained; empty: none."
    )
    subscribe: tuple[SubscribeSettings, ...] = Field(default=(), description="What is taken from the broker.")
    presets: tuple[str, ...] = Field(
        default=(), description="Ready-made subscriptions: zigbee2mqtt, or zigbee2mqtt=BASE."
    )
    host_id: str = Field(default="", description="Id as a Sparkplug host application; empty: it is none.")
    publish: tuple[PublishSettings, ...] = Field(default=(), description="What is given to the broker.")
    discovery: DiscoverySettings = DiscoverySettings()

    @property
    def address(self) -> Address:
        """`url`, taken apart."""
        parts = urlsplit(self.url)
        return Address(parts.hostname or "", parts.port or PORTS[parts.scheme], parts.scheme == "mqtts")

    @field_validator("url")
    @classmethod
    def _is_url(cls, url: str) -> str:
        try:
            parts = urlsplit(url)
            is_address = parts.scheme in PORTS and bool(parts.hostname) and parts.port != 0
        except ValueError:
            is_address = False
        if not is_address:
            raise ValueError(
                "expected the broker's address, for example mqtt://localhost:1883 or mqtts://broker.example"
            )
        if parts.username or parts.password or parts.query or parts.fragment or parts.path.strip("/"):
            raise ValueError("expected only the address; user and password are settings of their own")
        return url.rstrip("/")

    @field_validator("presets")
    @classmethod
    def _are_presets(cls, presets: tuple[str, ...]) -> tuple[str, ...]:
        for text in presets:
            preset_decoder(text)
        return presets

    @field_validator("will_topic")
    @classmethod
    def _is_topic(cls, topic: str) -> str:
        if any(character in topic for character in "+#\0") or "{" in topic.replace("{client_id}", ""):
            raise ValueError(f"{topic!r} is to be published to: it may have {{client_id}}, and no '+' or '#'")
        return topic

    @field_validator("client_id", "share", "host_id")
    @classmethod
    def _is_level(cls, text: str) -> str:
        if any(character in text for character in "/+#\0"):
            raise ValueError(f"{text!r} is a level of topics: it may not have '/', '+' or '#'")
        return text

    @model_validator(mode="after")
    def _belong_together(self) -> Self:
        if self.password is not None and self.password_file is not None:
            raise ValueError("password and password_file: give one of them")
        if (self.password or self.password_file) and not self.user:
            raise ValueError("user is missing: say whose password it is")
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ValueError("tls_certificate and tls_key need each other: give both or neither")
        if (self.tls_ca or self.tls_certificate) and not self.address.tls:
            raise ValueError("tls_ca and tls_certificate are for mqtts://")
        is_sparkplug = bool(self.host_id) or any(one.payload == "sparkplug" for one in self.subscribe)
        if is_sparkplug and self.share:
            raise ValueError("share is not for Sparkplug: a host application needs every message of its edge nodes")
        published = [(one.topic, one.devices) for one in self.publish]
        if twice := next((topic for topic, devices in published if published.count((topic, devices)) > 1), None):
            raise ValueError(f"two things are published to {twice!r}: give one of them another topic")
        if self.discovery.enabled and not any(one.payload != "line" for one in self.publish):
            raise ValueError("discovery is for what is published, as value or as json: add publish, or disable it")
        if not (self.subscribe or self.presets or self.publish or self.host_id):
            raise ValueError("nothing is subscribed to and nothing published: say what the broker is for")
        return self
