from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.hub.cli.peer import Answer, Server


@pytest.fixture
def serve() -> Iterator[Callable[[Answer], Server]]:
    servers: list[Server] = []

    def start(answer: Answer) -> Server:
        servers.append(Server(answer))
        return servers[-1]

    yield start
    for server in servers:
        server.close()
