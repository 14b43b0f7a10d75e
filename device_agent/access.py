"""The request of an agent without a token for access: it shows a code, and waits for an operator.

The agent collects readings meanwhile, and keeps them in its spool. `next_step` is pure; the edge sends and sleeps.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from agent_client.access_request import (
    MAX_INTERVAL_S,
    MAX_SHOWN,
    AccessState,
    NotAsked,
    PendingAccess,
    ask_access,
    can_save,
    poll_access,
    save_token,
)
from agent_client.endpoint import Endpoint, TokenFile
from wire.text import escaped

ASK_AGAIN_S = 5.0
"""Time until the next question after one that failed."""

MAX_AGAIN_S = 120.0
"""Longest time until the next question: the hub asks for more only while too many requests wait."""

REMEDY = "create a token with `hub token create`, and store it in"

_log = logging.getLogger(__name__)


class Received(NamedTuple):
    """The token, to be stored."""

    token: str


class Wait(NamedTuple):
    """Ask or poll again after `seconds`; with `is_new`, make a new request."""

    seconds: float
    is_new: bool


class Stop(NamedTuple):
    """Stop asking; a person has to do something."""

    reason: str


def next_step(
    answer: PendingAccess | AccessState | NotAsked, *, interval_s: float = ASK_AGAIN_S
) -> Received | Wait | Stop:
    """Return what to do after an answer of the hub. `interval_s` is the time between polls so far."""
    match answer:
        case PendingAccess():
            return Wait(_bounded(answer.interval_s), is_new=False)
        case AccessState("approved", _, str(token)) if token.isascii() and token.isprintable() and " " not in token:
            return Received(token)
        case AccessState("refused"):
            return Stop("an operator refused the request for access; start the agent again to ask again")
        case AccessState("waiting" | "slow_down"):
            return Wait(_bounded(max(interval_s, answer.interval_s)), is_new=False)
        case AccessState():
            # Expired, or the hub was started again, or an answer without a token.
            return Wait(ASK_AGAIN_S, is_new=True)
        case NotAsked(reason, is_final=True):
            return Stop(reason)
        case NotAsked():
            return Wait(min(MAX_AGAIN_S, max(interval_s, answer.retry_s or 0.0)), is_new=False)


def _bounded(interval_s: float) -> float:
    """Return a time between polls; that of a hub may be any number."""
    return min(MAX_INTERVAL_S, interval_s) if interval_s >= 1 else ASK_AGAIN_S


@dataclass(slots=True, eq=False)
class AccessRequester:
    """Requests of one device for a token that is stored in `file`. `on_change` is called with each change of `notice`.

    `notice` says what the agent waits for; it is empty while it does not wait.
    """

    endpoint: Endpoint
    file: TokenFile
    device: str
    program: str
    on_change: Callable[[], None] = lambda: None
    notice: str = ""
    _needed: asyncio.Event = field(default_factory=asyncio.Event)

    def need(self) -> None:
        """Ask for access: the hub wants a token, and there is none."""
        self._needed.set()

    async def run(self) -> None:
        """Ask as soon as it is needed, and store the token. Return when there is one, or when asking is pointless."""
        await self._needed.wait()
        try:
            reason = await self.obtain()
        finally:
            self._set_notice("")
        if reason is not None:
            self._set_notice(f"{reason}. Or {REMEDY} {self.file.path}")
            _log.error("%s; readings stay in the spool", self.notice)

    async def obtain(self) -> str | None:
        """Ask until there is a token, or return why asking is pointless."""
        path = self.file.path
        if not can_save(path):
            return f"no request for access is made, because no token could be stored in {path}: check its directory"
        asked: PendingAccess | None = None
        interval_s = ASK_AGAIN_S
        problem = ""
        while self.file.token is None:
            answer = await asyncio.to_thread(self._question, asked)
            step = next_step(answer, interval_s=interval_s)
            if isinstance(answer, PendingAccess):
                asked = answer
                self._show(answer)
            elif isinstance(answer, NotAsked) and answer.reason != problem:
                _log.warning("no access yet: %s", answer.reason)
            problem = answer.reason if isinstance(answer, NotAsked) else ""
            match step:
                case Stop():
                    return step.reason
                case Received():
                    await asyncio.to_thread(self._store, step.token)
                case Wait():
                    if step.is_new:
                        asked = None
                    interval_s = ASK_AGAIN_S if asked is None else step.seconds
                    await asyncio.sleep(step.seconds)
        return None

    def _question(self, asked: PendingAccess | None) -> PendingAccess | AccessState | NotAsked:
        if asked is None:
            return ask_access(self.endpoint, self.device, self.program)
        return poll_access(self.endpoint, asked.secret)

    def _show(self, asked: PendingAccess) -> None:
        code, page = escaped(asked.code[:MAX_SHOWN]), escaped(asked.page[:MAX_SHOWN])
        self._set_notice(
            f"waits for access as {self.device}: compare the code {code} at {page}, and approve it (or run `hub access "
            f"approve {code}`) within {asked.expires_in_s / 60:.0f} minutes"
        )
        _log.warning("%s", self.notice)

    def _store(self, token: str) -> None:
        try:
            save_token(self.file.path, token)
        except OSError as error:
            self.file.keep(token)
            _log.error(
                "the token cannot be stored in %s: %s; it is in use until the agent ends, which then asks again",
                self.file.path,
                error.strerror,
            )
        else:
            _log.info("access granted; the token is in %s", self.file.path)

    def _set_notice(self, notice: str) -> None:
        self.notice = notice
        self.on_change()
