"""Hosts, addresses and origins as URLs and headers contain them: parsed and written. Pure."""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import NamedTuple

DEFAULT_PORTS = {"http": 80, "https": 443}

EVERY_ADDRESS = frozenset({"", "0.0.0.0", "::"})
"""Addresses to listen on that stand for every address of the machine."""

Address = IPv4Address | IPv6Address

_AUTHORITY = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::([0-9]{1,5}))?")


class Authority(NamedTuple):
    """Host and port as in URLs: the name in lower case, an address in its shortest form, None for the default port."""

    name: str
    port: int | None


class WebOrigin(NamedTuple):
    """The origin of a page (RFC 6454)."""

    scheme: str
    name: str
    port: int

    def __str__(self) -> str:
        """Return the origin as browsers write it and settings contain it."""
        return f"{self.scheme}://{written(self.name, None if self.port == DEFAULT_PORTS[self.scheme] else self.port)}"


def parse_authority(text: str) -> Authority | None:
    """Return the host and port of a Host header or of a URL; None if the text is neither."""
    match = _AUTHORITY.fullmatch(text)
    if match is None:
        return None
    name, port = match.groups()
    number = int(port) if port else None
    if number is not None and number > 65_535:
        return None
    if name.startswith("["):
        try:
            return Authority(str(IPv6Address(name[1:-1])), number)
        except ValueError:
            return None
    # A final dot makes a name absolute; it is the same host.
    return Authority(name.lower().removesuffix("."), number)


def parse_address(text: str) -> Address | None:
    """Return an address, an IPv4 address also where it is written as IPv6; None for anything else."""
    try:
        address = ip_address(text)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return address if mapped is None else mapped


def parse_origin(text: str) -> WebOrigin | None:
    """Return a web origin; None for anything else, including the "null" of pages without an origin."""
    scheme, separator, rest = text.partition("://")
    authority = parse_authority(rest)
    if not separator or authority is None or scheme.lower() not in DEFAULT_PORTS:
        return None
    scheme = scheme.lower()
    return WebOrigin(scheme, authority.name, DEFAULT_PORTS[scheme] if authority.port is None else authority.port)


def is_loopback(host: str) -> bool:
    """Return whether the host (a name or an address) is certainly this machine and not reachable from elsewhere."""
    if host.lower() == "localhost":
        return True
    address = parse_address(host)
    return address is not None and address.is_loopback


def host_name(host: str) -> str | None:
    """Return a configured host in the form of a Host header; None if it is not a host."""
    authority = parse_authority(f"[{host}]" if ":" in host and parse_address(host) is not None else host)
    return None if authority is None else authority.name


def written(name: str, port: int | None) -> str:
    """Return a host and a port as URLs contain them."""
    host = f"[{name}]" if ":" in name else name
    return host if port is None else f"{host}:{port}"
