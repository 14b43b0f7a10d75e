"""Addresses, networks and errors of the network."""

from __future__ import annotations

import errno
import socket

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from device_agent.sources.network import (
    Address,
    is_allowed,
    keep_alive,
    network_reason,
    parse_address,
    parse_networks,
    plain_host,
)


@pytest.mark.parametrize(
    ("text", "default_port", "is_own", "expected"),
    [
        ("gps.local:10110", None, False, ("gps.local", 10110)),
        (" 10.0.0.7:23 ", None, False, ("10.0.0.7", 23)),
        ("[fe80::1]:23", None, False, ("fe80::1", 23)),
        ("[::1]", 2947, False, ("::1", 2947)),
        ("gps", 2947, False, ("gps", 2947)),
        ("gps:1", 2947, False, ("gps", 1)),
        ("10110", None, True, ("", 10110)),
        (":10110", None, True, ("", 10110)),
        ("127.0.0.1:10110", None, True, ("127.0.0.1", 10110)),
    ],
)
def test_an_address_is_a_host_and_a_port(
    text: str, default_port: int | None, is_own: bool, expected: tuple[str, int]
) -> None:
    """An IPv6 address is in brackets; an own address can be a port, and another one a host if a port is usual."""
    assert parse_address(text, default_port=default_port, is_own=is_own) == expected


@pytest.mark.parametrize(
    "text", ["", "gps", "gps:", "gps:0", "gps:65536", "gps:-1", "gps:٣", "::1:80", "[gps]:1", "a b:1"]
)
def test_anything_else_is_no_address(text: str) -> None:
    """The error shows a valid one."""
    with pytest.raises(ValueError, match=r"is not an address: write HOST:PORT, for example gps:10110"):
        parse_address(text)


@given(st.text("ab1:[]/. ") | st.text(), st.booleans(), st.sampled_from([None, 2947]))
@settings(max_examples=50)
def test_any_text_is_an_address_or_an_error(text: str, is_own: bool, default_port: int | None) -> None:
    """An accepted one is read again from its own form."""
    try:
        address = parse_address(text, is_own=is_own, default_port=default_port)
    except ValueError:
        return
    assert parse_address(str(address), is_own=is_own) == address
    assert 0 < address.port < 65_536


def test_networks_are_networks_or_addresses() -> None:
    """An IPv4 address that arrives in the form of IPv6 is the same address."""
    networks = parse_networks(["192.168.1.7/24", "10.0.0.1", "fe80::/10"])
    allowed = ["192.168.1.9", "10.0.0.1", "::ffff:10.0.0.1", "fe80::1%eth0"]
    assert [host for host in [*allowed, "10.0.0.2", "192.168.2.1", "::1"] if is_allowed(host, networks)] == allowed
    assert (plain_host("::ffff:10.0.0.1"), plain_host("fe80::1%3")) == ("10.0.0.1", "fe80::1")
    with pytest.raises(ValueError, match="'kitchen' is not a network"):
        parse_networks(["kitchen"])


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (
            ConnectionRefusedError(errno.ECONNREFUSED, "x"),
            "nothing listens there; is the device or the program running?",
        ),
        (TimeoutError(), "the peer does not answer"),
        (socket.gaierror(-2, "Name or service not known"), "the name of the host is unknown"),
        (OSError(errno.ENOTCONN, "Connect call failed ('10.0.0.1', 1)"), "Transport endpoint is not connected"),
        (OSError("Multiple exceptions: …"), "Multiple exceptions: …"),
    ],
)
def test_errors_have_a_reason_for_people(error: OSError, reason: str) -> None:
    """And a remedy where one is known."""
    assert network_reason(error).startswith(reason)


def test_the_system_looks_for_peers_that_disappeared() -> None:
    """After half a minute, not after two hours."""
    with socket.socket() as connection:
        keep_alive(connection)
        assert connection.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 30
    assert str(Address("::1", 1)) == "[::1]:1"
