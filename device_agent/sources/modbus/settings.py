"""Settings of one Modbus bus: how it is reached, and the maps of the registers that are polled. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple
from urllib.parse import urlsplit

from msgspec import Meta, Struct
from msgspec.structs import replace

from device_agent.sources.ports import MAX_BAUD, PortError, PortSettings
from device_agent.sources.settings import SourceContext, SourceSettings
from formats.modbus import Order, Register, RegisterMap
from wire.limits import MAX_METRIC_NAME, MAX_METRICS

if TYPE_CHECKING:
    from device_agent.sources.modbus.source import ModbusSource

MAX_SLAVE = 255
"""Largest number of a slave. A serial line has 1 to 247; gateways on TCP use 0 and 255 for themselves."""

MAX_MAPS = 256
"""Maps of one bus: more than a line of 247 slaves can answer in a minute."""

MAX_REGISTERS = 125
MAX_BITS = 2000
"""Registers, and coils or inputs, of one request (MODBUS Application Protocol V1.1b3, 6.1 to 6.4)."""

TCP_PORT = 502

BITS_OF_CHARACTER = 11
"""Start bit, eight bits, parity or a second stop bit, stop bit: a character of RTU (MODBUS over Serial Line, 2.5.1)."""

FIXED_SILENCE_S = 0.00175
"""Silence between two frames above 19,200 baud, where 3.5 characters are too short for a computer (2.5.1.1)."""

Table = Literal["holding", "input", "coil", "discrete"]
"""The four tables of a slave: holding registers (function 3), input registers (4), coils (1), discrete inputs (2)."""

BIT_TABLES = frozenset({"coil", "discrete"})


class PolledMap(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Registers of one slave that are read every `interval_s` seconds.

    `name` is the beginning of the names of its metrics. Registers that follow each other are read in one request;
    `max_gap` unused ones between them are read, too, and `max_registers` is what the slave accepts in one request. In
    the tables coil and discrete each address is one bit.
    """

    slave: Annotated[int, Meta(ge=0, le=MAX_SLAVE)]
    fields: Annotated[dict[str, Register], Meta(min_length=1, max_length=MAX_METRICS)]
    name: Annotated[str, Meta(max_length=MAX_METRIC_NAME // 2)] = ""
    table: Table = "holding"
    interval_s: Annotated[float, Meta(ge=0.01, le=86_400)] = 1.0
    byte_order: Order = "big"
    word_order: Order = "big"
    max_gap: Annotated[int, Meta(ge=0, le=MAX_BITS)] = 0
    max_registers: Annotated[int, Meta(ge=1, le=MAX_BITS)] = MAX_REGISTERS

    @property
    def limit(self) -> int:
        """Return the registers or bits of the largest request."""
        if self.table not in BIT_TABLES:
            return min(self.max_registers, MAX_REGISTERS)
        return MAX_BITS if self.max_registers == MAX_REGISTERS else self.max_registers

    def metric(self, field: str) -> str:
        """Return the metric of a field."""
        return f"{self.name}.{field}" if self.name else field

    def layout(self, fields: Mapping[str, Register], first: int) -> RegisterMap:
        """Return the map of a block of registers that begins with `first`, with metrics in place of fields."""
        bit = {"type": "bit", "bit": 0} if self.table in BIT_TABLES else {}
        return RegisterMap(
            {self.metric(name): replace(field, **bit) for name, field in fields.items()},
            first,
            "bytes",
            self.byte_order,
            self.word_order,
        )


class BusAddress(NamedTuple):
    """Address of a bus: a serial port, or a host with the frames that it expects."""

    kind: Literal["serial", "tcp", "rtu_over_tcp"]
    place: str
    port: int = 0


class ModbusSettings(SourceSettings, frozen=True, kw_only=True, omit_defaults=True):
    """One bus, which this source alone uses, and what is polled on it.

    `port` is a serial port as in PortSettings, tcp://HOST[:PORT] for Modbus TCP, or socket://HOST:PORT for a converter
    that passes the bytes of the line (RTU over TCP). `frame` has the data bits, the parity and the stop bits.
    `timeout_s` is the longest wait for an answer. `silence_s` is the pause before each request, None for that of the
    specification. `echo` says that the adapter returns the bytes that it sends.
    """

    port: str
    maps: Annotated[list[PolledMap], Meta(min_length=1, max_length=MAX_MAPS)]
    baud: Annotated[int, Meta(ge=50, le=MAX_BAUD)] = 9600
    frame: str = "8N1"
    timeout_s: Annotated[float, Meta(ge=0.01, le=60)] = 1.0
    silence_s: Annotated[float, Meta(ge=0, le=10)] | None = None
    echo: bool = False

    def __post_init__(self) -> None:
        self.line  # noqa: B018 - raises ValueError for wrong settings
        _check(self)

    @property
    def line(self) -> PortSettings:
        """The settings of the serial port."""
        return PortSettings(port=self.port, baud=self.baud, frame=self.frame)

    @property
    def default_name(self) -> str:
        return self.port

    @property
    def address(self) -> BusAddress:
        """Return the address of the bus."""
        return address_of(self.port)

    @property
    def pause_s(self) -> float:
        """Return the pause before each request: 3.5 characters on a line; none where packets separate the frames."""
        if self.silence_s is not None:
            return self.silence_s
        match self.address.kind:
            case "tcp":
                return 0.0
            case "serial" if self.baud <= 19_200:
                return 3.5 * BITS_OF_CHARACTER / self.baud
        return FIXED_SILENCE_S

    def source(self, context: SourceContext) -> ModbusSource:
        # The library of the protocol takes 0.1 s to import; `--help` and `check` do not need it.
        from device_agent.sources.modbus.source import ModbusSource

        return ModbusSource(self, device=context.device)

    def problems(self) -> Iterator[tuple[str, str]]:
        from device_agent.sources.ports.opening import PortFinder

        try:
            if self.address.kind == "serial":
                PortFinder(self.port).find()
        except PortError as error:
            yield "port", str(error)


def address_of(port: str) -> BusAddress:
    """Return the address that a text names. Raises ValueError."""
    scheme, separator, _ = port.partition("://")
    if not separator:
        if not port:
            raise ValueError("port is missing: write a serial port, tcp://HOST or socket://HOST:PORT")
        return BusAddress("serial", port)
    try:
        parts = urlsplit(port)
        host, number = parts.hostname, parts.port
    except ValueError as error:
        raise ValueError(f"{port} is no address: {error}") from None
    if scheme not in ("tcp", "socket") or not host or parts.path.strip("/") or parts.query or parts.username:
        raise ValueError(f"{port} is no address of a bus: write tcp://HOST[:PORT] or socket://HOST:PORT")
    if scheme == "socket":
        if number is None:
            raise ValueError(f"{port} has no port: write socket://{host}:PORT")
        return BusAddress("rtu_over_tcp", host, number)
    return BusAddress("tcp", host, number or TCP_PORT)


def _check(settings: ModbusSettings) -> None:
    """Raise ValueError for what cannot work; the message names the setting."""
    kind = settings.address.kind
    metrics: dict[str, int] = {}
    for polled in settings.maps:
        if kind != "tcp" and not 1 <= polled.slave <= 247:
            raise ValueError(f"slave {polled.slave} cannot be on a serial line: use 1 to 247")
        for name, field in polled.fields.items():
            _check_field(polled, name, field)
            metric = polled.metric(name)
            if metric in metrics:
                slaves = sorted({metrics[metric], polled.slave})
                who = "two maps" if len(slaves) == 1 else f"slaves {slaves[0]} and {slaves[1]}"
                raise ValueError(f"{who} have the metric {metric}: give each map a `name`")
            metrics[metric] = polled.slave
    if len(metrics) > MAX_METRICS:
        raise ValueError(f"the maps have {len(metrics):,} metrics, and a device has at most {MAX_METRICS:,}")


def _check_field(polled: PolledMap, name: str, field: Register) -> None:
    where = f"the field {name} of slave {polled.slave}"
    if polled.table in BIT_TABLES and (field.type not in ("bit", "u16") or field.bit):
        raise ValueError(f'{where} is in the table {polled.table}, whose values are bits: use type = "bit"')
    if field.count > polled.limit:
        raise ValueError(f"{where} has {field.count} registers, and a request of this map {polled.limit}")
    if field.address + field.count > 65_536:
        raise ValueError(f"{where} ends after the last register, 65,535")
