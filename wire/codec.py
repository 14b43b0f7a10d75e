"""Messages to and from bytes, in JSON and msgpack. Any bytes give a message or a WireError."""

from __future__ import annotations

import json
import math
from typing import Generic, Literal, TypeVar

import msgspec

from wire import device, limits, live
from wire.errors import Code, WireError

Format = Literal["json", "msgpack"]
Message = TypeVar("Message")


class Codec(Generic[Message]):
    """Encoder and decoder for the messages of one direction of one protocol in one format."""

    def __init__(self, message_type: object, format: Format) -> None:
        self.format = format
        module = msgspec.json if format == "json" else msgspec.msgpack
        self._decode = module.Decoder(message_type).decode
        self._encode = module.Encoder().encode

    def encode(self, message: Message) -> bytes:
        """Return the message as the bytes of one frame (UTF-8 for JSON).

        Only decoding checks the constraints of fields; in JSON, NaN and infinity become null. Raises
        WireError(BAD_MESSAGE) for text that is not Unicode (half of a surrogate pair), WireError(OUT_OF_RANGE) for an
        integer that msgpack cannot hold.
        """
        try:
            frame: bytes = self._encode(message)
        except OverflowError:
            raise WireError(Code.OUT_OF_RANGE, "msgpack has no integers of more than 64 bits") from None
        except UnicodeError:
            raise WireError(Code.BAD_MESSAGE, _HALF_A_PAIR) from None
        return frame

    def decode(self, frame: bytes | str) -> Message:
        """Return the message in a frame.

        Raises WireError, mostly BAD_MESSAGE. Its `seq` is set if the frame is a batch with invalid content, so that the
        batch can be put in quarantine under its number.
        """
        try:
            message: Message = self._decode(frame)
        except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
            raise _refusal(frame, self.format, error) from None
        return message


_HALF_A_PAIR = "a text is not Unicode: it holds half of a surrogate pair"
_NOT_FINITE = "NaN and infinity are no numbers in JSON; null says that there is no value"


class _Envelope(msgspec.Struct):
    """The fields of a msgpack batch that are needed to quarantine it under its number."""

    type: Literal["data"]
    seq: int
    time: msgspec.Raw = msgspec.Raw()


def _refusal(frame: bytes | str, format: Format, error: Exception) -> WireError:
    """Return the exact reason to reject a frame. Slow, and never reached by a correct agent."""
    code, sentence = Code.BAD_MESSAGE, str(error)
    if isinstance(error, RecursionError):
        sentence = "the message nests too deeply"
    try:
        if isinstance(frame, bytes) and format == "msgpack":
            seq, times, finite = _read_msgpack(frame)
        else:
            seq, times, finite = _read_json(frame)
    except (ValueError, RecursionError):
        return WireError(code, sentence[: limits.MAX_MESSAGE])
    if not finite:
        code, sentence = Code.NOT_FINITE, _NOT_FINITE
    elif not isinstance(error, msgspec.ValidationError) and format == "json":
        sentence = _HALF_A_PAIR
    elif isinstance(times, list) and any(type(time) is int and not 0 <= time <= limits.MAX_TIME_NS for time in times):
        code = Code.OUT_OF_RANGE
    return WireError(code, sentence[: limits.MAX_MESSAGE], seq=seq)


def _read_msgpack(frame: bytes) -> tuple[int, object, bool]:
    """Read the seq and the times of a batch, and skip the rest. Raises ValueError."""
    envelope = msgspec.msgpack.decode(frame, type=_Envelope)
    try:
        times = msgspec.msgpack.decode(envelope.time)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        times = None
    return _seq(envelope.seq), times, True


def _read_json(frame: bytes | str) -> tuple[int, object, bool]:
    """Read the seq and the times of a batch, and whether all numbers are finite. Raises ValueError.

    Python's JSON reader accepts what many writers produce although it is not JSON (NaN, half of a surrogate pair). Such
    a batch has to be rejected under its number; otherwise an agent would send it again without end.
    """
    finite = True

    def constant(_: str) -> float:
        nonlocal finite
        finite = False
        return 0.0

    def fraction(text: str) -> float:
        nonlocal finite
        number = float(text)
        finite = finite and math.isfinite(number)
        return number

    text = frame if isinstance(frame, str) else frame.decode()
    content = json.loads(text, parse_constant=constant, parse_float=fraction, parse_int=_whole)
    if not isinstance(content, dict) or content.get("type") != "data":
        raise ValueError("not a batch")
    return _seq(content.get("seq")), content.get("time"), finite


def _whole(text: str) -> int:
    # Python rejects thousands of digits; beyond 64 bits the exact number does not matter.
    return int(text) if len(text) <= len(str(-(2**64))) else 2**64


def _seq(seq: object) -> int:
    if type(seq) is not int or not 1 <= seq <= limits.MAX_SEQ:
        raise ValueError("no seq")
    return seq


AGENT_MESSAGES: dict[Format, Codec[device.AgentMessage]] = {
    "json": Codec(device.AgentMessage, "json"),
    "msgpack": Codec(device.AgentMessage, "msgpack"),
}
HUB_MESSAGES: dict[Format, Codec[device.HubMessage]] = {
    "json": Codec(device.HubMessage, "json"),
    "msgpack": Codec(device.HubMessage, "msgpack"),
}
VIEWER_MESSAGES: Codec[live.ViewerMessage] = Codec(live.ViewerMessage, "json")
LIVE_MESSAGES: Codec[live.LiveMessage] = Codec(live.LiveMessage, "json")

FORMAT_OF_SUBPROTOCOL: dict[str, Format] = {
    device.PROTOCOL_JSON_1_4: "json",
    device.PROTOCOL_MSGPACK_1_4: "msgpack",
    device.PROTOCOL_JSON_1_3: "json",
    device.PROTOCOL_MSGPACK_1_3: "msgpack",
    device.PROTOCOL_JSON_1_2: "json",
    device.PROTOCOL_MSGPACK_1_2: "msgpack",
    device.PROTOCOL_JSON_1_1: "json",
    device.PROTOCOL_MSGPACK_1_1: "msgpack",
    device.PROTOCOL_JSON: "json",
    device.PROTOCOL_MSGPACK: "msgpack",
}

COMMAND_SUBPROTOCOLS = frozenset({device.PROTOCOL_JSON_1_4, device.PROTOCOL_MSGPACK_1_4})
"""Subprotocols with `commands` in `hello` and `declare`, and the messages of commands."""

EVENT_SUBPROTOCOLS = COMMAND_SUBPROTOCOLS | {device.PROTOCOL_JSON_1_3, device.PROTOCOL_MSGPACK_1_3}
"""Subprotocols with the message `event`."""

PARTIAL_SUBPROTOCOLS = EVENT_SUBPROTOCOLS | {device.PROTOCOL_JSON_1_2, device.PROTOCOL_MSGPACK_1_2}
"""Subprotocols with the message `refused` and the fields of a partial `reject`."""

STATUS_SUBPROTOCOLS = PARTIAL_SUBPROTOCOLS | {device.PROTOCOL_JSON_1_1, device.PROTOCOL_MSGPACK_1_1}
"""Subprotocols with the message `status`."""
