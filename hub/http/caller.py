"""Who calls the HTTP API, as arguments that its operations declare."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated

from fastapi import Depends, Request

from hub.http.problem import Refusal
from hub.model.identity import Action, Identity


async def caller(request: Request) -> Identity:
    """Whoever asks. Raises Refusal for nobody."""
    identity: Identity = await request.app.state.identify(request)
    return identity


Caller = Annotated[Identity, Depends(caller)]


async def reader(asks: Caller) -> Identity:
    """Whoever asks, if it may read."""
    return _allowed(asks, Action.READ)


async def operator(asks: Caller) -> Identity:
    """Whoever asks, if it may decide about the quarantine and the devices."""
    return _allowed(asks, Action.OPERATE)


async def admin(asks: Caller) -> Identity:
    """Whoever asks, if it may administer."""
    return _allowed(asks, Action.ADMINISTER)


Reader = Annotated[Identity, Depends(reader)]
Operator = Annotated[Identity, Depends(operator)]
Admin = Annotated[Identity, Depends(admin)]


def _allowed(identity: Identity, action: Action) -> Identity:
    if not identity.may(action):
        raise Refusal(HTTPStatus.FORBIDDEN, f"a token of role {identity.role} may not {action}")
    return identity
