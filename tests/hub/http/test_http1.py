"""Tests of HTTP on uvicorn: uvicorn has the internals that the module uses."""

from __future__ import annotations

import asyncio

from uvicorn.config import Config
from uvicorn.server import ServerState

from hub.http.http1 import TimedHttp

INTERNALS = ("conn", "connection_lost", "connection_made", "data_received", "loop", "transport")


def test_uvicorn_has_the_internals_that_the_module_uses() -> None:
    """A version of uvicorn that renames one of them fails here, and not under load."""

    async def connect() -> set[str]:
        config = Config(app=lambda: None)
        config.load()
        http = TimedHttp(config, ServerState(), {}, patience_s=1)
        return {name for name in INTERNALS if not hasattr(http, name)}

    assert asyncio.run(connect()) == set()
