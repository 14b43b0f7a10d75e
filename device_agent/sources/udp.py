"""Datagrams of lines, such as NMEA sentences of a ship's network: of any sender, of a broadcast, or of a group."""

from __future__ import annotations

import asyncio
import logging
import socket
import struct
from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack, asynccontextmanager
from functools import partial
from ipaddress import IPv4Address, IPv6Address, ip_address

from device_agent.sources import RepeatedWarning
from device_agent.sources.connection import ConnectionSource, SourceUnavailable
from device_agent.sources.line_report import LineReport
from device_agent.sources.lines import ForeignInput, ForeignSettings
from device_agent.sources.network import (
    Address,
    Network,
    dropped_datagrams,
    is_allowed,
    network_reason,
    parse_address,
    parse_networks,
    plain_host,
)
from device_agent.sources.senders import Piece, Receiver, SenderReader
from device_agent.sources.settings import SourceContext
from wire.text import plural

MAX_DATAGRAM_BYTES = 65_535
"""The largest datagram of UDP."""

RECEIVE_BUFFER_BYTES = 1024 * 1024
"""Datagrams that wait in the system while the agent does something else; it may grant less."""

DROPS_SECONDS = 1.0
"""Time between two looks at the count of the datagrams that the system has discarded."""

RECOVERED_SECONDS = 60.0
"""Time without a discarded datagram after which the source works again."""

_log = logging.getLogger(__name__)


class UdpSettings(ForeignSettings, frozen=True, kw_only=True):
    """Settings of datagrams that arrive at `address`. `group` is a multicast group that is joined at `interface`.

    An interface is named by its address for IPv4, by its name for IPv6. `allow` are the networks that may send.
    """

    address: str
    group: str = ""
    interface: str = ""
    allow: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        parse_address(self.address, is_own=True)
        parse_networks(self.allow)
        if self.group:
            parse_group(self.group)
        elif self.interface:
            raise ValueError("interface is for a multicast group: set group, too")

    @property
    def default_name(self) -> str:
        group = f" {self.group}" if self.group else ""
        return f"udp {parse_address(self.address, is_own=True)}{group}"

    def source(self, context: SourceContext) -> ConnectionSource[Receiver]:
        input = self.input(context)
        address = parse_address(self.address, is_own=True)
        connect = partial(
            listen_udp, address, input, parse_networks(self.allow), group=self.group, interface=self.interface
        )
        report = LineReport(self.name or self.default_name, input, _log, problem="not listening")
        return ConnectionSource(report, SenderReader(input, is_message=True), connect)


class UdpReceiver:
    """Open socket at which datagrams arrive. They wait in the system, which discards what does not fit."""

    def __init__(
        self, receiver: socket.socket, input: ForeignInput, allowed: Sequence[Network], report: LineReport
    ) -> None:
        self._socket = receiver
        self._input = input
        self._allowed = allowed
        self._report = report
        self._ignored = RepeatedWarning(_log, f"{report.name} ignores datagrams of addresses that are not allowed")
        self._lost = RepeatedWarning(_log, f"{report.name}: datagrams are lost", quiet=1000)
        self._drops = dropped_datagrams(receiver)
        self._looked_s = self._dropped_s = 0.0

    async def receive(self) -> Piece:
        """Return the next datagram. Raises SourceUnavailable."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                data, sender = await loop.sock_recvfrom(self._socket, MAX_DATAGRAM_BYTES)
            except OSError as error:
                raise SourceUnavailable(network_reason(error)) from None
            if loop.time() >= self._looked_s + DROPS_SECONDS:
                self._look_for_drops(loop.time())
            host = plain_host(sender[0])
            if not self._allowed or is_allowed(host, self._allowed):
                return Piece((host, sender[1]), data)
            self._input.counts.ignored += 1
            self._ignored.record_failure(host)
            await asyncio.sleep(0)

    def _look_for_drops(self, now_s: float) -> None:
        self._looked_s = now_s
        count = dropped_datagrams(self._socket) - self._drops
        if count > 0:
            self._drops += count
            self._dropped_s = now_s
            self._input.counts.dropped += count
            self._lost.record_failure("they arrive faster than they are read", times=count)
            lost = plural(self._input.counts.dropped, "datagram was", "datagrams were")
            self._report.health.fail("datagrams", f"{lost} lost: they arrive faster than they are read")
        elif now_s >= self._dropped_s + RECOVERED_SECONDS:
            self._lost.record_success()
            self._report.health.recover("datagrams")


@asynccontextmanager
async def listen_udp(
    address: Address,
    input: ForeignInput,
    allowed: Sequence[Network],
    report: LineReport,
    *,
    group: str = "",
    interface: str = "",
) -> AsyncIterator[Receiver]:
    """Listen for datagrams. Raises SourceUnavailable."""
    try:
        receiver = open_socket(address, group, interface)
    except OSError as error:
        raise SourceUnavailable(network_reason(error)) from None
    with receiver:
        yield UdpReceiver(receiver, input, allowed, report)


def open_socket(address: Address, group: str = "", interface: str = "") -> socket.socket:
    """Return a socket that receives the datagrams of an address, or of a group. Raises OSError."""
    joined = parse_group(group) if group else None
    if joined is not None:
        family = socket.AF_INET if joined.version == 4 else socket.AF_INET6
    elif address.host:
        family = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_DGRAM)[0][0]
    else:
        family = socket.AF_INET6 if socket.has_dualstack_ipv6() else socket.AF_INET
    with ExitStack() as on_failure:
        receiver = on_failure.enter_context(socket.socket(family, socket.SOCK_DGRAM))
        receiver.setblocking(False)
        receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
        if family == socket.AF_INET6 and not address.host:
            receiver.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        if joined is not None:
            # Several programs of one computer can read a group.
            receiver.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        receiver.bind((address.host, address.port))
        if isinstance(joined, IPv4Address):
            membership = joined.packed + (ip_address(interface).packed if interface else bytes(4))
            receiver.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, membership)
        elif joined is not None:
            index = socket.if_nametoindex(interface) if interface else 0
            receiver.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, joined.packed + struct.pack("@I", index))
        on_failure.pop_all()
    return receiver


def parse_group(text: str) -> IPv4Address | IPv6Address:
    """Return the address of a multicast group. Raises ValueError."""
    try:
        group = ip_address(text)
    except ValueError:
        group = None
    if group is None or not group.is_multicast:
        raise ValueError(f"{text!r} is not a multicast group: write an address such as 239.1.2.3")
    return group
