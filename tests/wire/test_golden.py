"""The Python side says and understands exactly what the golden files say."""

from __future__ import annotations

from typing import Any, get_args

import msgspec
import pytest

from tests.wire.golden_file import GOLDEN, named, read_golden
from wire import device, live
from wire.codec import AGENT_MESSAGES, HUB_MESSAGES, LIVE_MESSAGES, VIEWER_MESSAGES, Codec, Format
from wire.columns import pack_floats, unpack_floats
from wire.errors import Code, WireError
from wire.frames import Kind, NumberColumn, TextColumn, Update, decode_update, encode_update
from wire.live_session import LiveSessionState, ViewerSession

CODECS: dict[str, dict[Format, Codec[Any]]] = {
    "device_agent.json": AGENT_MESSAGES,
    "device_hub.json": HUB_MESSAGES,
    "live_viewer.json": {"json": VIEWER_MESSAGES},
    "live_hub.json": {"json": LIVE_MESSAGES},
}
MESSAGES = {
    "device_agent.json": device.AgentMessage,
    "device_hub.json": device.HubMessage,
    "live_viewer.json": live.ViewerMessage,
    "live_hub.json": live.LiveMessage,
}


def entries(section: str) -> list[Any]:
    """Every entry of a section in all message files, each with its file."""
    return [
        pytest.param(file, entry, id=f"{file}: {named(entry)}")
        for file in CODECS
        for entry in read_golden(file, section)
    ]


def frames_of(entry: Any) -> dict[Format, bytes]:
    """The frames of a golden message by format."""
    frames: dict[Format, bytes] = {}
    if "json" in entry:
        frames["json"] = entry["json"].encode()
    if "msgpack" in entry:
        frames["msgpack"] = bytes.fromhex(entry["msgpack"])
    return frames


def plain(message: Any) -> Any:
    """A message as plain JSON values, NaN as text to distinguish it."""
    return repr(msgspec.to_builtins(message))


@pytest.mark.parametrize(("file", "entry"), entries("valid"))
def test_a_valid_frame_means_its_message_and_is_what_the_encoder_makes(file: str, entry: Any) -> None:
    """Decoding a frame gives the message, encoding the message gives the frame."""
    for encoding, frame in frames_of(entry).items():
        codec = CODECS[file][encoding]
        message = codec.decode(frame)
        assert plain(message) == repr(entry["message"])
        assert codec.encode(message) == frame


@pytest.mark.parametrize(("file", "entry"), entries("valid"))
def test_both_formats_of_a_message_say_the_same(file: str, entry: Any) -> None:
    """The device protocol has both formats, and they decode to equal messages."""
    decoded = [CODECS[file][encoding].decode(frame) for encoding, frame in frames_of(entry).items()]
    assert len(decoded) == len(CODECS[file])
    assert all(message == decoded[0] for message in decoded)


@pytest.mark.parametrize(("file", "entry"), entries("accepted"))
def test_another_spelling_means_the_same_message(file: str, entry: Any) -> None:
    """White space, order of fields, defaults and number formats are free."""
    for encoding, frame in frames_of(entry).items():
        assert plain(CODECS[file][encoding].decode(frame)) == repr(entry["message"])


@pytest.mark.parametrize(("file", "entry"), entries("invalid"))
def test_an_invalid_frame_is_refused_with_its_code_and_its_seq(file: str, entry: Any) -> None:
    """An invalid frame raises one WireError; a batch whose number can be read carries the number."""
    encoding: Format = "msgpack" if "hex" in entry else "json"
    frame = bytes.fromhex(entry["hex"]) if "hex" in entry else entry["frame"]
    with pytest.raises(WireError) as raised:
        CODECS[file][encoding].decode(frame)
    assert (raised.value.code, raised.value.seq) == (entry["code"], entry.get("seq"))
    assert raised.value.message


@pytest.mark.parametrize("file", CODECS)
def test_every_message_has_a_golden_frame(file: str) -> None:
    """No message type of a direction is without a golden example."""
    types = {message.__struct_config__.tag for message in get_args(MESSAGES[file])}
    assert {entry["message"]["type"] for entry in read_golden(file, "valid")} == types


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*.json")), ids=lambda path: str(path.name))
def test_the_names_in_a_golden_file_differ(path: Any) -> None:
    """A failing test is found by its name."""
    for section in ("valid", "accepted", "invalid", "frames", "conversations"):
        names = [named(entry) for entry in read_golden(path.name, section)]
        assert len(names) == len(set(names))


def update_of(golden: Any) -> Update:
    """A golden description of a frame as an Update."""
    return Update(
        Kind[golden["kind"].upper()],
        golden["schema"],
        golden["subscription"],
        golden["conflated"],
        golden["offset"],
        [NumberColumn(c["series"], pack_floats(c["times_ms"]), pack_floats(c["values"])) for c in golden["numbers"]],
        [TextColumn(c["series"], c["times_ms"], c["values"]) for c in golden["texts"]],
    )


def description_of(update: Update) -> dict[str, Any]:
    """An Update as the golden files describe it."""
    return {
        "kind": update.kind.name.lower(),
        "schema": update.schema,
        "subscription": update.subscription,
        "conflated": update.conflated,
        "offset": update.offset,
        "numbers": [
            {"series": c.series, "times_ms": unpack_floats(c.times_ms), "values": unpack_floats(c.values)}
            for c in update.numbers
        ],
        "texts": [c._asdict() for c in update.texts],
    }


@pytest.mark.parametrize("entry", read_golden("live_frames.json", "frames"), ids=named)
def test_a_frame_holds_what_is_described(entry: Any) -> None:
    """Decoding a frame gives its description; the description encodes to the frame."""
    frame = bytes.fromhex(entry["hex"])
    update = decode_update(frame)
    assert description_of(update) == entry["update"]
    assert encode_update(**update_of(entry["update"])._asdict()) == frame


@pytest.mark.parametrize("entry", read_golden("live_frames.json", "invalid"), ids=named)
def test_an_invalid_live_frame_is_refused(entry: Any) -> None:
    """Bytes that are not a frame raise one WireError."""
    with pytest.raises(WireError) as raised:
        decode_update(bytes.fromhex(entry["hex"]))
    assert raised.value.code == entry["code"]


def snapshot(session: ViewerSession) -> dict[str, Any]:
    """A session as the golden conversations describe it."""
    return {
        "state": session.state.value,
        "subscriptions": {
            str(number): {
                "progress": s.progress.value,
                "schema": s.schema,
                "cursor": msgspec.to_builtins(s.cursor),
                "conflated": s.conflated,
            }
            for number, s in session.subscriptions.items()
        },
    }


def take_step(session: ViewerSession, step: Any) -> None:
    """Does what a step says and checks what came of it at once."""
    if "subscribe" in step:
        session.subscribe(msgspec.convert(step["subscribe"], live.Subscribe))
    elif "unsubscribe" in step:
        assert msgspec.to_builtins(session.unsubscribe(step["unsubscribe"])) == step["sends"]
    elif "receive" in step:
        session.receive(msgspec.convert(step["receive"], live.LiveMessage))
    elif "reconnect" in step:
        session.reconnect()
    else:
        update = decode_update(bytes.fromhex(step["frame"]))
        assert description_of(update) == step["update"]
        targets = session.receive_update(update)
        assert targets == step["for"]


@pytest.mark.parametrize("entry", read_golden("live_conversations.json", "conversations"), ids=named)
def test_the_viewer_follows_a_conversation(entry: Any) -> None:
    """After each step the viewer's session stands where the conversation says."""
    session = ViewerSession()
    assert session.state is LiveSessionState.OPENING
    for step in entry["steps"]:
        if "refused" in step:
            before = snapshot(session)
            with pytest.raises(WireError) as raised:
                take_step(session, step)
            assert raised.value.code == Code(step["refused"])
            assert snapshot(session) == before
        else:
            take_step(session, step)
        if "opening" in step:
            assert [msgspec.to_builtins(message) for message in session.opening_messages()] == step["opening"]
        if "then" in step:
            assert snapshot(session) == step["then"]
