"""A dashboard that looks on while a row is measured, so that live is not idle."""

from __future__ import annotations

import threading
from types import TracebackType

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Subprotocol

from wire import live
from wire.codec import LIVE_MESSAGES, VIEWER_MESSAGES
from wire.frames import decode_update
from wire.live_session import ViewerSession


class Dashboard:
    """Subscribes to one device's metrics with policy `latest`; `updates` counts the frames it was sent."""

    def __init__(self, host: str, port: int, token: str, device: str) -> None:
        self.updates = 0
        self.error: str | None = None
        self._session = ViewerSession()
        self._session.subscribe(live.Subscribe(1, [device], ["*"], "latest"))
        self._socket: ClientConnection = connect(
            f"ws://{host}:{port}/v1/live",
            additional_headers={"Authorization": f"Bearer {token}"},
            subprotocols=[Subprotocol(live.SUBPROTOCOL)],
            proxy=None,
        )
        self._thread = threading.Thread(target=self._look_on, name="dashboard")

    def __enter__(self) -> Dashboard:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._socket.close()
        self._thread.join()

    def _look_on(self) -> None:
        try:
            for frame in self._socket:
                if isinstance(frame, bytes):
                    self._session.receive_update(decode_update(frame))
                    self.updates += 1
                    continue
                message = LIVE_MESSAGES.decode(frame)
                self._session.receive(message)
                if isinstance(message, live.Welcome):
                    for asked in self._session.opening_messages():
                        self._socket.send(VIEWER_MESSAGES.encode(asked), text=True)
                elif isinstance(message, live.Error):
                    self.error = message.message
        except ConnectionClosed as closed:
            self.error = str(closed)
