"""The request of an agent for access: each answer has one next step, and the token is stored for its user alone."""

from __future__ import annotations

import asyncio
import stat
from pathlib import Path

import pytest

from agent_client.access_request import AccessState, NotAsked, PendingAccess, ask_access, can_save, save_token
from agent_client.endpoint import Endpoint, TokenFile, device_url
from device_agent.access import ASK_AGAIN_S, MAX_AGAIN_S, AccessRequester, Received, Stop, Wait, next_step
from tests.conditions import until

ASKED = PendingAccess("WDJB-MJHT", "s", "http://hub/access", 600, 3)


@pytest.mark.parametrize(
    ("answer", "step"),
    [
        (ASKED, Wait(3, is_new=False)),
        (PendingAccess("c", "s", "p", 600, 1e9), Wait(60, is_new=False)),
        (PendingAccess("c", "s", "p", 600, 0), Wait(ASK_AGAIN_S, is_new=False)),
        (AccessState("waiting", 3), Wait(7, is_new=False)),
        (AccessState("slow_down", 12), Wait(12, is_new=False)),
        (AccessState("approved", 3, "hub_device_a_b"), Received("hub_device_a_b")),
        (AccessState("approved", 3, "two\nlines"), Wait(ASK_AGAIN_S, is_new=True)),
        (AccessState("approved", 3), Wait(ASK_AGAIN_S, is_new=True)),
        (AccessState("expired", 3), Wait(ASK_AGAIN_S, is_new=True)),
        (NotAsked("busy", retry_s=30), Wait(30, is_new=False)),
        (NotAsked("busy", retry_s=1e9), Wait(MAX_AGAIN_S, is_new=False)),
        (NotAsked("no answer"), Wait(7, is_new=False)),
        (NotAsked("older", is_final=True), Stop("older")),
    ],
)
def test_each_answer_has_a_next_step(answer: PendingAccess | AccessState | NotAsked, step: object) -> None:
    """A hub cannot make the agent poll faster than once a second, wait for ever, or store what is no token."""
    assert next_step(answer, interval_s=7) == step


def test_a_refusal_stops() -> None:
    """Asking again is for a person to decide."""
    step = next_step(AccessState("refused"))
    assert isinstance(step, Stop)
    assert "refused" in step.reason


def test_a_token_is_stored_for_its_user_alone(tmp_path: Path) -> None:
    """The directory is created; an earlier file is replaced, with its mode. Nothing else stays."""
    path = tmp_path / "state" / "boiler.token"
    assert can_save(path)
    for token in ("first", "second"):
        save_token(path, token)
        assert path.read_text() == f"{token}\n"
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        path.chmod(0o644)
    assert list(path.parent.iterdir()) == [path]
    assert not can_save(path / "below-a-file")


async def test_a_token_that_cannot_be_stored_stays_in_use(tmp_path: Path) -> None:
    """The hub returns it once: it is used until the agent ends."""
    file = TokenFile(tmp_path / "token", may_be_missing=True)
    assert file.token is None
    requester = AccessRequester(Endpoint("ws://h/v1/device"), file, "boiler", "agent/1")
    file.path.mkdir()  # a directory is in its place
    requester._store("hub_device_a_b")
    assert file.token == "hub_device_a_b"


async def _answer_404(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
    await writer.drain()
    writer.close()


async def test_an_older_hub_is_asked_once(tmp_path: Path) -> None:
    """The notice, which the status shows, says what to do instead."""
    server = await asyncio.start_server(_answer_404, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        endpoint = Endpoint(device_url(f"http://127.0.0.1:{port}"))
        file = TokenFile(tmp_path / "token", may_be_missing=True)
        requester = AccessRequester(endpoint, file, "boiler", "agent/1")
        running = asyncio.create_task(requester.run())
        requester.need()
        await until(lambda: requester.notice != "")
        await running
        assert requester.notice.startswith("this hub is older, and takes no requests for access. Or create a token")
        proxied = await asyncio.to_thread(ask_access, endpoint._replace(proxy="http://p:1"), "boiler", "")
    assert isinstance(proxied, NotAsked)
    assert proxied.is_final
