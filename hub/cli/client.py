"""A running hub over HTTP: one connection, errors as sentences that say what to do."""

from __future__ import annotations

import http.client
import io
import json
import ssl
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from http import HTTPStatus
from typing import IO, Any, Self
from urllib.parse import urlencode, urlsplit

TIMEOUT_S = 30.0
"""Silence of the hub after which a command gives up: twice what the slowest query of a busy hub takes."""

Query = Mapping[str, str | int | Sequence[str] | None]
"""Parameters of a request; None leaves one out, a sequence repeats it."""


class RequestFailed(Exception):
    """A request that was not answered as hoped. `status` is the hub's; None where it could not be asked at all."""

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class HubClient:
    """One hub, one connection that is kept open between requests. Not for several threads.

    `url` is what a person knows the hub by, with or without a path it is mounted under. No proxy is used.
    """

    def __init__(self, url: str, token: str | None = None, *, timeout_s: float = TIMEOUT_S) -> None:
        """Raises ValueError for what is no URL of a hub, or no token."""
        parts = urlsplit(url.strip())
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ValueError(f"{url!r} is not the URL of a hub; one looks like http://127.0.0.1:8600")
        if parts.username is not None or parts.query or parts.fragment:
            raise ValueError("a hub's URL has no user, query or fragment; give the token by itself")
        if token is not None and (not token.isascii() or not token.isprintable() or " " in token):
            raise ValueError("a token has letters, digits and '_' only")
        self.url = f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}"
        self._path = parts.path.rstrip("/")
        self._headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        self._connection = (
            http.client.HTTPSConnection(
                parts.hostname, parts.port, timeout=timeout_s, context=ssl.create_default_context()
            )
            if parts.scheme == "https"
            else http.client.HTTPConnection(parts.hostname, parts.port, timeout=timeout_s)
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the connection; the next request opens another."""
        self._connection.close()

    def get(self, path: str, query: Query | None = None) -> Any:
        """The JSON answer to a GET. Raises RequestFailed."""
        return self.send("GET", path, query=query)

    def send(
        self,
        method: str,
        path: str,
        *,
        query: Query | None = None,
        body: object | bytes = None,
        headers: Mapping[str, str] | None = None,
    ) -> Any:
        """The JSON answer to a request, None where it has no body. Bytes are sent as they are, all else as JSON.

        Raises RequestFailed.
        """
        with self.stream(path, query, method=method, body=body, headers=headers) as answer:
            text = answer.read()
        try:
            return json.loads(text) if text else None
        except ValueError:
            raise RequestFailed(f"{self.url}{path} did not answer with JSON: is it a hub?") from None

    @contextmanager
    def stream(
        self,
        path: str,
        query: Query | None = None,
        *,
        method: str = "GET",
        body: object | bytes = None,
        headers: Mapping[str, str] | None = None,
    ) -> Iterator[IO[bytes]]:
        """The body of an answer of any length, as a file to read from; reading it raises RequestFailed where it breaks.

        Raises RequestFailed where the hub refuses the request or cannot be reached.
        """
        given = {name: value for name, value in (query or {}).items() if value is not None}
        target = f"{self._path}{path}{'?' if given else ''}{urlencode(given, doseq=True)}"
        sent = {**self._headers, **(headers or {})}
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
            sent.setdefault("Content-Type", "application/json")
        try:
            response = self._request(method, target, body, sent)
            if response.status >= HTTPStatus.MULTIPLE_CHOICES:
                raise RequestFailed(_detail(response, response.read()), response.status)
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise RequestFailed(_unreachable(self.url, error)) from error
        answer = io.BufferedReader(_Body(response))
        try:
            yield answer
        finally:
            if not response.isclosed():
                self.close()  # the rest of it is not wanted

    def _request(
        self, method: str, target: str, body: bytes | None, headers: Mapping[str, str]
    ) -> http.client.HTTPResponse:
        connection = self._connection
        was_open = connection.sock is not None
        if method != "GET":
            # The hub may close a connection that rests; what it changes for us must not be in doubt for that.
            connection.close()
        elif was_open:
            with suppress(http.client.RemoteDisconnected, ConnectionError):
                connection.request(method, target, body, dict(headers))
                return connection.getresponse()
            connection.close()
        connection.request(method, target, body, dict(headers))
        return connection.getresponse()


class _Body(io.RawIOBase):
    """An answer's body whose breaks are told in words."""

    def __init__(self, response: http.client.HTTPResponse) -> None:
        super().__init__()
        self._response = response

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            size = self._response.readinto(buffer)
        except (OSError, http.client.HTTPException) as error:
            raise RequestFailed(f"the hub's answer broke off ({_reason(error)}); try again") from error
        if size == 0 and self._response.length:
            raise RequestFailed(f"the hub's answer broke off, {self._response.length} bytes early; try again")
        return size


def _detail(response: http.client.HTTPResponse, body: bytes) -> str:
    """What a refusal says: the detail of its problem+json, else its status."""
    try:
        detail = json.loads(body)["detail"]
    except (ValueError, KeyError, TypeError):
        detail = None
    if isinstance(detail, str):
        return detail
    return f"the answer was {response.status} {response.reason}: is it a hub, and is the path in its URL right?"


def _unreachable(url: str, error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return (
            f"{url}: the certificate is not trusted here ({error.verify_message}); name the authority's file in "
            "SSL_CERT_FILE"
        )
    return f"{url} does not answer ({_reason(error)}): does the hub run there? --url or HUB_URL says where it is"


def _reason(error: Exception) -> str:
    return (isinstance(error, OSError) and error.strerror) or str(error) or type(error).__name__
