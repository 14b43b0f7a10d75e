"""One HTTP request and its answer: ASGI's `receive` and `send`, and the time of the event loop that they take."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Generator
from functools import partial
from http import HTTPStatus
from time import thread_time
from typing import TYPE_CHECKING, Any

import h11
import structlog
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Scope

from hub.http.problem import problem_response
from hub.http.refusals import RequestRefused, peer_of
from hub.http.request import Request

if TYPE_CHECKING:
    from hub.http.http1 import HttpConnection

CLOSE = (b"connection", b"close")

log = structlog.get_logger(__name__)


class Exchange:
    """One request and its answer, as ASGI's `receive` and `send`. `refused` is why its body was not read."""

    def __init__(
        self,
        connection: HttpConnection,
        request: Request,
        scope: Scope,
        spent_s: float,
        refused: RequestRefused | None = None,
    ) -> None:
        self.request = request
        self.scope = scope
        self.client: str = peer_of(scope)
        # What its client was charged for it so far.
        self.charged_s = 0.0
        self.is_complete = False
        self.disconnected = asyncio.Event()
        self._connection = connection
        self._body: bytes | None = request.body
        self._refused = refused
        self._is_started = False
        self._work: MeteredAwaitable | None = None
        self._spent_s = spent_s

    async def run(self, application: ASGIApp) -> None:
        """Call the application. A failure is answered, if nothing was sent yet."""
        try:
            try:
                self._work = MeteredAwaitable(application(self.scope, self.receive, self.send))
                await self._work
            except Exception:
                # The edge of the request: a defect of the hub costs this answer, and no other connection.
                log.exception("request failed", path=self.scope["path"])
            if not (self._is_started or self.disconnected.is_set()):
                failed = problem_response(HTTPStatus.INTERNAL_SERVER_ERROR, "the hub failed at this request")
                await failed(self.scope, self.receive, self.send)
        finally:
            self._connection.end_exchange(self)

    @property
    def spent_s(self) -> float:
        """The time of the event loop that the request has taken."""
        return self._spent_s + (self._work.spent_s if self._work is not None else 0.0)

    async def receive(self) -> Message:
        """Return the body, then wait for the end of the connection. Raises RequestRefused for a body that was not read:
        an empty one would be mistaken for it."""
        if self._refused is not None:
            raise self._refused
        body, self._body = self._body, None
        if body is not None:
            return {"type": "http.request", "body": body, "more_body": False}
        await self.disconnected.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        """Send a part of the answer as soon as the client has read most of the earlier ones."""
        connection = self._connection
        await connection.writable.wait()
        if self.disconnected.is_set():
            return
        answer = self.request.answer
        match message["type"]:
            case "http.response.start" if not self._is_started:
                self._is_started = True
                headers = [*connection.server_state.default_headers, *message.get("headers", ())]
                if not connection.keeps_alive and CLOSE not in headers:
                    headers.append(CLOSE)
                status = message["status"]
                response = h11.Response(status_code=status, headers=headers, reason=_phrase(status))
                connection.write(answer.send(response))
            case "http.response.body" if self._is_started and not self.is_complete:
                body = message.get("body", b"")
                if body and self.request.method != "HEAD":
                    connection.write(answer.send(h11.Data(data=body)))
                if not message.get("more_body", False):
                    connection.write(answer.send(h11.EndOfMessage()))
                    self.is_complete = True
                    connection.keeps_alive = connection.keeps_alive and answer.our_state is h11.DONE
                    self.disconnected.set()
            case kind:
                raise RuntimeError(f"unexpected ASGI message {kind!r}")


class MeteredAwaitable:
    """A coroutine whose time on the event loop is measured, without the time that it waits."""

    def __init__(self, work: Awaitable[None]) -> None:
        self.spent_s = 0.0
        self._steps = work.__await__()

    def __await__(self) -> Generator[Any, Any, None]:
        """Run the coroutine."""
        resume: Callable[[], Any] = partial(next, self._steps)
        while True:
            # Of this thread only: the time in which other processes have the processor is not the client's.
            begin_s = thread_time()
            try:
                waits_for = resume()
            except StopIteration:
                return
            finally:
                self.spent_s += thread_time() - begin_s
            try:
                value = yield waits_for
            except BaseException as error:  # noqa: BLE001  # it belongs to the coroutine
                resume = partial(self._steps.throw, error)
            else:
                resume = partial(self._steps.send, value)


def serialize(response: Response, headers: list[tuple[bytes, bytes]]) -> bytes:
    """Return a complete response as bytes, with further headers. The connection is closed after it."""
    status = response.status_code
    lines = [b"HTTP/1.1 %d %s" % (status, _phrase(status))]
    lines += [b"%s: %s" % header for header in (*headers, *response.raw_headers, CLOSE)]
    return b"\r\n".join((*lines, b"", bytes(response.body)))


def _phrase(status: int) -> bytes:
    return HTTPStatus(status).phrase.encode()
