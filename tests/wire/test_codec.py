"""Messages to and from bytes."""

from __future__ import annotations

import json
import math
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.wire.strategies import (
    agent_messages,
    damaged,
    hub_messages,
    live_messages,
    plain_values,
    strategy_of,
    viewer_messages,
)
from wire import device, limits
from wire.codec import (
    AGENT_MESSAGES,
    COMMAND_SUBPROTOCOLS,
    EVENT_SUBPROTOCOLS,
    FORMAT_OF_SUBPROTOCOL,
    HUB_MESSAGES,
    LIVE_MESSAGES,
    PARTIAL_SUBPROTOCOLS,
    STATUS_SUBPROTOCOLS,
    VIEWER_MESSAGES,
    Codec,
    Format,
)
from wire.errors import Code, WireError
from wire.model import Seq

FORMATS: list[Format] = ["json", "msgpack"]
CODECS: list[Codec[Any]] = [
    *(AGENT_MESSAGES[name] for name in FORMATS),
    *(HUB_MESSAGES[name] for name in FORMATS),
    VIEWER_MESSAGES,
    LIVE_MESSAGES,
]
DATA = {"type": "data", "seq": 8, "time": [1], "values": {"a": [1.5]}}


def agrees(codec: Codec[Any], frame: bytes | str) -> bool:
    """Return whether a frame decodes; any result but a message or a WireError is a failure."""
    try:
        message = codec.decode(frame)
    except WireError as refusal:
        assert refusal.code in Code
        assert 0 < len(refusal.message) <= limits.MAX_MESSAGE
        assert refusal.seq is None or 1 <= refusal.seq <= limits.MAX_SEQ
        refusal.message.encode()
        return False
    codec.encode(message)
    return True


def refusal_of(frame: bytes | str, encoding: Format = "json") -> tuple[Code, int | None]:
    """The code and the seq that an agent's frame is refused with."""
    with pytest.raises(WireError) as raised:
        AGENT_MESSAGES[encoding].decode(frame)
    return raised.value.code, raised.value.seq


@given(st.sampled_from(FORMATS), agent_messages)
def test_an_agents_message_survives_its_way(encoding: Format, message: device.AgentMessage) -> None:
    """Whatever an agent can say is decoded to what it said."""
    codec = AGENT_MESSAGES[encoding]
    assert codec.decode(codec.encode(message)) == message


@given(st.sampled_from(FORMATS), hub_messages)
def test_a_hubs_message_to_an_agent_survives_its_way(encoding: Format, message: device.HubMessage) -> None:
    """Whatever the hub can say to an agent is decoded to what it said."""
    codec = HUB_MESSAGES[encoding]
    assert codec.decode(codec.encode(message)) == message


@given(viewer_messages)
def test_a_viewers_message_survives_its_way(message: Any) -> None:
    """Whatever a viewer can say is decoded to what it said."""
    assert VIEWER_MESSAGES.decode(VIEWER_MESSAGES.encode(message)) == message


@given(live_messages)
def test_a_hubs_message_to_a_viewer_survives_its_way(message: Any) -> None:
    """Whatever the hub can say to a viewer is decoded to what it said."""
    assert LIVE_MESSAGES.decode(LIVE_MESSAGES.encode(message)) == message


@given(agent_messages)
def test_text_and_bytes_of_a_json_frame_are_the_same(message: device.AgentMessage) -> None:
    """A text frame may be given as str or as UTF-8."""
    frame = AGENT_MESSAGES["json"].encode(message)
    assert AGENT_MESSAGES["json"].decode(frame.decode()) == message


@given(st.sampled_from(CODECS), st.binary(max_size=200))
def test_any_bytes_are_a_message_or_one_error(codec: Codec[Any], frame: bytes) -> None:
    """No bytes at all get anything else out of a decoder."""
    agrees(codec, frame)


@given(st.sampled_from(CODECS), st.text(st.characters(), max_size=100))
@example(AGENT_MESSAGES["json"], "\ud83d")
@example(AGENT_MESSAGES["json"], '{"type":"data","seq":8,"time":[1],"values":{"\ud83d":[1]}}')
def test_any_text_is_a_message_or_one_error(codec: Codec[Any], frame: str) -> None:
    """No text at all gets anything else out of a decoder, half a surrogate pair included."""
    if codec.format == "json":
        agrees(codec, frame)


@given(st.data())
def test_a_damaged_message_is_a_message_or_one_error(data: st.DataObject) -> None:
    """Nor do frames that are nearly right."""
    codec = data.draw(st.sampled_from(CODECS[:2]))
    agrees(codec, data.draw(damaged(agent_messages.map(codec.encode))))


@given(st.sampled_from(FORMATS), st.sampled_from(["type", "seq", "time", "values", "historical", "x"]), plain_values)
def test_a_batch_with_any_field_replaced_is_a_message_or_one_error(encoding: Format, name: str, value: Any) -> None:
    """Nor do batches of a wrong shape; the error has the number if the number is intact."""
    frame = json.dumps({**DATA, name: value}).encode()
    if encoding == "msgpack":
        try:
            frame = msgspec.msgpack.encode({**DATA, name: value})
        except OverflowError:
            return
    if not agrees(AGENT_MESSAGES[encoding], frame) and name not in ("type", "seq"):
        assert refusal_of(frame, encoding)[1] == 8


@pytest.mark.parametrize("opening", ["[", '{"a":', '{"type":"data","seq":8,"time":[1],"values":{"a":[', '{"type":'])
@pytest.mark.parametrize("depth", [10, 2_000, 100_000])
def test_deep_nesting_is_refused(opening: str, depth: int) -> None:
    """Nesting of any depth ends in an error and not in a crash."""
    frame = opening + "[" * depth
    for closing in ("", "]" * depth, "]" * depth + "}"):
        for codec in CODECS:
            if codec.format == "json":
                assert not agrees(codec, frame + closing)


@pytest.mark.parametrize("depth", [10, 2_000, 100_000])
def test_deep_nesting_in_msgpack_is_refused(depth: int) -> None:
    """The same in msgpack, at the start and inside of a batch; the error still has the batch's number."""
    nested = b"\x91" * depth + b"\x01"
    assert refusal_of(nested, "msgpack") == (Code.BAD_MESSAGE, None)
    inside = b"\x85" + msgspec.msgpack.encode({**DATA, "x": 0})[1:-1] + nested
    code, seq = refusal_of(inside, "msgpack")
    assert code is Code.BAD_MESSAGE
    assert seq in (8, None)


@pytest.mark.parametrize("digits", [19, 20, 40, 308, 309, 4300, 4301, 100_000])
def test_numbers_of_any_length_are_judged(digits: int) -> None:
    """A number of many digits is an integer that the hub validates, or is rejected under the batch's number."""
    for number in ("9" * digits, "-" + "9" * digits, "0." + "9" * digits, "9" * digits + ".5", "1e" + "9" * digits):
        frame = f'{{"type":"data","seq":8,"time":[1],"values":{{"a":[{number}]}}}}'
        if not agrees(AGENT_MESSAGES["json"], frame):
            assert refusal_of(frame)[1] == 8
    assert refusal_of(f'{{"type":"data","seq":{"9" * digits},"time":[1],"values":{{}}}}')[1] is None
    time = f'{{"type":"data","seq":8,"time":[{"9" * digits}],"values":{{}}}}'
    assert refusal_of(time) == (Code.OUT_OF_RANGE, 8)


@given(st.sampled_from(FORMATS), strategy_of(device.Data), strategy_of(Seq))
def test_a_batch_with_an_unknown_field_is_refused_under_its_number(
    encoding: Format, batch: device.Data, seq: int
) -> None:
    """A batch that only its content makes invalid can be put in quarantine."""
    content = {**msgspec.to_builtins(batch, builtin_types=[bytes]), "seq": seq, "quality": 1}
    encode = msgspec.json.encode if encoding == "json" else msgspec.msgpack.encode
    assert refusal_of(encode(content), encoding) == (Code.BAD_MESSAGE, seq)


@given(strategy_of(Seq), st.sampled_from([math.nan, math.inf, -math.inf]))
def test_a_number_that_json_does_not_have_is_refused_under_the_batchs_number(seq: int, number: float) -> None:
    """Python's json writes NaN; the batch is named, so that its agent does not send it for ever."""
    frame = json.dumps({"type": "data", "seq": seq, "time": [1], "values": {"a": [1.5, number]}})
    assert refusal_of(frame) == (Code.NOT_FINITE, seq)


@given(strategy_of(Seq), st.text(st.characters(categories=["Cs"]), min_size=1, max_size=1))
def test_half_a_surrogate_pair_is_refused_under_the_batchs_number(seq: int, half: str) -> None:
    """Python's json writes half a pair, too."""
    frame = json.dumps({"type": "data", "seq": seq, "time": [1], "values": {"a": [half]}})
    assert refusal_of(frame) == (Code.BAD_MESSAGE, seq)


def test_only_a_batch_has_a_number_to_be_refused_under() -> None:
    """Another message with a seq in it is refused as a whole."""
    assert refusal_of('{"type":"declare","metrics":[],"seq":8}')[1] is None
    assert refusal_of(msgspec.msgpack.encode({"type": "declare", "metrics": [], "seq": 8}), "msgpack")[1] is None
    assert refusal_of('{"type":"data","seq":true,"time":[],"values":{}}')[1] is None


def test_a_refusal_says_what_is_wrong_and_where() -> None:
    """The sentence helps the author of an agent."""
    sentences = {
        '{"type":"data","seq":8,"time":[1],"values":{"a":[NaN]}}': "NaN",
        '{"type":"data","seq":8,"time":[1],"values":{"a":["\\ud83d"]}}': "surrogate",
        '{"type":"data","seq":8,"time":[1],"values":{"a":[[]]}}': "$.values",
        '{"type":"data","seq":8,"time":[-1],"values":{}}': "$.time[0]",
        '{"type":"gap","from":9,"to":8,"reason":""}': "begin at 9 and end at 8",
        '{"type":"dance"}': "dance",
    }
    for frame, words in sentences.items():
        with pytest.raises(WireError) as raised:
            AGENT_MESSAGES["json"].decode(frame)
        assert words in raised.value.message


def test_an_unencodable_message_raises_one_error() -> None:
    """Half a surrogate pair in both formats, an integer beyond 64 bits in msgpack."""
    for encoding in FORMATS:
        with pytest.raises(WireError) as raised:
            AGENT_MESSAGES[encoding].encode(device.Data(1, [1], {"a": ["\ud83d"]}))
        assert raised.value.code is Code.BAD_MESSAGE
    with pytest.raises(WireError) as raised:
        AGENT_MESSAGES["msgpack"].encode(device.Data(1, [1], {"a": [2**70]}))
    assert raised.value.code is Code.OUT_OF_RANGE


def test_each_subprotocol_names_its_format() -> None:
    """The format of a connection is what its subprotocol says."""
    assert FORMAT_OF_SUBPROTOCOL == {
        "telemetry.v1.4.json": "json",
        "telemetry.v1.4.msgpack": "msgpack",
        "telemetry.v1.3.json": "json",
        "telemetry.v1.3.msgpack": "msgpack",
        "telemetry.v1.2.json": "json",
        "telemetry.v1.2.msgpack": "msgpack",
        "telemetry.v1.1.json": "json",
        "telemetry.v1.1.msgpack": "msgpack",
        "telemetry.v1.json": "json",
        "telemetry.v1.msgpack": "msgpack",
    }
    assert {"telemetry.v1.4.json", "telemetry.v1.4.msgpack"} == COMMAND_SUBPROTOCOLS
    assert {"telemetry.v1.3.json", "telemetry.v1.3.msgpack"} | COMMAND_SUBPROTOCOLS == EVENT_SUBPROTOCOLS
    assert {"telemetry.v1.2.json", "telemetry.v1.2.msgpack"} | EVENT_SUBPROTOCOLS == PARTIAL_SUBPROTOCOLS
    assert {"telemetry.v1.1.json", "telemetry.v1.1.msgpack"} | PARTIAL_SUBPROTOCOLS == STATUS_SUBPROTOCOLS


@pytest.mark.parametrize(
    "sources",
    [[("a\x1b[2J", "")], [("a\n", "")], [("a", "\x9b2J")], [("a", "\u202egone")], [("a", ""), ("b", ""), ("a", "")]],
)
def test_a_status_with_texts_that_mislead_is_refused(sources: list[tuple[str, str]]) -> None:
    """Control and bidirectional characters in a source's name or error, and two sources of one name."""
    states = [{"name": name, "ok": False, "since": 1, "error": error} for name, error in sources]
    frame = json.dumps({"type": "status", "time": 1, "next_seq": 1, "sources": states})
    assert refusal_of(frame) == (Code.BAD_MESSAGE, None)
