"""HTTP/1.1 requests found in a stream of bytes, within limits. Pure: no socket and no clock.

h11 validates the head of a request (RFC 9112) and writes the head of the answer. The end of a head, the limits and the
body are found here: h11 has no limit for one line or for the number of headers, and takes 20 µs for one chunk of a
body. One read of a socket can contain 43,000 chunks of one byte, and would stop the hub for a second.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from enum import Enum
from http import HTTPStatus
from typing import NamedTuple
from urllib.parse import unquote

import h11

from hub.http.refusals import RefusalCause, RequestRefused, shown

MAX_HEAD_BYTES = 64 * 1024
"""Request line and headers. A browser sends the cookies of every server on the hub's host name, at any port. Chromium
keeps 4 KiB a cookie: 15 such cookies fit. The head is only collected, so a long one costs memory, not time."""

MAX_LINE_BYTES = 32 * 1024
"""One header: half of the head, so that one header with all cookies fits."""

MAX_REQUEST_LINE_BYTES = 8 * 1024
"""Method, target and version. RFC 9112 recommends at least 8,000; a query with 100 devices takes 7 kB."""

MAX_HEADERS = 200
"""Browsers and proxies send 15 to 40. Each takes h11 2 µs, and MAX_HEAD_BYTES would have room for 16,000."""

MAX_BODY_BYTES = 64 * 1024
"""Size of a request's body, which is checked before authentication. The longest useful one creates a token: 1 kB."""

MAX_CHUNKS = 512
"""Chunks of one body: 128 bytes each in the largest one. They take 1 ms."""

MIN_CHUNK_BYTES = MAX_BODY_BYTES // MAX_CHUNKS
"""Mean size of the chunks of a long body. A Go program that compresses while it sends makes chunks of 240 bytes."""

MAX_CHUNK_LINE_BYTES = 256
"""Size of a chunk in hexadecimal, with extensions that nobody uses."""

MAX_TRAILER_BYTES = 4 * 1024
"""Headers after a chunked body, which are discarded."""

TLS_HANDSHAKE = 0x16

_FIRST = re.compile(rb"[-!#$%&'*+.^_`|~0-9A-Za-z]")
_REQUEST_LINE = re.compile(rb"[-!#$%&'*+.^_`|~0-9A-Za-z]+ [\x21-\x7e]+ HTTP/([0-9])\.[0-9]\r?")
_END_OF_HEAD = re.compile(rb"\n\r?\n")
_CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,8})[ \t]*(?:;[^\r\n]*)?")
_AUTHORITY = re.compile(rb"https?://([^/?#]+)", re.IGNORECASE)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


class Stage(Enum):
    """The part of a request that the stream is in."""

    IDLE = "no byte of a request"
    HEAD = "the head of a request"
    BODY = "the body of a request"
    LONG_BODY = "a body whose size was admitted"


class Request(NamedTuple):
    """A complete request. `answer` is h11's state of its answer. Names of headers are in lower case."""

    method: str
    path: str
    raw_path: bytes
    query: bytes
    version: str
    headers: list[tuple[bytes, bytes]]
    body: bytes
    answer: h11.Connection


class RequestReader:
    """Finds the requests in the received bytes, one after the other.

    Its work for one call is bounded, whatever the bytes are: a head, or a body. `may_be_long` says of a head whether
    its body may be longer than MAX_BODY_BYTES. The body of such a request is read after `admit` only.
    """

    def __init__(self, may_be_long: Callable[[Request], bool] = lambda _: False) -> None:
        self._may_be_long = may_be_long
        self._buffer = bytearray()
        self._searched = 0
        self._head: Request | None = None
        self._length = 0
        self._chunks: _Chunks | None = None
        self._continue = False
        self._waits_for_admission = False
        self._is_admitted = False

    @property
    def stage(self) -> Stage:
        """The part of a request that the stream is in."""
        if self._head is not None:
            return Stage.LONG_BODY if self._is_admitted else Stage.BODY
        return Stage.HEAD if self._buffer else Stage.IDLE

    @property
    def body_bytes(self) -> int:
        """Number of bytes of the current body that are kept."""
        return len(self._buffer) + (self._chunks.size_bytes if self._chunks is not None else 0)

    @property
    def admitted(self) -> Request | None:
        """The head of a request whose long body is being read, or was refused; None for no such one."""
        return self._head if self._is_admitted else None

    @property
    def to_admit(self) -> Request | None:
        """The head of a request whose body is long, or has no length, and waits for `admit`; None for no such one."""
        return self._head if self._waits_for_admission else None

    def admit(self, max_bytes: int) -> None:
        """Read the body of the current request up to this size. Raises RequestRefused for a length beyond it."""
        self._waits_for_admission = False
        self._is_admitted = True
        if self._length > max_bytes:
            raise _body_too_large(max_bytes)
        if self._chunks is not None:
            self._chunks.max_bytes = max_bytes

    @property
    def waiting_bytes(self) -> int:
        """Number of received bytes that are not part of a returned request."""
        return len(self._buffer)

    def receive(self, data: bytes) -> None:
        """Append received bytes. They are examined by `next_request`."""
        self._buffer += data

    def discard(self) -> bytes:
        """Remove and return the waiting bytes."""
        rest = bytes(self._buffer)
        self._buffer.clear()
        return rest

    def must_continue(self) -> bool:
        """Return True once for a request whose client sends the body only after a 100 (Continue)."""
        if self._waits_for_admission:
            return False
        must, self._continue = self._continue, False
        return must

    def next_request(self) -> Request | None:
        """Return the next request, or None if it is not complete.

        Raises RequestRefused, after which nothing in the stream can be read.
        """
        if self._head is None:
            self._head = self._read_head()
            if self._head is None:
                return None
            self._check_length(self._head)
        if self._waits_for_admission:
            return None
        body = self._read_body()
        if body is None:
            return None
        request = self._head._replace(body=body)
        self._head = self._chunks = None
        self._is_admitted = False
        return request

    def _check_length(self, head: Request) -> None:
        """Raise RequestRefused for a body that is too long, or let it wait for its admission."""
        is_long = self._length > MAX_BODY_BYTES
        if not (is_long or self._chunks is not None):
            return
        self._waits_for_admission = self._may_be_long(head)
        if is_long and not self._waits_for_admission:
            raise _body_too_large(MAX_BODY_BYTES)

    def _read_head(self) -> Request | None:
        buffer = self._buffer
        if buffer.startswith(b"\r\n"):
            # Some clients send a line break after a body (RFC 9112, 2.2).
            del buffer[:2]
        if not buffer:
            return None
        end = _END_OF_HEAD.search(buffer, max(0, self._searched - 2))
        _check_begin(buffer)
        if end is None:
            self._searched = len(buffer)
            _check_size(buffer)
            return None
        raw = bytes(buffer[: end.end()])
        del buffer[: end.end()]
        self._searched = 0
        _check_size(raw)
        return self._parse_head(raw)

    def _parse_head(self, raw: bytes) -> Request:
        answer = h11.Connection(h11.SERVER, MAX_HEAD_BYTES)
        answer.receive_data(raw)
        try:
            event = answer.next_event()
        except h11.RemoteProtocolError as error:
            raise _invalid(str(error).partition(":")[0], HTTPStatus(error.error_status_hint)) from None
        if not isinstance(event, h11.Request):
            raise _invalid("no request")
        headers = list(event.headers)
        framing = {name: value for name, value in headers if name in (b"content-length", b"transfer-encoding")}
        is_chunked = b"transfer-encoding" in framing
        if is_chunked and (len(framing) > 1 or event.http_version < b"1.1"):
            # Whatever reads the other header of the two takes a part of the body for a request.
            raise _invalid("Transfer-Encoding together with Content-Length, or in HTTP/1.0")
        self._chunks = _Chunks() if is_chunked else None
        self._length = int(framing.get(b"content-length", 0))
        self._continue = answer.they_are_waiting_for_100_continue and (is_chunked or self._length > 0)
        target, headers = _origin_form(event.target, headers)
        raw_path, _, query = target.partition(b"?")
        path = unquote(raw_path.decode("ascii"), errors="replace")
        if _CONTROL.search(path):
            raise _invalid("a control character in the path")
        version = event.http_version.decode("ascii")
        return Request(event.method.decode("ascii"), path, raw_path, query, version, headers, b"", answer)

    def _read_body(self) -> bytes | None:
        buffer = self._buffer
        if self._chunks is not None:
            return self._chunks.read(buffer)
        if len(buffer) < self._length:
            return None
        body = bytes(buffer[: self._length])
        del buffer[: self._length]
        return body


class _Chunks:
    """A body in chunks (RFC 9112, 7.1)."""

    def __init__(self) -> None:
        self.max_bytes = MAX_BODY_BYTES
        self._body = bytearray()
        self._count = 0
        self._left = 0
        # True until the line break after a chunk's data.
        self._in_chunk = False
        self._in_trailer = False

    @property
    def size_bytes(self) -> int:
        """Number of bytes of the body so far."""
        return len(self._body)

    def read(self, buffer: bytearray) -> bytes | None:
        """Remove a part of the body from the front of the buffer. Return the body if it is complete.

        Raises RequestRefused.
        """
        at = 0
        complete = False
        while not complete:
            if self._in_trailer:
                after = _after_trailer(buffer, at)
                complete = after is not None
            elif self._in_chunk:
                after = self._read_data(buffer, at)
            else:
                after = self._read_size(buffer, at)
            if after is None:
                break
            at = after
        del buffer[:at]
        return bytes(self._body) if complete else None

    def _read_size(self, buffer: bytearray, at: int) -> int | None:
        end = buffer.find(b"\r\n", at, at + MAX_CHUNK_LINE_BYTES)
        if end < 0:
            if len(buffer) - at >= MAX_CHUNK_LINE_BYTES:
                raise _invalid("a chunk of the body without a size")
            return None
        match = _CHUNK_SIZE.fullmatch(buffer, at, end)
        if match is None:
            raise _invalid("a chunk of the body without a size")
        self._left = int(match[1], 16)
        self._count += 1
        if len(self._body) + self._left > self.max_bytes:
            raise _body_too_large(self.max_bytes)
        # More of them as a long body grows: each takes 1.5 µs, whatever its size is.
        max_chunks = MAX_CHUNKS if self.max_bytes == MAX_BODY_BYTES else MAX_CHUNKS + len(self._body) // MIN_CHUNK_BYTES
        if self._count > max_chunks:
            raise RequestRefused(
                RefusalCause.BODY_TOO_LARGE,
                f"the body of a request has at most {max_chunks} chunks here",
                "send the body in larger chunks",
                status=HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            )
        self._in_trailer = self._left == 0
        self._in_chunk = self._left > 0
        return end + 2

    def _read_data(self, buffer: bytearray, at: int) -> int | None:
        if self._left:
            piece = buffer[at : at + self._left]
            if not piece:
                return None
            self._body += piece
            self._left -= len(piece)
            return at + len(piece)
        end = buffer[at : at + 2]
        if not b"\r\n".startswith(end):
            raise _invalid("a chunk of the body that is longer than its size")
        if len(end) < 2:
            return None
        self._in_chunk = False
        return at + 2


def _after_trailer(buffer: bytearray, at: int) -> int | None:
    if buffer[at : at + 2] == b"\r\n":
        return at + 2
    end = buffer.find(b"\r\n\r\n", at, at + MAX_TRAILER_BYTES)
    if end >= 0:
        return end + 4
    if len(buffer) - at >= MAX_TRAILER_BYTES:
        raise _invalid(f"more than {MAX_TRAILER_BYTES} bytes after the body")
    return None


def _check_begin(buffer: bytearray) -> None:
    """Raise RequestRefused as soon as the first bytes, or the first line, are no request of HTTP/1."""
    if _FIRST.match(buffer) is None:
        if buffer[0] == TLS_HANDSHAKE:
            raise RequestRefused(
                RefusalCause.BAD_REQUEST,
                "a TLS handshake, but this port is without TLS",
                "connect with http:// and ws://, or set tls.certificate and tls.key",
                status=HTTPStatus.BAD_REQUEST,
            )
        raise _invalid("the first byte is not one of a method")
    line_end = buffer.find(b"\n", 0, MAX_REQUEST_LINE_BYTES + 2)
    line = bytes(buffer[:line_end]) if line_end >= 0 else buffer
    if len(line) > MAX_REQUEST_LINE_BYTES:
        raise RequestRefused(
            RefusalCause.HEAD_TOO_LARGE,
            f"the first line of a request has at most {MAX_REQUEST_LINE_BYTES} bytes here",
            "shorten the query",
            status=HTTPStatus.REQUEST_URI_TOO_LONG,
        )
    if line_end < 0:
        return
    match = _REQUEST_LINE.fullmatch(line)
    if match is None:
        raise _invalid(f"{shown(line.decode('latin-1'))} is no request line")
    if match[1] != b"1":
        version = line.rpartition(b" ")[2].decode("ascii").rstrip()
        raise RequestRefused(
            RefusalCause.UNSUPPORTED_VERSION,
            f"this port speaks HTTP/1.1, not {version}",
            status=HTTPStatus.HTTP_VERSION_NOT_SUPPORTED,
        )


def _check_size(head: bytes | bytearray) -> None:
    """Raise RequestRefused for a head, or the beginning of one, that is too long in one of three ways."""
    if len(head) > MAX_HEAD_BYTES:
        raise _head_too_large(f"the head of a request has at most {MAX_HEAD_BYTES} bytes here")
    # The request line and the blank line are not counted.
    if head.count(b"\n") - 2 > MAX_HEADERS:
        raise _head_too_large(f"a request has at most {MAX_HEADERS} headers here")
    if len(head) > MAX_LINE_BYTES:
        longest = max(bytes(head).split(b"\n"), key=len)
        if len(longest) > MAX_LINE_BYTES:
            name = shown(longest.partition(b":")[0].decode("latin-1"))
            raise _head_too_large(f"a header has at most {MAX_LINE_BYTES} bytes here, and {name} is longer")


def _head_too_large(what: str) -> RequestRefused:
    status = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
    return RequestRefused(RefusalCause.HEAD_TOO_LARGE, what, status=status)


def _origin_form(target: bytes, headers: list[tuple[bytes, bytes]]) -> tuple[bytes, list[tuple[bytes, bytes]]]:
    """Return the path and query of a target, and the headers. A target with a host replaces Host (RFC 9112, 3.2.2)."""
    if target.startswith(b"/"):
        return target, headers
    authority = _AUTHORITY.match(target)
    if authority is None:
        raise _invalid("the target of a request is a path")
    rest = target[authority.end() :]
    path = rest if rest.startswith(b"/") else b"/" + rest
    return path, [(b"host", authority[1]), *(header for header in headers if header[0] != b"host")]


def _body_too_large(max_bytes: int) -> RequestRefused:
    return RequestRefused(
        RefusalCause.BODY_TOO_LARGE,
        f"the body of a request has at most {max_bytes} bytes here",
        "send less; readings go to /v1/device" if max_bytes == MAX_BODY_BYTES else "send it in smaller parts",
        status=HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    )


def _invalid(what: str, status: HTTPStatus = HTTPStatus.BAD_REQUEST) -> RequestRefused:
    return RequestRefused(RefusalCause.BAD_REQUEST, what, status=status)
