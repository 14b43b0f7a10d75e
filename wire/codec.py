"""Messages to and from bytes, in JSON and msgpack. Any bytes at all give a message or one WireError."""

from __future__ import annotations

from typing import Generic, Literal, TypeVar

import msgspec

from wire import device, live
from wire.errors import Code, WireError
from wire.limits import MAX_SEQ

Format = Literal["json", "msgpack"]
Message = TypeVar("Message")


class Codec(Generic[Message]):
    """Encodes and decodes the messages of one direction of one protocol in one format."""

    def __init__(self, message_type: object, format: Format) -> None:
        self.format = format
        module = msgspec.json if format == "json" else msgspec.msgpack
        self._decode = module.Decoder(message_type).decode
        self._encode = module.Encoder().encode

    def encode(self, message: Message) -> bytes:
        """The message as one frame's bytes (UTF-8 for JSON)."""
        frame: bytes = self._encode(message)
        return frame

    def decode(self, frame: bytes | str) -> Message:
        """The message in a frame.

        Raises WireError(BAD_MESSAGE) for anything else; its `seq` is set where the frame is a batch that only its
        content makes invalid, so that the batch can be put in quarantine under its number.
        """
        try:
            message: Message = self._decode(frame)
        except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
            raise _refusal(frame, self.format, error) from None
        return message


class _Envelope(msgspec.Struct, tag="data"):
    """What must be readable of a batch to quarantine it under its number."""

    seq: int


def _refusal(frame: bytes | str, format: Format, error: Exception) -> WireError:
    decode = msgspec.json.decode if format == "json" else msgspec.msgpack.decode
    seq = None
    if isinstance(error, msgspec.ValidationError):
        try:
            seq = decode(frame, type=_Envelope).seq  # type: ignore[arg-type]
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            seq = None
    if seq is not None and not 1 <= seq <= MAX_SEQ:
        seq = None
    message = "the message nests too deeply" if isinstance(error, RecursionError) else str(error)
    return WireError(Code.BAD_MESSAGE, message[:256], seq=seq)


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

FORMAT_OF_SUBPROTOCOL: dict[str, Format] = {device.PROTOCOL_JSON: "json", device.PROTOCOL_MSGPACK: "msgpack"}
