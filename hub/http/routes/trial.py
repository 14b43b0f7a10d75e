"""The check of an input in the browser: content is read as every input would, and nothing is stored."""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus

import msgspec

from formats.rules import RulesError
from hub.http.problem import Refusal
from hub.http.routing import Operation
from hub.http.trial import TrialFailed, TrialRunner, TrialsBusy, request_of
from hub.http.trial_answers import TrialBody, TrialResult
from hub.model.identity import Action


@dataclass(frozen=True)
class TrialRoutes:
    """The operation that reads content without storing it."""

    runner: TrialRunner

    @Operation("POST", "/api/v1/try", may=Action.READ, errors=(503,))
    async def try_content(self, body: TrialBody) -> TrialResult:
        """Read content as every input of the hub would, with the types that the hub has, and store nothing."""
        try:
            request = request_of(body.rules, body.content, is_base64=body.base64)
            return msgspec.json.decode(await self.runner.run(request), type=TrialResult)
        except (RulesError, TrialFailed) as error:
            raise Refusal(HTTPStatus.UNPROCESSABLE_ENTITY, str(error)) from None
        except TrialsBusy:
            detail = "too many trials are running; try again in a few seconds"
            raise Refusal(HTTPStatus.SERVICE_UNAVAILABLE, detail) from None
