from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.hub.cli.peer import Answer, PeerServer


@pytest.fixture
def serve() -> Iterator[Callable[[Answer], PeerServer]]:
    servers: list[PeerServer] = []

    def start(answer: Answer) -> PeerServer:
        servers.append(PeerServer(answer))
        return servers[-1]

    yield start
    for server in servers:
        server.close()
