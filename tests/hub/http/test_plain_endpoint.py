"""The endpoint of plain clients on real sockets: one answer for each frame, in order, when it is durable."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from structlog.testing import capture_logs
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import InvalidStatus
from websockets.typing import Subprotocol

from hub.app.services import HubServices
from hub.http import plain_endpoint as module
from hub.model.identity import Role
from tests.conditions import until
from tests.hub.http.opened_hub import connected, listening, new_token, opened_hub, read_to_end
from wire import device as messages
from wire import limits
from wire.codec import AGENT_MESSAGES
from wire.model import Metric
from wire.plain import SUBPROTOCOL

FRAMES = 150
"""Frames whose answers do not fit into the buffers of both systems."""


@asynccontextmanager
async def running(path: Path, **options: Any) -> AsyncIterator[tuple[HubServices, str, str]]:
    """Run a hub; return it with the endpoint's URL and the token of the device pump."""
    async with opened_hub(path) as services, listening(services, **options) as url:
        yield services, f"{url}/v1/plain", await new_token(services, Role.DEVICE, "pump")


async def ask(connection: ClientConnection, frame: str | bytes) -> Any:
    """Send a frame, and return its answer."""
    await connection.send(frame)
    return json.loads(await connection.recv())


async def test_each_frame_has_an_answer_in_order(tmp_path: Path) -> None:
    """Text and binary frames, single readings and lists, valid ones and others."""
    async with running(tmp_path) as (services, url, token), connected(url, token=token) as client:
        frames: list[str | bytes] = [
            '{"temperature": 21.5}', b'{"air": {"humidity": 40}}', '[{"n": 1}, {"n": 2}]', "{}", '{"n": "x", "m": 1}',
            '{"n": ', '{"n": "y"}', '{"n": 3}', '{"n": 1e999}',
        ]  # fmt: skip
        for frame in frames:
            await client.send(frame)
        answers = [json.loads(await client.recv()) for _ in frames]
        assert [answer.get("ok", answer.get("error")) for answer in answers] == [
            1,
            1,
            2,
            0,
            1,
            "syntax",
            "type",
            1,
            "number",
        ]
        [refused] = answers[4]["refused"]
        assert (refused["metric"], refused["value"], refused["device"]) == ("n", "x", "pump")
        assert "quarantine" in answers[6]["message"]
        assert "add no_value=y to the URL, or run `hub metric retype pump n string` and add " in answers[6]["message"]
        device = services.devices.device("pump")
        assert (device.durable.readings, device.durable.quarantined_readings) == (6, 3)


async def test_the_answers_wait_for_the_disk(tmp_path: Path) -> None:
    """Frames of one read share a commit, and none is answered before it."""
    async with running(tmp_path) as (services, url, token), connected(url, token=token) as client:
        assert await ask(client, '{"n": 0}') == {"ok": 1}
        before = services.journal.last_offset
        for number in range(100):
            await client.send(json.dumps({"n": number}))
        for _ in range(100):
            assert json.loads(await client.recv()) == {"ok": 1}
        assert services.devices.device("pump").durable.readings == 101
        assert services.journal.last_offset < before + 60


async def test_a_csv_frame_without_a_line_end_is_refused(tmp_path: Path) -> None:
    """Frames do not continue each other: a header alone has no value, and a line alone has no names."""
    async with running(tmp_path) as (_, url, token), connected(f"{url}?format=csv", token=token) as client:
        for frame in ("a,b", "1,2"):
            answer = await ask(client, frame)
            assert (answer["error"], "send a header line and lines of values" in answer["message"]) == ("syntax", True)
        assert await ask(client, "a,b\n1,2") == {"ok": 2}
    async with running(tmp_path) as (_, url, token), connected(f"{url}?format=csv&header=false", token=token) as client:
        assert await ask(client, "1,2") == {"ok": 2}


async def test_a_token_has_four_places(tmp_path: Path) -> None:
    """In the Authorization header, as a subprotocol in either form of the header, or in the first frame."""
    async with running(tmp_path) as (services, url, token):
        offered = {"subprotocols": [Subprotocol(SUBPROTOCOL), Subprotocol(f"token.{token}")]}
        two = {"subprotocols": [Subprotocol(SUBPROTOCOL)], "headers": {"Sec-WebSocket-Protocol": f"token.{token}"}}
        heads: list[dict[str, Any]] = [{"token": token}, offered, two]
        for head in heads:
            async with connected(url, **head) as client:
                assert client.subprotocol == (SUBPROTOCOL if "subprotocols" in head else None)
                assert await ask(client, '{"n": 1}') == {"ok": 1}
        for frame, readings in (({"token": token}, 0), ({"token": token, "n": 1, "m": 2}, 2)):
            async with connected(url) as client:
                assert await ask(client, json.dumps(frame)) == {"ok": readings}
                assert await ask(client, '{"n": 1}') == {"ok": 1}
                assert services.devices.device("pump").state().connected


async def test_the_first_frame_is_read_like_the_others(tmp_path: Path) -> None:
    """Beside the token, too, a name that occurs again and a number that is too large cost themselves."""
    async with running(tmp_path) as (services, url, token):
        for fields, code in (('"d": 1, "d": 2', "ambiguous"), ('"d": 1, "y": 1e999', "number")):
            async with connected(url) as client:
                first = await ask(client, f'{{"token": "{token}", {fields}}}')
                assert (first["ok"], [each["code"] for each in first["refused"]]) == (1, [code])
                assert first == await ask(client, f"{{{fields}}}")
        assert services.devices.device("pump").durable.readings == 4


async def test_a_token_is_never_stored(tmp_path: Path) -> None:
    """A client may send it in each frame. It is no reading, and the quarantine does not have it, either."""
    async with running(tmp_path) as (services, url, token), connected(url, token=token) as client:
        assert await ask(client, '{"n": 1}') == {"ok": 1}
        assert await ask(client, json.dumps({"token": token, "n": 2})) == {"ok": 1}
        assert await ask(client, json.dumps([{"token": token, "n": 3}] * 100)) == {"ok": 100}
        assert (await ask(client, json.dumps({"token": token, "n": "warm"})))["error"] == "type"
        assert set(services.devices.device("pump").metrics) == {"n"}
        for device in ("format=csv", "format=pairs"):
            async with connected(f"{url}?{device}", token=token) as other:
                frame = f"token,n\n{token},4" if "csv" in device else f"token={token} n=4"
                assert await ask(other, frame) == {"ok": 1}
        async with connected(url.replace("plain", "line"), token=token) as other:
            assert await ask(other, f'm token="{token}",n=5') == {"ok": 1}
        assert set(services.devices.device("pump").metrics) == {"n", "m.n"}
    secret = token.encode()
    assert all(secret not in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())


async def test_the_device_of_a_gateway_has_three_places(tmp_path: Path) -> None:
    """A parameter, the first frame, or a field of each frame; the device is connected until the connection ends."""
    async with running(tmp_path) as (services, url, _):
        token = await new_token(services, Role.GATEWAY, "p*")
        for place in ("query", "frame", "field"):
            name = f"p-{place}"
            device = services.devices.device(name)
            async with connected(f"{url}?device={name}" if place == "query" else url, token=token) as client:
                if place == "frame":
                    assert await ask(client, json.dumps({"device": name})) == {"ok": 0}
                fields = {"device": name} if place == "field" else {}
                for number in range(2):
                    assert await ask(client, json.dumps({**fields, "n": number})) == {"ok": 1}
                assert (device.durable.readings, device.state().connected, device.agent) == (2, True, "plain")
            await until(lambda device=device: device.session is None)  # type: ignore[misc]
            events = [event.kind for event in await services.registry.events(name)]
            assert events == ["disconnected", "connected"]


async def test_a_device_in_the_first_frame_with_values_is_a_field(tmp_path: Path) -> None:
    """It applies to this frame only: the next one names another device, or is refused. A field wins over a default."""
    async with running(tmp_path) as (services, url, _):
        token = await new_token(services, Role.GATEWAY, "p*")
        async with connected(url) as client:
            assert await ask(client, json.dumps({"token": token, "device": "p1", "n": 1})) == {"ok": 1}
            assert await ask(client, '{"device": "p2", "n": 2}') == {"ok": 1}
            assert (await ask(client, '{"n": 3}'))["error"] == "device"
        async with connected(url) as client:
            assert await ask(client, json.dumps({"token": token, "device": "p3"})) == {"ok": 0}
            assert await ask(client, '[{"device": "p2", "n": 1}, {"n": 2}]') == {"ok": 2}
        assert {id: services.devices.device(id).durable.readings for id in ("p1", "p2", "p3")} == {
            "p1": 1, "p2": 2, "p3": 1
        }  # fmt: skip


async def test_a_device_that_the_token_may_not_write_is_refused_by_frame(tmp_path: Path) -> None:
    """The connection stays open. The answer is final and has what is in quarantine, as that for a list with others."""
    async with running(tmp_path) as (services, url, token), connected(url, token=token) as client:
        answer = await ask(client, '{"device": "other", "n": 1}')
        assert (answer["error"], "may not write as 'other'" in answer["message"]) == ("not_allowed", True)
        assert [refused["code"] for refused in answer["refused"]] == ["device"]
        assert [entry.device for entry in services.journal.quarantine.index.values()] == ["pump"]
        assert await ask(client, '{"n": 1}') == {"ok": 1}
        assert services.devices.get("other") is None


async def test_a_first_frame_without_a_valid_token_ends_the_connection(tmp_path: Path) -> None:
    """With the reason and the remedy; what follows is not stored."""
    async with running(tmp_path) as (services, url, _):
        viewer = json.dumps({"token": await new_token(services, Role.VIEWER)})
        cases = [
            *((first, "not_authenticated", 4401) for first in ('{"n": 1}', '{"token": "x"}', '{"token": 7}', "n=7")),
            (viewer, "not_allowed", 4403),
        ]
        for first, error, close in cases:
            async with connected(url) as client:
                await client.send(first)
                await client.send('{"n": 1}')
                frames, code = await read_to_end(client)
                [answer] = map(msgspec.json.decode, frames)
                assert (answer["error"], code) == (error, close), first
        assert services.journal.last_offset == 0
        await until(lambda: len(services.connections) == 0)


async def test_no_token_in_time_ends_the_connection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One in the header needs no frame: the connection stays."""
    monkeypatch.setattr(limits, "AUTHENTICATION_SECONDS", 0.2)
    async with running(tmp_path) as (services, url, token), connected(url, token=token) as stays:
        async with connected(url) as silent:
            frames, code = await read_to_end(silent)
            assert (json.loads(frames[0])["error"], code) == ("not_authenticated", 4401)
        assert await ask(stays, '{"n": 1}') == {"ok": 1}
        assert len(services.connections) == 1


async def test_a_handshake_that_cannot_work_is_refused(tmp_path: Path) -> None:
    """With a problem document that says why."""
    async with running(tmp_path) as (services, url, valid):
        cases = [
            ("", ["other"], valid, 400, "subprotocol spoken here: telemetry.plain"),
            ("", ["token.x"], None, 400, "subprotocol spoken here: telemetry.plain"),
            ("?fromat=csv", None, valid, 400, "was format meant?"),
            ("?format=cvs", None, valid, 400, "Invalid enum value"),
            ("?format=function", None, valid, 400, "use another one here"),
            ("?token=secret", None, valid, 400, "never belongs into a URL"),
            ("?zone=Nowhere", None, valid, 400, "time zone"),
            ("?types=n", None, valid, 400, "write types=NAME"),
            ("", None, "wrong", 401, "the token is not valid"),
            ("", None, await new_token(services, Role.VIEWER), 403, "may not write"),
        ]
        for query, subprotocols, token, status, text in cases:
            offered = None if subprotocols is None else [Subprotocol(name) for name in subprotocols]
            with pytest.raises(InvalidStatus) as error:
                async with connected(url + query, token=token, subprotocols=offered):
                    pass
            assert error.value.response.status_code == status
            assert text in json.loads(error.value.response.body)["detail"]
        assert len(services.connections) == 0


async def test_rules_are_parameters(tmp_path: Path) -> None:
    """Under the names of their settings; pairs as NAME=VALUE, lists by repetition."""
    async with running(tmp_path) as (services, url, token):
        query = "?format=csv&delimiter=;&decimal=,&units=t%3D%C2%B0C&types=n%3Dinteger&time=at&columns=t=heat&columns=n"
        async with connected(url + query, token=token) as client:
            assert await ask(client, "at;t;n;x\n2024-01-01T00:00:00Z;1,5;2;9\n") == {"ok": 2}
        series = services.registry.devices["pump"].series
        assert {name: found.type for name, found in series.items()} == {"heat": "float", "n": "integer"}
        async with connected(f"{url}?format=auto", token=token) as client:
            assert await ask(client, "heat=3 n=4") == {"ok": 2}
        async with connected(f"{url}?format=line&time_format=s", token=token) as client:
            answer = await ask(client, "a b=1 1700000000\nc d=2 1700000000\nbroken\n")
            assert (answer["ok"], answer["refused"][0]["line"]) == (2, 3)


async def test_a_connection_without_answers(tmp_path: Path) -> None:
    """Nothing is sent to it. A frame that cannot be stored for now ends it, which is the only sign it can get."""
    async with running(tmp_path) as (services, url, token), connected(f"{url}?ack=none", token=token) as client:
        device = services.devices.device("pump")
        await client.send('{"n": 1}')
        await client.send("nonsense")
        await until(lambda: device.durable.readings == 1 and device.durable.quarantined == 1)
        gateway = await new_token(services, Role.GATEWAY)
        hello = messages.Hello("pump", "0" * 16, 1, True, 0, metrics=[Metric("n")], agent="own")
        async with connected(url.replace("plain", "device"), token=gateway) as agent:
            await agent.send(AGENT_MESSAGES["json"].encode(hello), text=True)
            await agent.recv()
            await client.send('{"n": 2}')
            assert await read_to_end(client) == ([], 1013)


async def test_the_own_agent_of_a_device_refuses_frames(tmp_path: Path) -> None:
    """With `busy` while it is connected; afterwards they are stored, and the device is present again."""
    async with running(tmp_path) as (services, url, token), connected(url, token=token) as client:
        assert await ask(client, '{"n": 1}') == {"ok": 1}
        gateway = await new_token(services, Role.GATEWAY)
        hello = messages.Hello("pump", "0" * 16, 1, True, 0, metrics=[Metric("n")], agent="own")
        async with connected(url.replace("plain", "device"), token=gateway) as agent:
            await agent.send(AGENT_MESSAGES["json"].encode(hello), text=True)
            await agent.recv()
            answer = await ask(client, '{"n": 2}')
            assert answer["error"] == "busy"
            assert "pump is connected already, through own: these readings are not stored" in answer["message"]
        device = services.devices.device("pump")
        await until(lambda: device.session is None)
        assert await ask(client, '{"n": 3}') == {"ok": 1}
        assert device.state().connected


async def test_a_stop_of_the_hub_answers_what_it_has_received(tmp_path: Path) -> None:
    """Then it says why the connection ends, with 1012."""
    async with running(tmp_path) as (services, url, token), connected(url, token=token) as client:
        assert await ask(client, '{"n": 0}') == {"ok": 1}
        for number in range(50):
            await client.send(json.dumps({"n": number}))
        device = services.devices.device("pump")
        await until(lambda: device.readings > 1)
        services.connections.close()
        frames, code = await read_to_end(client)
        *answers, last = map(msgspec.json.decode, frames)
        assert (last["error"], code) == ("shutting_down", 1012)
        assert {"ok": 1} in answers
        assert sum(answer["ok"] for answer in answers) == device.durable.readings - 1


async def test_a_revoked_token_ends_its_connection(tmp_path: Path) -> None:
    """As every connection of it."""
    async with running(tmp_path) as (services, url, token), connected(url, token=token) as client:
        assert await ask(client, '{"n": 0}') == {"ok": 1}
        services.connections.revoke(set(services.connections.token_ids()))
        frames, code = await read_to_end(client)
        assert (json.loads(frames[-1])["error"], code) == ("revoked", 4401)


async def test_a_text_that_is_not_utf_8_fails_the_connection(tmp_path: Path) -> None:
    """As RFC 6455 requires. A binary frame may have any bytes."""
    async with running(tmp_path) as (_, url, token), connected(url, token=token) as client:
        answer = await ask(client, b"\xff")
        assert answer["error"] == "syntax"
        await client.send(b'{"n": "\xff"}', text=True)
        assert await read_to_end(client) == ([], 1007)


async def test_a_client_that_reads_no_answers_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its answers are bounded, other clients are served, and its frames are stored when it reads again."""
    monkeypatch.setattr(module, "MAX_UNANSWERED", 8)
    async with (
        running(tmp_path, send_buffer=4096) as (services, url, token),
        connected(url, token=token, receive_buffer=4096) as client,
    ):
        assert await ask(client, '{"n": 0}') == {"ok": 1}
        client.transport.pause_reading()
        device = services.devices.device("pump")
        # Long answers fill the buffers.
        frame = json.dumps([{"n": "x" * 100} for _ in range(90)])
        sending = asyncio.create_task(_send(client, frame, FRAMES))
        await until(lambda: device.durable.quarantined > 8)
        other_token = await new_token(services, Role.DEVICE, "boiler")
        async with connected(url, token=other_token) as other:
            # Commits of other clients: without the bound, each stores more frames of the first one.
            for number in range(40):
                assert await ask(other, json.dumps({"n": number})) == {"ok": 1}
        assert device.durable.quarantined < FRAMES
        client.transport.resume_reading()
        for _ in range(FRAMES):
            assert json.loads(await client.recv())["error"] == "type"
        await sending
        assert device.durable.quarantined == FRAMES


async def _send(client: ClientConnection, frame: str, count: int) -> None:
    for _ in range(count):
        await client.send(frame)


@pytest.mark.parametrize(
    ("name", "event"),
    [("_settings_in", "plain connection failed"), ("answer_to", "answer of a plain connection failed")],
)
async def test_a_defect_ends_its_connection_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, event: str
) -> None:
    """The hub logs it, and the next connection of the device is served."""

    def fail(*_: object) -> None:
        raise RuntimeError("a defect")

    async with running(tmp_path) as (services, url, token):
        with monkeypatch.context() as patch, capture_logs() as logs:
            patch.setattr(module, name, fail)
            async with connected(url, token=token) as client:
                await client.send("{}")
                assert await read_to_end(client) == ([], 1006)
            await until(lambda: len(services.connections) == 0)
        assert [line["event"] for line in logs if line["log_level"] == "error"] == [event]
        async with connected(url, token=token) as client:
            assert await ask(client, '{"n": 1}') == {"ok": 1}
