"""Access requests of devices: an agent asks and polls without a token, an operator decides."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from math import ceil
from typing import Protocol

from starlette.requests import Request

from hub.http import access_answers as answers
from hub.http.access_requests import LIFETIME_S, AccessRequest, AccessRequests, PollOutcome
from hub.http.authenticator import Authenticator
from hub.http.problem import Refusal
from hub.http.refusals import peer_of
from hub.http.routing import Operation
from hub.model.identity import Action, Identity, NewToken, Role, Token
from wire.errors import WireError

ACCESS_PAGE = "access"
"""Path of the page on which an operator decides, below the base path."""

TOKEN_LABEL = "access request"
"""Beginning of the label of a token that an agent asked for."""


class AccessRegistry(Protocol):
    """The part of the registry that access requests need."""

    @property
    def devices(self) -> Mapping[str, object]: ...
    def tokens(self) -> Sequence[Token]: ...
    async def create_token(
        self, role: Role, *, pattern: str = "", label: str = "", expires_ns: int | None = None
    ) -> NewToken: ...
    async def revoke(self, ids: Iterable[str]) -> Sequence[str]: ...
    def record_event(self, device: str | None, time_ns: int, kind: str, detail: str = "") -> None: ...


@dataclass(frozen=True)
class AccessRoutes:
    """The operations about access requests. `now_ns` is the time of the events, `now_s` that of a monotonic clock."""

    registry: AccessRegistry
    authenticator: Authenticator
    now_ns: Callable[[], int]
    public_url: str | None = None
    requests: AccessRequests = field(default_factory=AccessRequests)
    now_s: Callable[[], float] = time.monotonic

    @Operation("POST", "/api/v1/access-requests", status=HTTPStatus.CREATED, errors=(429,))
    async def ask(self, request: Request, body: answers.AccessQuestion) -> answers.AskedAccess:
        """Ask for the token of a device. An operator approves or refuses the request within 10 minutes.

        The agent shows the code and the address of the page, and polls. No credential is needed. At a bound of the
        waiting requests the answer is 429, with the time to wait.
        """
        asked = self.requests.ask(body.device, body.program, peer_of(request.scope), self.now_s())
        if isinstance(asked, float):
            detail = "too many access requests wait: decide or refuse some of them, or create the token yourself"
            raise Refusal(HTTPStatus.TOO_MANY_REQUESTS, detail, {"Retry-After": str(max(1, ceil(asked)))})
        return answers.AskedAccess(
            code=asked.request.code,
            secret=asked.secret,
            page=self._page(request),
            expires_in_s=int(LIFETIME_S),
            interval_s=asked.request.interval_s,
        )

    @Operation("POST", "/api/v1/access-requests/poll", errors=(429,))
    async def poll(self, request: Request, body: answers.AccessPoll) -> answers.AccessDecision:
        """Return the state of a request by its secret. The token of an approved one is returned once.

        An unknown secret is `expired`, and counts as a failure to authenticate.
        """
        outcome = self.requests.poll(body.secret, self.now_s())
        if outcome.state == "approved" and outcome.request is not None:
            return await self._collect(outcome, outcome.request)
        if outcome.request is not None and outcome.request.token_id is not None:
            await self.registry.revoke([outcome.request.token_id])
            self._record("access_revoked", outcome.request, "its token was asked for twice")
        elif outcome.state == "expired":
            await self.authenticator.penalise(request.scope, "the secret of an access request is not known")
        return answers.AccessDecision(state=outcome.state, interval_s=outcome.interval_s)

    @Operation("GET", "/api/v1/access-requests", may=Action.OPERATE)
    async def access_requests(self) -> answers.AccessRequestsAnswer:
        """Return the requests that wait for a decision, the oldest first."""
        now_s, now_ns, devices = self.now_s(), self.now_ns(), self.registry.devices
        waiting = self.requests.waiting(now_s)
        names = {request.device for request in waiting}
        tokens = Counter(
            token.pattern
            for token in (self.registry.tokens() if names else ())
            if token.role is Role.DEVICE and token.pattern in names and token.usable(now_ns)
        )
        return answers.AccessRequestsAnswer(
            [
                answers.AccessRequestDetails(
                    code=request.code,
                    device=request.device,
                    program=request.program,
                    address=request.address,
                    age_s=now_s - request.asked_s,
                    expires_in_s=request.expires_s - now_s,
                    is_known=request.device in devices,
                    tokens=tokens[request.device],
                )
                for request in waiting
            ]
        )

    @Operation("POST", "/api/v1/access-requests/{code}/approve", may=Action.OPERATE, status=HTTPStatus.NO_CONTENT)
    async def approve(self, caller: Identity, code: str) -> None:
        """Approve a request: its agent receives a token that writes as its device.

        Compare the code with the one that the device shows. A device that existed before keeps its history.
        """
        self._decide(caller, code, is_approved=True)

    @Operation("POST", "/api/v1/access-requests/{code}/refuse", may=Action.OPERATE, status=HTTPStatus.NO_CONTENT)
    async def refuse(self, caller: Identity, code: str) -> None:
        """Refuse a request: its agent stops asking."""
        self._decide(caller, code, is_approved=False)

    def _decide(self, caller: Identity, code: str, *, is_approved: bool) -> None:
        request = self.requests.decide(code, is_approved=is_approved, now_s=self.now_s())
        if request is None:
            detail = "no access request with this code waits: it was decided, replaced, or is older than 10 minutes"
            raise Refusal(HTTPStatus.NOT_FOUND, detail)
        self._record("access_approved" if is_approved else "access_refused", request, f"by {caller.operator}")

    async def _collect(self, outcome: PollOutcome, request: AccessRequest) -> answers.AccessDecision:
        """Create the token of an approved request, and return it."""
        label = f"{TOKEN_LABEL} {request.code}"
        try:
            new = await self.registry.create_token(Role.DEVICE, pattern=request.device, label=label)
        except BaseException as error:
            self.requests.restore(request)
            if isinstance(error, WireError):
                raise Refusal(HTTPStatus.SERVICE_UNAVAILABLE, f"no token was created: {error.message}") from None
            raise
        self.requests.finish(request, new.token.id)
        return answers.AccessDecision(state=outcome.state, interval_s=outcome.interval_s, token=new.text)

    def _record(self, kind: str, request: AccessRequest, by: str) -> None:
        program = f" ({request.program})" if request.program else ""
        detail = f"{request.device}{program} {request.code} from {request.address} {by}"
        self.registry.record_event(None, self.now_ns(), kind, detail)

    def _page(self, request: Request) -> str:
        """Return the address of the page: below `public_url`, or else below the address that the agent uses."""
        access = self.authenticator.access
        if self.public_url is not None:
            return f"{self.public_url.rstrip('/')}/{ACCESS_PAGE}"
        scheme = "https" if access.is_secure(request.scope) else "http"
        return f"{scheme}://{request.headers.get('host', '')}{access.base_path}{ACCESS_PAGE}"
