"""Tests of the server's routing: which requests reach an endpoint, and what the others get."""

from __future__ import annotations

import logging

import msgspec
import pytest
import structlog
from starlette.types import Receive, Scope, Send
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from hub.http.refusals import RefusalCause, RequestRefusals, RequestRefused
from hub.http.server import Router, Server, listen
from tests.hub.http.raw_http import calling, quiet, serving
from tests.tasks import running_task


async def plain(_: Scope, receive: Receive, send: Send) -> None:
    """Answer every request."""
    await receive()
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body", "body": b""})


async def test_a_websocket_reaches_its_endpoint_only() -> None:
    """At another path the answer is a 404 problem that names the endpoints."""
    async with serving(plain) as port:
        async with connect(f"ws://127.0.0.1:{port}/quiet", proxy=None):
            pass
        with pytest.raises(InvalidStatus) as raised:
            await connect(f"ws://127.0.0.1:{port}/", proxy=None)
        assert raised.value.response.status_code == 404
        assert "/quiet" in msgspec.json.decode(raised.value.response.body or b"")["detail"]


async def test_a_request_reaches_the_application_only() -> None:
    """At the path of an endpoint, the answer says that it is a WebSocket."""
    async with serving(plain) as port, calling(port) as client:
        for path, status in (("/", 204), ("/quiet/", 204), ("/quiet", 426)):
            client.writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            assert (await client.answer()).status == status


async def test_a_refused_upgrade_is_answered_with_a_problem_and_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    """The log has one line at level info for each reason, and none of uvicorn's errors."""

    def check(scope: Scope) -> None:
        if dict(scope["headers"]).get(b"x-for") == b"evil":
            raise RequestRefused(RefusalCause.HOST_NOT_ALLOWED, "this hub is not known as evil", "add it")

    refusals = RequestRefusals()
    listener = listen("127.0.0.1", 0)
    server = Server(Router({"/quiet": quiet}, plain, check=check, refusals=refusals), listener)
    port = listener.getsockname()[1]
    with structlog.testing.capture_logs() as lines:
        async with running_task(server.run()):
            for path, host, status, detail in (
                ("/other", "localhost", 404, "the WebSocket endpoints are /quiet"),
                ("/quiet", "evil", 403, "this hub is not known as evil; add it"),
                ("/quiet", "evil", 403, "this hub is not known as evil; add it"),
            ):
                with pytest.raises(InvalidStatus) as refused:
                    await connect(f"ws://127.0.0.1:{port}{path}", additional_headers={"X-For": host}, proxy=None)
                response = refused.value.response
                assert response.status_code == status
                assert response.headers["Content-Type"] == "application/problem+json"
                assert response.body is not None
                assert msgspec.json.decode(response.body)["detail"].startswith(detail)
    assert [(line["reason"], line["path"], line["peer"], line["log_level"]) for line in lines] == [
        ("unknown_path", "/other", "127.0.0.1", "info"),
        ("host_not_allowed", "/quiet", "127.0.0.1", "info"),
    ]
    assert refusals.counts == {RefusalCause.UNKNOWN_PATH: 1, RefusalCause.HOST_NOT_ALLOWED: 2}
    # asyncio's debug mode warns of slow steps on a loaded machine.
    errors = [record for record in caplog.records if record.levelno >= logging.WARNING and record.name != "asyncio"]
    assert errors == []
