"""docs/protocol.md says what the code does: an agent can be written from it alone."""

from __future__ import annotations

import ast
import json
import re
from typing import Any, get_args

import msgspec
import pytest

from tests.wire import document
from tests.wire.document import Block, name_in
from wire import command, device, limits, live, model
from wire.codec import AGENT_MESSAGES, HUB_MESSAGES, LIVE_MESSAGES, VIEWER_MESSAGES, Codec
from wire.columns import pack_floats, pack_times
from wire.device_session import AgentDeviceSession, HubDeviceSession
from wire.errors import CLOSE_FOR_CODE, FINAL_CLOSES, RETRYABLE_CLOSES, Close, Code
from wire.frames import Kind, NumberColumn, Update, decode_update, encode_update
from wire.live_session import HubLiveSession, Progress, ViewerSession

DIRECTIONS = {
    "### Agent to hub": device.AgentMessage,
    "### Hub to agent": device.HubMessage,
    "### Viewer to hub": live.ViewerMessage,
    "### Hub to viewer": live.LiveMessage,
}
CODECS: dict[str, Codec[Any]] = {
    "agent": AGENT_MESSAGES["json"],
    "hub": HUB_MESSAGES["json"],
    "viewer": VIEWER_MESSAGES,
    "live": LIVE_MESSAGES,
}
MESSAGES = [
    pytest.param(direction, message, id=f"{direction.strip('# ')}: {message.__struct_config__.tag}")
    for direction, union in DIRECTIONS.items()
    for message in get_args(union)
]
EXAMPLES = [pytest.param(block, id=block.content[:60]) for block in document.blocks("json")]


def part_of(direction: str, message: Any) -> str:
    """The description of one message on the page."""
    tag = message.__struct_config__.tag
    title = next(t for t in document.headings(document.section(direction), 4) if t.split(",")[0] == tag)
    return document.section(f"#### {title}")


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_a_direction_has_its_messages_and_no_others(direction: str) -> None:
    """Every message has its heading."""
    documented = [title.split(",")[0] for title in document.headings(document.section(direction), 4)]
    assert documented == [message.__struct_config__.tag for message in get_args(DIRECTIONS[direction])]


@pytest.mark.parametrize(("direction", "message"), MESSAGES)
def test_a_message_has_its_fields_and_no_others(direction: str, message: Any) -> None:
    """Every field has its row, in order, with its default where it has one."""
    fields = msgspec.structs.fields(message)
    part = part_of(direction, message)
    # The hello's page has the metric's table below its own.
    documented = document.rows(part)[: len(fields)] if message is device.Hello else document.rows(part)
    assert [name_in(row[0]) for row in documented] == [field.encode_name for field in fields]
    for field, row in zip(fields, documented, strict=True):
        assert ("default" in row[1]) is not field.required, field.name
        if not field.required:
            assert default_of(field) in row[1], field.name


def default_of(field: msgspec.structs.FieldInfo) -> str:
    """A field's default, as the page writes it."""
    if field.default_factory is not msgspec.NODEFAULT:
        return json.dumps(field.default_factory())
    return json.dumps(field.default)


def test_a_metric_has_its_fields_and_no_others() -> None:
    """The metric's table follows the hello's."""
    rows = document.rows(part_of("### Agent to hub", device.Hello))
    fields = msgspec.structs.fields(model.Metric)
    assert [name_in(row[0]) for row in rows[-len(fields) :]] == [field.encode_name for field in fields]


def test_a_command_has_its_fields_and_no_others() -> None:
    """The sentence names the fields of a command, the table those of a parameter, with their defaults."""
    part = document.section("## Commands")
    for field in msgspec.structs.fields(command.CommandDeclaration):
        assert f"`{field.encode_name}`" in part
    rows, fields = document.rows(part), msgspec.structs.fields(command.CommandParameter)
    assert [name_in(row[0]) for row in rows] == [field.encode_name for field in fields]
    for field, row in zip(fields, rows, strict=True):
        assert field.required or default_of(field) in row[1], field.name


def test_a_problem_of_a_setting_has_its_fields() -> None:
    """The sentence names them, and the section those of a declared setting."""
    for field in msgspec.structs.fields(device.SettingProblem):
        assert f"`{field.encode_name}`" in part_of("### Agent to hub", device.Reported)
    for field in msgspec.structs.fields(command.CommandParameter):
        assert f"`{field.encode_name}`" in document.section("## Settings")


@pytest.mark.parametrize("struct", [live.Series, live.History, live.Cursor])
def test_the_parts_of_live_messages_are_reported(struct: Any) -> None:
    """Their fields are named where they are used."""
    part = part_of("### Hub to viewer", live.Schema) + part_of("### Viewer to hub", live.Subscribe)
    for field in msgspec.structs.fields(struct):
        assert f"`{field.encode_name}`" in part


@pytest.mark.parametrize("block", EXAMPLES)
def test_an_example_is_a_message(block: Block) -> None:
    """Each is what its direction can say, and says nothing in a round-about way."""
    codec = CODECS[block.label.split()[1]]
    message = codec.decode(block.content.strip())
    assert json.loads(codec.encode(message)) == json.loads(block.content)


@pytest.mark.parametrize(("direction", "message"), MESSAGES)
def test_every_message_has_an_example(direction: str, message: Any) -> None:
    """One at least."""
    assert f'{{"type":"{message.__struct_config__.tag}"' in part_of(direction, message)


def test_the_bytes_of_packed_columns_are_as_drawn() -> None:
    """Both columns, and the example in JSON says the same."""
    drawn = [
        line.partition("→")[2].split() for line in document.text().split("\n") if re.match(r"(times|values)  ", line)
    ]
    times, values = (bytes.fromhex("".join(line)) for line in drawn)
    assert times == pack_times([1767225600000000000, 1767225601000000000])
    assert values == pack_floats([21.5, None])
    packed = next(block.content for block in document.blocks("json agent") if '"time":"' in block.content)
    assert AGENT_MESSAGES["json"].decode(packed) == device.Data(2, times, {"temperature": values})


def test_the_codes_are_all_documented_with_their_close() -> None:
    """And no others."""
    documented = {name_in(row[0]): row[2] for row in document.rows(document.section("# Codes"))}
    assert set(documented) == set(Code)
    for code in Code:
        close = CLOSE_FOR_CODE.get(code)
        assert documented[code].split(",")[0] == ("none" if close is None else str(int(close))), code


def test_the_close_codes_are_all_documented() -> None:
    """With their names."""
    documented = " ".join(document.section("# Codes").split())
    for close in Close:
        assert f"{int(close)} {close.name.lower().replace('_', ' ')}" in documented


def test_the_limits_are_all_documented_with_their_values() -> None:
    """And no others."""
    documented = {name_in(row[0]): row[1] for row in document.rows(document.section("# Limits"))}
    assert documented == {
        name: f"{value:,}".removesuffix(".0") for name, value in vars(limits).items() if name.isupper()
    }


def test_the_answers_name_codes_that_there_are() -> None:
    """Each answer's close code belongs to its code; a reject has none."""
    answers = document.rows(document.section("## Errors"))
    assert len(answers) > 30
    documented = set()
    for row in answers:
        kind, code, close = row[1].split()[0], name_in(row[1]), row[2]
        if kind == "reject":
            assert close == ""
            documented.add(Code(code))
        elif kind == "error":
            assert CLOSE_FOR_CODE[Code(code)] == int(close)
            documented.add(Code(code))
    others = {Code.TOO_LARGE, Code.UNKNOWN_SUBSCRIPTION, Code.DUPLICATE_SUBSCRIPTION, Code.UNAVAILABLE}
    assert documented == set(Code) - others


def test_the_closes_to_come_back_after_are_reported() -> None:
    """At the usual pace, and never."""
    usual, never, _ = document.rows(document.section("## Reconnecting"))
    assert {int(number) for number in re.findall(r"\d{4}", usual[0])} == RETRYABLE_CLOSES
    assert {int(number) for number in re.findall(r"\d{4}", never[0])} == FINAL_CLOSES


def test_both_ends_follow_the_device_conversations() -> None:
    """Both sessions follow them, over the break between them, and agree."""
    for block in document.blocks("conversation device"):
        hub, agent = HubDeviceSession(window=limits.DEFAULT_WINDOW), AgentDeviceSession(next_seq=1)
        for line in block.content.splitlines():
            arrow, _, frame = line.partition(" ")
            if arrow == "→":
                follow_agent(AGENT_MESSAGES["json"].decode(frame), hub, agent)
            else:
                follow_hub(HUB_MESSAGES["json"].decode(frame), hub, agent)
    assert hub.received == hub.acked == agent.acked == 22


def follow_agent(message: device.AgentMessage, hub: HubDeviceSession, agent: AgentDeviceSession) -> None:
    """The agent says this."""
    match message:
        case device.Hello():
            agent.next_seq = message.next_seq
            hub.receive(message)
        case device.Data(seq=seq):
            agent.send(seq, seq)
            assert hub.receive_batches(seq, seq)
        case device.Gap(from_seq=first, to=last):
            agent.send(first, last)
            assert hub.receive_batches(first, last)
        case _:
            hub.receive(message)


def follow_hub(message: device.HubMessage, hub: HubDeviceSession, agent: AgentDeviceSession) -> None:
    """The hub says this."""
    match message:
        case device.Welcome(acked=acked):
            hub.welcome(acked=acked, received=acked)
        case device.Ack(seq=seq):
            assert hub.commit(seq) == message
    agent.receive(message)


def test_both_ends_follow_the_live_conversations() -> None:
    """Both sessions follow them; the viewer asks again with the cursor it has by then."""
    viewer = ViewerSession()
    first, second = document.blocks("conversation live")
    for block in (first, second):
        hub = HubLiveSession()
        hub.open()
        viewer.reconnect()
        for line in block.content.splitlines():
            arrow, _, said = line.partition(" ")
            if arrow == "→":
                asked = VIEWER_MESSAGES.decode(said)
                assert hub.receive(asked) is None
                if block is first:
                    assert isinstance(asked, live.Subscribe)
                    viewer.subscribe(asked)
                assert viewer.opening_messages() == [asked]
            elif said.startswith("["):
                kind, schema, subscription, offset = re.findall(r"\w+(?=[,\]])", said)
                update = Update(Kind[kind.upper()], int(schema), int(subscription), 0, int(offset), [], [])
                assert viewer.receive_update(update) == [1]
            else:
                viewer.receive(LIVE_MESSAGES.decode(said))
    assert viewer.subscriptions[1].progress is Progress.LIVE
    assert viewer.subscriptions[1].cursor == live.Cursor("7f3a9c0d5e1b2846", 1246)


def test_the_frame_is_as_drawn() -> None:
    """Byte for byte."""
    (block,) = document.blocks("frame")
    documented = dict(word.split("=") for word in block.label.split()[2:])
    column = NumberColumn(
        int(documented["series"]),
        pack_floats([float(documented["time_ms"])]),
        pack_floats([float(documented["value"])]),
    )
    frame = encode_update(Kind.LIVE, int(documented["schema"]), offset=int(documented["offset"]), numbers=[column])
    assert bytes.fromhex("".join(block.content.split())) == frame
    assert decode_update(frame).numbers == [column]


def test_the_small_agent_needs_nothing_but_websockets() -> None:
    """It compiles, and imports only that and what Python brings."""
    (block,) = document.blocks("python")
    tree = ast.parse(block.content)
    compile(tree, "protocol.md", "exec")
    imported = {
        name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in ([node.module] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names])
    }
    assert imported == {
        "asyncio",
        "json",
        "random",
        "secrets",
        "sys",
        "time",
        "websockets.asyncio.client",
        "websockets.exceptions",
    }


def test_every_link_within_the_page_leads_somewhere() -> None:
    """The anchors are the headings."""
    titles = re.findall(r"^#+ (.+)$", document.text(), re.MULTILINE)
    anchors = {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}
    assert set(re.findall(r"\]\(#([^)]+)\)", document.text())) <= anchors
