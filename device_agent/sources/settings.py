"""Settings of a source in agent.toml, and the registry of the kinds of sources.

A kind is a subclass of `SourceSettings` in the module of its source, and an entry in `KINDS`. A kind that reads foreign
data is a subclass of `ForeignSettings` in `sources.lines`: its table also has the settings of `formats.rules.Rules`.
The module of a kind is imported only when a source of it is configured: a small computer has no memory to spare.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from datetime import UTC, tzinfo
from importlib import import_module
from typing import TYPE_CHECKING, Annotated, NamedTuple

from msgspec import Meta, Struct

from wire.limits import MAX_METRIC_NAME, MAX_SOURCE_NAME

if TYPE_CHECKING:
    from device_agent.sources import Source

KINDS = {
    "command": "device_agent.sources.command:CommandSettings",
    "gpsd": "device_agent.sources.gpsd:GpsdSettings",
    "host": "device_agent.sources.host:HostSettings",
    "modbus": "device_agent.sources.modbus.settings:ModbusSettings",
    "replay": "device_agent.sources.replay:ReplaySettings",
    "serial": "device_agent.sources.serial:SerialSettings",
    "tcp": "device_agent.sources.tcp:TcpSettings",
    "udp": "device_agent.sources.udp:UdpSettings",
    "websocket": "device_agent.sources.websocket:WebSocketSettings",
}
"""Module and class of the settings of each kind."""

Seconds = Annotated[float, Meta(gt=0, le=366 * 86_400)]
"""A time in a setting: a year is longer than any purpose of it."""


class SourceContext(NamedTuple):
    """Values that a source gets from the agent: its device, and the zone of times without an offset."""

    device: str
    zone: tzinfo = UTC


class SourceSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings that every kind of source has.

    `name` is shown in the status, in the log and in the hub; empty: `default_name`. `device` is the id of the device
    to which the readings belong; empty: the agent's. `prefix` is put before the names of the metrics.
    """

    name: Annotated[str, Meta(max_length=MAX_SOURCE_NAME)] = ""
    device: str = ""
    prefix: Annotated[str, Meta(max_length=MAX_METRIC_NAME // 2)] = ""

    @property
    @abstractmethod
    def default_name(self) -> str:
        """The name of a source without `name`: the thing that people have to look at, such as a port."""

    @property
    def is_finite(self) -> bool:
        """True for a source that ends by itself and is not started again."""
        return False

    @abstractmethod
    def source(self, context: SourceContext) -> Source:
        """Return the source, which opens nothing before its first reading. Raises RulesError."""

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield the problems that this computer shows now, each with its key; for `device-agent check`.

        It runs in a thread, and takes some seconds at most. A port that is absent is a problem, because nobody checks
        a configuration to find out that a sensor is unplugged.
        """
        yield from ()


def settings_class(kind: str) -> type[SourceSettings]:
    """Return the class of the settings of a kind, and import its module. Raises KeyError and ImportError."""
    module, _, name = KINDS[kind].partition(":")
    found: type[SourceSettings] = getattr(import_module(module), name)
    return found
