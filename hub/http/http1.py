"""HTTP/1.1 on uvicorn, with a bounded time to receive a request's head.

The names of uvicorn's class and its methods are those of uvicorn 0.54, which does not promise them: pyproject.toml pins
that version, and tests/hub/http/test_http1.py fails if one of them changes. A setting for the time to receive a
request's head would replace this module.
"""

from __future__ import annotations

import asyncio
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol


class TimedHttp(H11Protocol):
    """uvicorn's HTTP, with a bounded time to receive a request's head."""

    def __init__(self, *arguments: Any, patience_s: float, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._patience_s = patience_s
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start to wait for the first head."""
        super().connection_made(transport)
        self._update_timer()

    def data_received(self, data: bytes) -> None:
        """Process a part of a request. Then the connection waits for the rest of a head, or for something else."""
        super().data_received(data)
        self._update_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting."""
        self._cancel_timer()
        super().connection_lost(exc)

    def _update_timer(self) -> None:
        if self.conn.their_state is not h11.IDLE:
            self._cancel_timer()
        elif self._timer is None:
            self._timer = self.loop.call_later(self._patience_s, self.transport.abort)

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
