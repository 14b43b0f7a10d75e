"""Memory of an idle device connection: open many, and see by how much the hub grew."""

from __future__ import annotations

import resource
from collections.abc import Callable

from bench.connection import Connection, Peer
from bench.frames import Frames, Shape
from bench.hub_process import HubProcess

WARM_UP = 100
"""Connections before the first look: what the hub loads and allocates once belongs to no connection."""
SHAPE = Shape(metrics=4, times=1, format="msgpack")
NO_FRAMES = Frames(b"", 1, 0)
SPARE_FILES = 256


def idle_bytes(hub: HubProcess, connections: int, progress: Callable[[float], None]) -> float:
    """Bytes of the hub's own memory per open connection of a device that declared four metrics and sent nothing."""
    peer = Peer(hub.host, hub.port, hub.token("gateway"))
    opened: list[Connection] = []
    try:
        opened.extend(Connection(f"warm-{i:05}", peer, SHAPE, NO_FRAMES) for i in range(WARM_UP))
        before = hub.memory_bytes()
        for i in range(connections):
            opened.append(Connection(f"idle-{i:05}", peer, SHAPE, NO_FRAMES))
            progress((i + 1) / connections)
        return (hub.memory_bytes() - before) / connections
    finally:
        for connection in opened:
            connection.close()


def allow_files(count: int) -> None:
    """Raises the limit of open files, also for the hub started from here. Raises ValueError when not allowed."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count + SPARE_FILES
    if hard != resource.RLIM_INFINITY and wanted > hard:
        raise ValueError(f"{wanted} open files are needed, the system allows {hard}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
