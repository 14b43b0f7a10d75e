"""Why a broker cannot be reached, in a sentence that says what to look at. Pure."""

from __future__ import annotations

import os
import socket
import ssl


def broker_at(host: str, port: int) -> str:
    """What people call it by."""
    return f"the broker at {host}:{port}"


def in_words(error: Exception, host: str, port: int, *, tls: bool) -> str:
    """An error of a connection that was not made, or broke."""
    name = broker_at(host, port)
    match error:
        case ssl.SSLCertVerificationError():
            return (
                f"{name}: its certificate is not trusted ({error.verify_message}); name the authority's file in tls_ca"
            )
        case ssl.SSLError() | ConnectionResetError() if tls:
            reason = getattr(error, "reason", None) or error.strerror or error
            return f"{name}: TLS failed ({reason}); is it the port for TLS, and does it ask for a certificate?"
        case FileNotFoundError() if error.filename:
            return f"{error.filename}: there is no such file"
        case ConnectionRefusedError():
            return f"{name} refuses connections: is it running, and is the port right?"
        case socket.gaierror():
            return f"{host}: there is no such host"
        case TimeoutError():
            return f"{name} does not answer: is a firewall in the way?"
        case OSError() if error.errno:
            return f"{name} cannot be reached: {os.strerror(error.errno)}"
    return f"{name} cannot be reached: {error}"
