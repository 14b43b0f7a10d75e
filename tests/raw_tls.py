"""A TLS client that sends what Python's does not: updates of its key, and records of any size.

As a program, HOST PORT KIND, it floods a server with them. It has no import of the project, so that it starts quickly.
"""

from __future__ import annotations

import ctypes
import socket
import sys
from contextlib import suppress
from functools import cache

TLS_1_3 = 0x0304
SET_MINIMUM_VERSION = 123
"""SSL_CTRL_SET_MIN_PROTO_VERSION."""

PIECE_BYTES = 1 << 18

FLOOD_RECORDS = 20_000


@cache
def library() -> ctypes.CDLL:
    """Return OpenSSL, the library of the command that makes the certificates of the tests."""
    openssl = ctypes.CDLL("libssl.so.3")
    for name in ("TLS_client_method", "SSL_CTX_new", "SSL_new", "BIO_s_mem", "BIO_new"):
        getattr(openssl, name).restype = ctypes.c_void_p
    return openssl


class RawTls:
    """A connection whose handshake is complete."""

    def __init__(self, address: tuple[str, int]) -> None:
        ssl = library()
        context = ctypes.c_void_p(ssl.SSL_CTX_new(ctypes.c_void_p(ssl.TLS_client_method())))
        ssl.SSL_CTX_ctrl(context, SET_MINIMUM_VERSION, ctypes.c_long(TLS_1_3), None)
        self._ssl = ctypes.c_void_p(ssl.SSL_new(context))
        ssl.SSL_CTX_free(context)
        self._incoming, self._outgoing = (
            ctypes.c_void_p(ssl.BIO_new(ctypes.c_void_p(ssl.BIO_s_mem()))) for _ in range(2)
        )
        ssl.SSL_set_bio(self._ssl, self._incoming, self._outgoing)
        ssl.SSL_set_connect_state(self._ssl)
        self.connection = socket.create_connection(address, timeout=30)
        while ssl.SSL_do_handshake(self._ssl) != 1:
            self.connection.sendall(self._encoded())
            received = self.connection.recv(PIECE_BYTES)
            if not received:
                raise ConnectionResetError
            ssl.BIO_write(self._incoming, received, len(received))
        self.finished = self._encoded()
        """The last message of the handshake, which is not sent yet."""

    def key_updates(self, count: int) -> bytes:
        """Return records that each update the key."""
        for _ in range(count):
            library().SSL_key_update(self._ssl, 0)
            library().SSL_do_handshake(self._ssl)
        return self._encoded()

    def data(self, data: bytes) -> bytes:
        """Return a record with data."""
        library().SSL_write(self._ssl, data, len(data))
        return self._encoded()

    def close(self) -> None:
        """Close the socket and release the memory."""
        self.connection.close()
        library().SSL_free(self._ssl)

    def _encoded(self) -> bytes:
        buffer = ctypes.create_string_buffer(PIECE_BYTES)
        found = b""
        while (size := library().BIO_read(self._outgoing, buffer, PIECE_BYTES)) > 0:
            found += buffer.raw[:size]
        return found


def main() -> None:
    """Flood until killed."""
    host, port, kind = sys.argv[1:]
    print("begun", flush=True)
    while True:
        with suppress(OSError):
            client = RawTls((host, int(port)))
            if kind == "updates":
                records = client.key_updates(FLOOD_RECORDS)
            else:
                records = b"".join(client.key_updates(1) + client.data(b"x") for _ in range(FLOOD_RECORDS // 2))
            with suppress(OSError):
                client.connection.sendall(client.finished + records)
                while client.connection.recv(PIECE_BYTES):
                    pass
            client.close()


if __name__ == "__main__":
    main()
