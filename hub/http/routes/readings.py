"""The operation that stores readings: a request in any format of `formats`, answered when it is durable."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus

import msgspec
from starlette.requests import Request

from formats.rules import RulesError
from hub.http import answers
from hub.http.input_query import CONTENT_FORMATS, InputQuery
from hub.http.problem import RETRY_AFTER, Refusal
from hub.http.routing import Operation
from hub.ingest.foreign_readings import ForeignReadings, is_temporary
from hub.ingest.request_keys import MAX_KEY, KeyedRequest, KeyReused
from hub.ingest.stored_frame import FrameDenied
from hub.model.identity import Action, Identity
from wire.errors import WireError
from wire.limits import MAX_BATCH_BYTES

READINGS_PATH = "/api/v1/readings"

HTTP_INPUT = "http"
"""Name of the input, in quarantine entries."""

MAX_BODY_BYTES = MAX_BATCH_BYTES
"""Body of one request, as large as one frame of a WebSocket."""


@dataclass(frozen=True)
class ReadingRoutes:
    """The operation that stores readings."""

    readings: ForeignReadings
    now_ns: Callable[[], int]

    @Operation(
        "POST", READINGS_PATH, may=Action.WRITE, errors=(400, 413, 503), body_types=("application/json", "text/csv")
    )
    async def store_readings(self, caller: Identity, query: InputQuery, request: Request) -> answers.StoredReadings:
        """Store readings; the answer means that they are on disk.

        The body is in any format of docs/formats.md, JSON without `format`: an object of values, nested or flat, or a
        list of objects; gzip is recognised. The device is that of the token, of the parameter `device`, or of a field
        `device`. A request that is sent again with the same header `Idempotency-Key` is stored once.
        """
        content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        try:
            rules = query.rules(CONTENT_FORMATS.get(content_type, "json"))
        except RulesError as error:
            raise Refusal(HTTPStatus.UNPROCESSABLE_ENTITY, f"query: {error}") from None
        body = await request.body()
        if len(body) > MAX_BODY_BYTES:
            detail = f"a body with readings has at most {MAX_BODY_BYTES:,} bytes; send them in several requests"
            raise Refusal(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, detail)
        source = self.readings.reader(caller, rules, HTTP_INPUT).source()
        key = request.headers.get("idempotency-key", "").strip()
        if len(key) > MAX_KEY:
            raise Refusal(HTTPStatus.UNPROCESSABLE_ENTITY, f"Idempotency-Key has at most {MAX_KEY} characters")
        frame = await source.read_in_turns(body, self.now_ns())
        try:
            if key:
                keyed = KeyedRequest.of(caller, key, msgspec.json.encode(rules), body)
                stored = await self.readings.store_once(keyed, frame)
            else:
                stored = await self.readings.store(frame, keeps_denied=True)
        except KeyReused as error:
            raise Refusal(HTTPStatus.UNPROCESSABLE_ENTITY, str(error)) from None
        except FrameDenied as error:
            raise Refusal(HTTPStatus.FORBIDDEN, error.message, refused=error.refused) from None
        except WireError as error:
            if not is_temporary(error):
                raise
            raise Refusal(HTTPStatus.SERVICE_UNAVAILABLE, error.message, RETRY_AFTER) from None
        if stored.refused_count and not stored.readings:
            raise Refusal(HTTPStatus.UNPROCESSABLE_ENTITY, stored.reason[1], refused=stored.refused)
        return answers.StoredReadings(stored.readings, stored.refused_count, stored.refused)
