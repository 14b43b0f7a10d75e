"""What people are told of a broker that cannot be reached."""

from __future__ import annotations

import errno
import socket
import ssl

import pytest

from hub.mqtt.connection import describe_error


@pytest.mark.parametrize(
    ("error", "tls", "said"),
    [
        (ConnectionRefusedError(errno.ECONNREFUSED, "x"), False, "the broker at b:1 refuses connections: is it"),
        (TimeoutError(), False, "the broker at b:1 does not answer"),
        (socket.gaierror(socket.EAI_NONAME, "x"), False, "b: there is no such host"),
        (ConnectionResetError(errno.ECONNRESET, "x"), True, "the broker at b:1: TLS failed (x); is it the port"),
        (ConnectionResetError(errno.ECONNRESET, "x"), False, "the broker at b:1 cannot be reached: Connection reset"),
        (ssl.SSLError(1, "wrong version"), True, "the broker at b:1: TLS failed (wrong version)"),
        (OSError(errno.ENETUNREACH, "x"), False, "the broker at b:1 cannot be reached: Network is unreachable"),
        (ValueError("Invalid host."), False, "the broker at b:1 cannot be reached: Invalid host."),
    ],
)
def test_each_error_is_a_sentence(error: Exception, tls: bool, said: str) -> None:
    """With the broker's name, and what to look at where that is known."""
    assert describe_error(error, "b", 1, tls=tls).startswith(said)
