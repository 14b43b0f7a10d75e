"""Answers of the plain protocol, /v1/plain: one for each frame of a client. docs/plain.md describes the frames."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

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


encode = msgspec.json.Encoder().encode
