"""A request of an agent to the API of its hub, beside the connection that carries the readings."""

from __future__ import annotations

import http.client
from urllib.parse import urlsplit

import msgspec

from agent_client.endpoint import DEVICE_PATH, Endpoint
from agent_client.refusal import HandshakeAnswer

TIMEOUT_SECONDS = 10.0
"""Longest time for each step of a request."""

MAX_ANSWER_BYTES = 64 * 1024
"""Bound of an answer, which has a few short texts."""


def post_json(endpoint: Endpoint, path: str, body: object) -> HandshakeAnswer | None:
    """Return the answer of the hub to a JSON body; None if it is no valid HTTP. No proxy is used.

    It blocks. Raises OSError for a hub that does not answer.
    """
    parts = urlsplit(endpoint.url)
    tls, host = endpoint.client_tls, parts.hostname or ""
    connection = (
        http.client.HTTPConnection(host, parts.port, timeout=TIMEOUT_SECONDS)
        if tls is None
        else http.client.HTTPSConnection(host, parts.port, timeout=TIMEOUT_SECONDS, context=tls.context)
    )
    headers = {**endpoint.headers, "Content-Type": "application/json"}
    try:
        connection.request("POST", parts.path.removesuffix(DEVICE_PATH) + path, msgspec.json.encode(body), headers)
        answer = connection.getresponse()
        named = {name.lower(): value for name, value in answer.getheaders()}
        return HandshakeAnswer(answer.status, named, answer.read(MAX_ANSWER_BYTES))
    except http.client.HTTPException:
        return None
    finally:
        connection.close()
