"""Addresses of the peers of a source, the sentences for errors of the network, and senders that are allowed."""

from __future__ import annotations

import errno
import os
import socket
import struct
import sys
from collections.abc import Iterable
from contextlib import suppress
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import NamedTuple, TypeAlias

KEEPALIVE_SECONDS = 30
"""Silence after which the system asks whether a peer is still there: one that lost its power does not say so."""

KEEPALIVE_INTERVAL_SECONDS = 10
KEEPALIVE_COUNT = 3
"""Questions without an answer after which the system ends the connection."""

MAX_PORT = 65_535

_MEMORY_INFO, _MEMORY_INFO_BYTES = 55, 36
"""SO_MEMINFO of Linux: nine numbers of 32 bits, of which the last one is the number of dropped datagrams."""

_REASONS = {
    errno.ECONNREFUSED: "nothing listens there; is the device or the program running?",
    errno.ECONNRESET: "the peer broke the connection",
    errno.EPIPE: "the peer broke the connection",
    errno.ETIMEDOUT: "the peer does not answer",
    errno.EHOSTUNREACH: "the host is not reachable; is it on, and in this network?",
    errno.ENETUNREACH: "the network is not reachable",
    errno.EADDRINUSE: "another program uses the port; stop it, or choose another port",
    errno.EADDRNOTAVAIL: "this computer does not have the address",
    errno.EACCES: "no permission to use the port; choose one above 1023",
    errno.ENODEV: "no network interface can receive the group; name one with its address",
}
"""Causes and remedies of the usual errors, for people."""

Network: TypeAlias = IPv4Network | IPv6Network


class Address(NamedTuple):
    """Host and port; an empty host is every address of this computer."""

    host: str
    port: int

    def __str__(self) -> str:
        """Return the form that `parse_address` reads."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_address(text: str, *, default_port: int | None = None, is_own: bool = False) -> Address:
    """Return the address in HOST:PORT, with an IPv6 address in brackets. Raises ValueError.

    An address of this computer can be a port alone; any other one can be a host alone if there is a default port.
    """
    host, colon, port = text.strip().rpartition(":")
    if is_own and not colon:
        host, colon, port = "", ":", text.strip()
    elif default_port is not None and (not colon or "]" in port):
        host, port = text.strip(), str(default_port)
    is_bracketed = host.startswith("[") and host.endswith("]")
    host = host[1:-1] if is_bracketed else host
    is_port = port.isascii() and port.isdecimal() and 0 < int(port[:6]) <= MAX_PORT
    if not is_port or not (host or is_own) or any(letter in host for letter in "/[] ") or is_bracketed != (":" in host):
        form = "PORT or HOST:PORT" if is_own else "HOST:PORT"
        raise ValueError(f"{text!r} is not an address: write {form}, for example {'10110' if is_own else 'gps:10110'}")
    return Address(host, int(port))


def parse_networks(texts: Iterable[str]) -> list[Network]:
    """Return networks such as 192.168.1.0/24, or single addresses. Raises ValueError."""
    found: list[Network] = []
    for text in texts:
        try:
            found.append(ip_network(text, strict=False))
        except ValueError:
            raise ValueError(f"{text!r} is not a network: write an address, or 192.168.1.0/24") from None
    return found


def is_allowed(host: str, networks: Iterable[Network]) -> bool:
    """Return whether the address is in one of the networks."""
    address = ip_address(plain_host(host))
    return any(address in network for network in networks)


def plain_host(host: str) -> str:
    """Return an address without a zone; an IPv4 address in the form of IPv6 becomes an IPv4 address."""
    address = ip_address(host.partition("%")[0])
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return str(mapped or address)


def network_reason(error: OSError) -> str:
    """Return the cause of an error and the remedy, for people."""
    if isinstance(error, socket.gaierror):
        return "the name of the host is unknown; is it spelt correctly, and does the name server answer?"
    if isinstance(error, TimeoutError) and not error.errno:
        return _REASONS[errno.ETIMEDOUT]
    if isinstance(error, ConnectionResetError):
        return _REASONS[errno.ECONNRESET]
    if error.errno in _REASONS:
        return _REASONS[error.errno]
    # asyncio's text repeats the address; the system's text does not.
    return os.strerror(error.errno) if error.errno else str(error) or type(error).__name__


def keep_alive(connection: socket.socket) -> None:
    """Let the system end a connection whose peer has disappeared, after a minute."""
    options = (
        (socket.SOL_SOCKET, "SO_KEEPALIVE", 1),
        (socket.IPPROTO_TCP, "TCP_KEEPIDLE", KEEPALIVE_SECONDS),
        (socket.IPPROTO_TCP, "TCP_KEEPALIVE", KEEPALIVE_SECONDS),  # the name of TCP_KEEPIDLE on macOS
        (socket.IPPROTO_TCP, "TCP_KEEPINTVL", KEEPALIVE_INTERVAL_SECONDS),
        (socket.IPPROTO_TCP, "TCP_KEEPCNT", KEEPALIVE_COUNT),
    )
    for level, name, value in options:
        with suppress(AttributeError, OSError):  # an option that a system does not know stays at two hours
            connection.setsockopt(level, getattr(socket, name), value)


def dropped_datagrams(receiver: socket.socket) -> int:
    """Return how many datagrams the system has discarded because they were not read in time; 0 if it does not say."""
    if sys.platform != "linux":
        return 0
    try:
        info = receiver.getsockopt(socket.SOL_SOCKET, _MEMORY_INFO, _MEMORY_INFO_BYTES)
    except OSError:  # a kernel before 4.12
        return 0
    return int(struct.unpack("9I", info)[-1]) if len(info) == _MEMORY_INFO_BYTES else 0
