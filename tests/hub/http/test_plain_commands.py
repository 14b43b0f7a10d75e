"""Commands on /v1/plain: the frames of clients, and whole connections of a real hub."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.asyncio.client import ClientConnection

from hub.app.services import HubServices
from hub.http.plain_commands import command_content, read_declaration, read_result
from hub.model.identity import Role
from tests.conditions import result_of
from tests.hub.http.command_agent import command_agent
from tests.hub.http.opened_hub import connected, http_client, listening, new_token, opened_hub
from tests.tasks import running_task
from wire import limits
from wire.command import CommandDeclaration, CommandParameter
from wire.device import CommandState
from wire.errors import WireError
from wire.limits import MAX_COMMANDS_SENT

ID = "0123456789abcdef"
SET_SPEED = {"name": "set_speed", "parameters": [{"name": "speed", "min": 0, "max": 30}]}

# Frames.


@pytest.mark.parametrize(
    "frame",
    [
        '{"result": 21.5}', '{"result": "warm"}', '{"commands": 3}', '[{"commands": ["stop"]}]', '{"commands": ["stop"',
        '"commands"', "{}", f'{{"result": "{ID}"}}',
    ],
)  # fmt: skip
def test_a_frame_with_readings_is_none_about_commands(frame: str) -> None:
    """Names of readings that commands use, too, stay readings of a client that declares no command."""
    assert command_content(frame.encode(), is_declared=False) is None


def test_a_frame_about_commands_is_recognised() -> None:
    """After the declaration, every text `result` is one: a wrong id is an error then, and no reading."""
    assert command_content(b' {"commands": []}', is_declared=False) == {"commands": []}
    assert command_content(f'{{"result": "{ID}", "ok": true}}'.encode(), is_declared=False) is not None
    assert command_content(b'{"result": "4F"}', is_declared=True) == {"result": "4F"}
    assert command_content(b'{"result": 4}', is_declared=True) is None


@given(st.binary() | st.text().map(str.encode))
def test_any_frame_is_read_without_an_error(payload: bytes) -> None:
    """It is one about commands, or not."""
    command_content(b'{"commands"' + payload, is_declared=True)
    command_content(payload, is_declared=True)


@pytest.mark.parametrize(
    ("frame", "problem"),
    [
        ('{"commands": ["stop"], "commands": ["go"]}', 'the name "commands" is there twice'),
        ('{"commands": [{"name": "a", "name": "b"}]}', 'the name "name" is there twice'),
        ('{"commands": [{"name": "a", "parameters": [{"name": "b", "max": 1e400}]}]}', "out of range"),
    ],
)
def test_an_ambiguous_declaration_is_an_error(frame: str, problem: str) -> None:
    """No value is chosen silently, and no declaration is taken for readings."""
    found = command_content(frame.encode(), is_declared=False)
    assert isinstance(found, WireError)
    assert (found.code, problem in found.message) == ("bad_message", True)
    assert command_content(f"[{frame}]".encode(), is_declared=False) is None


@pytest.mark.parametrize("value", ["NaN", "-Infinity", "1e999", '{"speeds": [1, NaN]}', "[" * 40 + "]" * 40])
def test_a_result_counts_without_a_value_that_is_no_json(value: str) -> None:
    """The device has executed the command. Many encoders of JSON write NaN."""
    content = command_content(f'{{"result": "{ID}", "ok": true, "value": {value}}}'.encode(), is_declared=False)
    assert isinstance(content, dict)
    state = read_result(content, 1)
    assert (state.state, state.code, state.result) == ("succeeded", "result_left_out", None)
    assert state.message.startswith("the value is left out: it has ")


def test_an_ambiguous_result_is_an_error() -> None:
    found = command_content(f'{{"result": "{ID}", "ok": true, "ok": false}}'.encode(), is_declared=True)
    assert isinstance(found, WireError)
    assert 'the name "ok" is there twice' in found.message


def test_a_declaration_has_short_forms() -> None:
    """A name stands for a command without parameters, or for a parameter that is a number."""
    read = read_declaration(
        {"commands": ["stop", {"name": "set", "parameters": ["a", {"name": "b", "type": "string"}]}]}
    )
    declared = [CommandParameter("a"), CommandParameter("b", "string")]
    assert read == ([CommandDeclaration("stop"), CommandDeclaration("set", parameters=declared)], False)
    assert read_declaration({"commands": [], "repeat": True}) == ([], True)


WRONG: dict[str, dict[str, Any]] = {
    "beside commands": {"commands": [], "repeats": True},
    "repeat: expected true or false": {"commands": [], "repeat": 1},
    "at most 128": {"commands": ["stop"] * 129},
    'the same name: "stop"': {"commands": ["stop", "go", "stop"]},
    "command 2: expected a name": {"commands": ["stop", 5]},
    'command 1 "set speed": name: expected 1 to 64 of the characters A-Z a-z 0-9 _ . -': {"commands": ["set speed"]},
    "command 1: the field name is missing": {"commands": [{"description": "x"}]},
    'command 1 "a": there is no field params; its fields are name, description, confirm, parameters': {
        "commands": [{"name": "a", "params": []}]
    },
    'command 1 "a": confirm: expected true or false, got whole number': {"commands": [{"name": "a", "confirm": 1}]},
    'command 1 "a", parameter 2 "b": min: expected whole number or number or null, got text': {
        "commands": [{"name": "a", "parameters": ["x", {"name": "b", "min": "1"}]}]
    },
    'command 1 "a", parameter 1 "b": type: expected float, integer, boolean or string': {
        "commands": [{"name": "a", "parameters": [{"name": "b", "type": "number"}]}]
    },
    "above its max": {"commands": [{"name": "a", "parameters": [{"name": "b", "min": 2, "max": 1}]}]},
    "two parameters of the command a": {"commands": [{"name": "a", "parameters": ["b", "b"]}]},
    "a list of at most 32 parameters": {"commands": [{"name": "a", "parameters": "b"}]},
    'command 1 "a", parameter 1: expected a name': {"commands": [{"name": "a", "parameters": [5]}]},
}


@pytest.mark.parametrize("problem", WRONG)
def test_an_error_of_a_declaration_is_in_the_words_of_the_frame(problem: str) -> None:
    """It says where, and what is expected; nothing of the decoder's own words."""
    with pytest.raises(WireError) as raised:
        read_declaration(WRONG[problem])
    assert problem in raised.value.message
    assert raised.value.code == "bad_message"
    assert not any(word in raised.value.message for word in ("$", "`", "regex"))


RESULTS: list[tuple[dict[str, Any], tuple[Any, ...]]] = [
    ({"ok": True}, ("succeeded", "", "", None)),
    ({"ok": True, "value": {"speed": 3}, "message": "done"}, ("succeeded", "", "done", {"speed": 3})),
    ({"value": False}, ("succeeded", "", "", False)),
    ({"error": "door_open"}, ("failed", "door_open", "", None)),
    ({"error": "door_open", "message": "close it"}, ("failed", "door_open", "close it", None)),
    ({"error": "The door is open.", "message": "close it"}, ("failed", "error", "The door is open.: close it", None)),
    ({"ok": False}, ("failed", "error", "", None)),
    ({"ok": False, "error": ""}, ("failed", "error", "", None)),
    ({"error": "too fast", "rejected": True}, ("rejected", "refused", "too fast", None)),
    ({"rejected": True}, ("rejected", "refused", "", None)),
    ({"ok": True, "value": "x" * limits.MAX_COMMAND_BYTES}, ("succeeded", "result_left_out", None, None)),
]


@pytest.mark.parametrize(("fields", "expected"), RESULTS, ids=str)
def test_a_result_has_a_state_a_reason_and_a_value(fields: dict[str, Any], expected: tuple[Any, ...]) -> None:
    """A reason is a code or a sentence."""
    state, code, message, value = expected
    report = read_result({"result": ID, **fields}, 7)
    assert report == CommandState(ID, state, 7, code, report.message if message is None else message, value)


@pytest.mark.parametrize(
    "fields",
    [
        {}, {"ok": True, "error": "x"}, {"ok": True, "rejected": True}, {"ok": 1}, {"error": 1}, {"error": "x", "n": 1},
        {"message": 3, "ok": True}, {"rejected": "yes"}, {"result": "4F", "ok": True},
    ],
    ids=str,
)  # fmt: skip
def test_a_result_that_says_nothing_or_two_things_is_an_error(fields: dict[str, Any]) -> None:
    """With the fields that there are."""
    with pytest.raises(WireError) as raised:
        read_result({"result": ID, **fields}, 0)
    assert raised.value.code == "bad_message"


@given(
    st.dictionaries(
        st.sampled_from(["ok", "value", "error", "message", "rejected"]),
        st.none() | st.booleans() | st.text() | st.integers() | st.lists(st.text()),
    )
)
def test_every_result_is_a_state_that_agents_could_send_or_an_error(fields: dict[str, Any]) -> None:
    """The hub stores it within the bounds of the device protocol."""
    try:
        report = read_result({"result": ID, **fields}, 0)
    except WireError:
        return
    assert msgspec.json.decode(msgspec.json.encode(report), type=CommandState).state == report.state


# Connections.


class Operated:
    """A hub with an operator and the device pump."""

    def __init__(self, services: HubServices, url: str, token: str, client: httpx.AsyncClient) -> None:
        self.services = services
        self.url = url
        self.token = token
        self.client = client

    async def send(self, speed: float, **fields: Any) -> Any:
        body = {"name": "set_speed", "parameters": {"speed": speed}, **fields}
        return (await self.client.post("/api/v1/devices/pump/commands", json=body)).json()

    async def command(self, id: str, **query: Any) -> Any:
        return (await self.client.get(f"/api/v1/devices/pump/commands/{id}", params=query)).json()

    @asynccontextmanager
    async def device(self, query: str = "", **declaration: Any) -> AsyncIterator[ClientConnection]:
        """Connect the device, which declares its command."""
        async with connected(f"{self.url}/v1/plain{query}", token=self.token) as connection:
            assert await ask(connection, {"commands": [SET_SPEED], **declaration}) == {"ok": 1}
            yield connection


@asynccontextmanager
async def operated(path: Path) -> AsyncIterator[Operated]:
    async with opened_hub(path) as services, listening(services) as url, http_client(services) as client:
        yield Operated(services, url, await new_token(services, Role.DEVICE, "pump"), client)


async def ask(connection: ClientConnection, frame: Any) -> Any:
    """Send a frame, and return the next frame of the hub."""
    await connection.send(json.dumps(frame))
    return json.loads(await connection.recv())


async def received(connection: ClientConnection) -> Any:
    return json.loads(await connection.recv())


async def test_a_client_declares_executes_and_answers(tmp_path: Path) -> None:
    """Between its readings. The hub answers each result when it is on disk, also a repeated one."""
    async with operated(tmp_path) as hub, hub.device() as device:
        sent = await hub.send(12.5)
        assert await received(device) == {"command": "set_speed", "id": sent["id"], "parameters": {"speed": 12.5}}
        assert await ask(device, {"speed": 12.5, "result": 1}) == {"ok": 2}
        for value in ({"was": 3}, "ignored"):
            assert await ask(device, {"result": sent["id"], "ok": True, "value": value}) == {"recorded": sent["id"]}
        found = await hub.command(sent["id"])
        assert [change["state"] for change in found["states"]] == ["queued", "sent", "succeeded"]
        assert (found["states"][1]["code"], found["result"]) == ("sent_once", {"was": 3})


async def test_a_result_can_be_a_failure_or_a_rejection(tmp_path: Path) -> None:
    """With the device's own reason. A result that cannot be read is answered with an error, and changes nothing."""
    async with operated(tmp_path) as hub, hub.device() as device:
        for fields, state, code in (
            ({"error": "stuck", "message": "the valve is stuck"}, "failed", "stuck"),
            ({"error": "The valve is locked.", "rejected": True}, "rejected", "refused"),
        ):
            id = (await hub.send(1))["id"]
            await received(device)
            assert (await ask(device, {"result": id}))["error"] == "bad_message"
            assert await ask(device, {"result": id, **fields}) == {"recorded": id}
            found = await hub.command(id)
            assert (found["state"], found["states"][-1]["code"]) == (state, code)
            assert "valve" in found["states"][-1]["message"]


async def test_a_result_of_an_unknown_command_is_recorded_as_an_event(tmp_path: Path) -> None:
    """The hub answers it, so that the client does not repeat it. Before a declaration a result is an error."""
    async with operated(tmp_path) as hub:
        async with connected(f"{hub.url}/v1/plain", token=hub.token) as device:
            answer = await ask(device, {"result": ID, "ok": True})
            assert (answer["error"], "declare" in answer["message"]) == ("unexpected_message", True)
        async with hub.device() as device:
            assert await ask(device, {"result": ID, "ok": True}) == {"recorded": ID}
        events = (await hub.client.get("/api/v1/devices/pump/events")).json()["events"]
        assert any(event["kind"] == "command unknown" and ID in event["detail"] for event in events)


async def test_only_a_client_that_keeps_ids_gets_a_command_again(tmp_path: Path) -> None:
    """After a broken connection. A later command is sent to both."""
    async with operated(tmp_path) as hub:
        for repeat in (False, True):
            async with hub.device(repeat=repeat) as device:
                first = (await hub.send(1, mode="queue"))["id"]
                assert (await received(device))["id"] == first
            async with hub.device(repeat=repeat) as device:
                second = (await hub.send(2, mode="queue"))["id"]
                ids = [first, second] if repeat else [second]
                assert [(await received(device))["id"] for _ in ids] == ids
                for id in (first, second):  # a late answer of another program counts
                    assert await ask(device, {"result": id, "ok": True}) == {"recorded": id}


async def test_a_command_that_is_not_answered_ends_with_the_reason(tmp_path: Path) -> None:
    """A queued one after its time-out, and not after its time to live."""
    async with operated(tmp_path) as hub:
        async with hub.device() as device:
            id = (await hub.send(1, mode="queue", timeout_s=0.1))["id"]
            await received(device)
        async with running_task(hub.services.commands.run()):
            end = (await hub.command(id, wait_s=60))["states"][-1]
        assert (end["state"], end["code"], "once" in end["message"]) == ("timed_out", "not_confirmed", True)


async def test_a_client_that_never_answers_gets_later_commands(tmp_path: Path) -> None:
    """As soon as the time-outs are over."""
    async with operated(tmp_path) as hub, hub.device(repeat=True) as device:
        for number in range(MAX_COMMANDS_SENT + 1):
            await hub.send(number, mode="queue", timeout_s=0.1)
        for number in range(MAX_COMMANDS_SENT):
            assert (await received(device))["parameters"] == {"speed": number}
        async with running_task(hub.services.commands.run()):
            assert (await received(device))["parameters"] == {"speed": MAX_COMMANDS_SENT}


async def test_commands_need_a_connection_of_one_device(tmp_path: Path) -> None:
    """A token of one device, or the name of the device in the first frame."""
    async with operated(tmp_path) as hub:
        token = await new_token(hub.services, Role.GATEWAY, "*")
        async with connected(f"{hub.url}/v1/plain", token=token) as gateway:
            answer = await ask(gateway, {"commands": ["stop"]})
            assert (answer["error"], "first frame" in answer["message"]) == ("not_allowed", True)
        for frames in (
            [{"token": token, "device": "valve"}, {"commands": ["stop"]}],
            [{"token": token, "device": "valve", "commands": ["stop"]}],
        ):
            async with connected(f"{hub.url}/v1/plain") as client:
                answers = [await ask(client, frame) for frame in frames]
                assert answers[-1] == {"ok": 1}
        assert [d.name for d in hub.services.registry.commands.declared("valve")] == ["stop"]
        for declaration in (
            '"commands": ["go"], "commands": ["up"]',
            '"commands": [{"name": "go", "description": 1e400}]',
        ):
            async with connected(f"{hub.url}/v1/plain") as client:
                await client.send(f'{{"token": "{token}", "device": "valve", {declaration}}}')
                assert (await received(client))["error"] == "bad_message"
                assert await ask(client, {"commands": ["stop"]}) == {"ok": 1}


async def test_a_client_cannot_take_the_place_of_the_own_agent(tmp_path: Path) -> None:
    """The agent keeps its commands."""
    async with (
        operated(tmp_path) as hub,
        command_agent(hub.url, hub.token) as agent,
        connected(f"{hub.url}/v1/plain", token=hub.token) as client,
    ):
        answer = await ask(client, {"commands": ["stop"]})
        assert (answer["error"], "agent of pump" in answer["message"]) == ("busy", True)
        await hub.send(3, wait_s=10)
        assert [command.name for command in agent.commands] == ["set_speed"]


async def test_a_client_that_does_not_read_gets_no_command(tmp_path: Path) -> None:
    """The operator learns why, as long as the client is connected. A queued command waits for another connection."""
    async with operated(tmp_path) as hub:
        async with connected(f"{hub.url}/v1/plain?ack=none", token=hub.token) as deaf:
            await deaf.send(json.dumps({"commands": [SET_SPEED]}))
            refused = await result_of(partial(refusal, hub, "does not read"))
            assert refused["code"] == "not_connected"
            waiting = await hub.send(2, mode="queue")
            assert "does not read" in waiting["states"][0]["message"]
        async with hub.device() as device:
            assert (await received(device))["id"] == waiting["id"]
            assert await ask(device, {"result": waiting["id"], "ok": True}) == {"recorded": waiting["id"]}
        assert (await result_of(partial(refusal, hub, "pump is offline")))["code"] == "not_connected"


async def refusal(hub: Operated, detail: str) -> Any:
    """Return the refusal of a command with these words, None for another answer."""
    answer = await hub.send(1)
    return answer if detail in answer.get("detail", "") else None


async def test_the_newest_connection_gets_the_commands(tmp_path: Path) -> None:
    """The end of an older one changes nothing."""
    async with operated(tmp_path) as hub, hub.device() as newer:
        async with hub.device() as older:
            pass
        async with hub.device() as newest:
            await newer.close()
            id = (await hub.send(3))["id"]
            assert (await received(newest))["id"] == id
        assert older.close_code is not None
