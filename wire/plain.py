"""Frames of the hub on /v1/plain: an answer to each frame of a client, and commands. See docs/plain.md."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from wire.command import ParameterValue

SUBPROTOCOL = "telemetry.plain"


class RefusedReading(Struct, frozen=True):
    """A value, or a line without values, that is in quarantine."""

    code: Annotated[str, Meta(description="The reason, for programs; docs/formats.md has the codes.")]
    reason: str
    line: Annotated[int, Meta(description="Number of the line in the content, from 1; 0 if it is not known.")] = 0
    device: str = ""
    metric: Annotated[str, Meta(description="Empty if the whole line is refused.")] = ""
    value: str = ""
    setting: Annotated[str, Meta(description="What changes the decision; empty if nothing does.")] = ""


class Stored(Struct, frozen=True, omit_defaults=True):
    """So many readings of a frame are durable; `refused` are the first values that are in quarantine instead."""

    ok: int
    refused: Sequence[RefusedReading] = ()


class NotStored(Struct, frozen=True, omit_defaults=True):
    """Nothing of a frame is stored as readings: the code of the reason, and a sentence that says what to do."""

    error: str
    message: str
    refused: Sequence[RefusedReading] = ()


class CommandFrame(Struct, frozen=True):
    """Hub → client: execute this command, and answer its `id` with a result."""

    command: str
    id: str
    parameters: Mapping[str, ParameterValue]


class Recorded(Struct, frozen=True):
    """Hub → client: the result of this command is on the hub's disk. Do not repeat it."""

    recorded: str


encode = msgspec.json.Encoder().encode
