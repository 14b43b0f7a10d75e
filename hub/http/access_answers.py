"""The answers about access requests of devices, and the bodies of these requests: see hub.http.answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from msgspec import Meta, Struct

from wire.model import DeviceId

MAX_PROGRAM = 64
"""Characters of the name of a program that asks for access."""


class AccessQuestion(Struct, frozen=True, forbid_unknown_fields=True):
    """A device without a token asks for access."""

    device: Annotated[DeviceId, Meta(description="The device as which the agent writes.")]
    program: Annotated[
        str, Meta(max_length=MAX_PROGRAM, pattern=r"^[ -~]*$", description="Name and version of the agent.")
    ] = ""


class AskedAccess(Struct, frozen=True):
    """A request that waits for an operator. Only this answer contains the secret."""

    code: Annotated[str, Meta(description="For people, who compare it. It grants nothing.")]
    secret: Annotated[str, Meta(description="For the polls of the agent. Its holder receives the token.")]
    page: Annotated[str, Meta(description="Address of the page on which an operator decides.")]
    expires_in_s: int
    interval_s: Annotated[float, Meta(description="Least time between two polls.")]


class AccessPoll(Struct, frozen=True, forbid_unknown_fields=True):
    """The question of an agent whether its request was decided."""

    secret: Annotated[str, Meta(max_length=128)]


class AccessDecision(Struct, frozen=True):
    """State of a request. With `approved`, only this answer contains the token."""

    state: Annotated[
        Literal["waiting", "slow_down", "approved", "refused", "expired"],
        Meta(description="`slow_down`: the poll came too early, and `interval_s` is longer now."),
    ]
    interval_s: Annotated[float, Meta(description="Least time until the next poll.")]
    token: Annotated[str | None, Meta(description="The token of the device.")] = None


class AccessRequestDetails(Struct, frozen=True):
    """A request for access that waits for a decision. The device chose its id and its program."""

    code: str
    device: str
    program: str
    address: Annotated[str, Meta(description="Address from which it came.")]
    age_s: Annotated[float, Meta(description="Seconds since it came.")]
    expires_in_s: float
    is_known: Annotated[bool, Meta(description="Whether this hub has, or had, a device with this id.")]
    tokens: Annotated[int, Meta(description="Valid tokens that may write as this device already.")]


class AccessRequestsAnswer(Struct, frozen=True):
    """The requests for access that wait for a decision, the oldest first."""

    requests: Sequence[AccessRequestDetails]
