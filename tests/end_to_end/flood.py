"""A program that floods a server: HOST PORT CONNECTIONS PREFIX REPEATED, the last two in hexadecimal.

It has no import of the project, so that it starts quickly.
"""

from __future__ import annotations

import selectors
import socket
import sys
from dataclasses import dataclass

PIECE_BYTES = 1 << 18


@dataclass
class Flood:
    """One connection: what is left of the prefix, or of a piece of what is repeated."""

    connection: socket.socket
    rest: memoryview


def main() -> None:
    """Flood until killed."""
    address = sys.argv[1], int(sys.argv[2])
    prefix, repeated = bytes.fromhex(sys.argv[4]), bytes.fromhex(sys.argv[5])
    piece = memoryview(repeated * max(1, PIECE_BYTES // max(1, len(repeated))))
    with selectors.DefaultSelector() as selector:

        def connect() -> None:
            connection = socket.create_connection(address)
            connection.setblocking(False)
            events = selectors.EVENT_READ | selectors.EVENT_WRITE
            selector.register(connection, events, Flood(connection, memoryview(prefix)))

        for _ in range(int(sys.argv[3])):
            connect()
        print("connected", flush=True)
        while True:
            for key, events in selector.select():
                flood: Flood = key.data
                try:
                    if events & selectors.EVENT_READ and not flood.connection.recv(PIECE_BYTES):
                        raise ConnectionResetError
                    if events & selectors.EVENT_WRITE:
                        flood.rest = flood.rest[flood.connection.send(flood.rest) :] or piece
                except BlockingIOError:
                    pass
                except OSError:
                    selector.unregister(flood.connection)
                    flood.connection.close()
                    connect()


if __name__ == "__main__":
    main()
