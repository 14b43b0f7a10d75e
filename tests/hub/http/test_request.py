"""Tests of finding requests in a stream: whatever the chunks of the network are, and within the limits."""

from __future__ import annotations

from itertools import pairwise

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.http.refusals import RequestRefused
from hub.http.request import (
    MAX_BODY_BYTES,
    MAX_CHUNKS,
    MAX_HEAD_BYTES,
    MAX_HEADERS,
    MAX_LINE_BYTES,
    MAX_REQUEST_LINE_BYTES,
    MAX_TRAILER_BYTES,
    Request,
    RequestReader,
    Stage,
)

LINE = b"GET /x?a=1 HTTP/1.1\r\nHost: h\r\n"


def read(*pieces: bytes) -> list[Request]:
    """Return the requests in a stream that arrives in these pieces."""
    reader = RequestReader()
    requests = []
    for piece in pieces:
        reader.receive(piece)
        while (request := reader.next_request()) is not None:
            requests.append(request)
    return requests


def status_of(*pieces: bytes) -> int:
    """Return the status of the refusal that a stream ends with."""
    with pytest.raises(RequestRefused) as raised:
        read(*pieces)
    return int(raised.value.status)


def chunked(pieces: list[bytes], trailer: bytes = b"") -> bytes:
    """Return a body in chunks."""
    return b"".join(b"%x;ext=1\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n" + trailer + b"\r\n"


def body_by_h11(stream: bytes) -> bytes:
    """Return the body of the first request in a stream, as h11 reads it."""
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(stream)
    body = b""
    while not isinstance(event := connection.next_event(), h11.EndOfMessage):
        body += event.data if isinstance(event, h11.Data) else b""
    return body


bodies = st.one_of(
    st.binary(max_size=40).map(lambda body: (b"Content-Length: %d\r\n\r\n%s" % (len(body), body), body)),
    st.tuples(st.lists(st.binary(min_size=1, max_size=20), max_size=5), st.sampled_from([b"", b"T: 1\r\n"])).map(
        lambda given: (b"Transfer-Encoding: chunked\r\n\r\n" + chunked(*given), b"".join(given[0]))
    ),
    st.just((b"\r\n", b"")),
)


@given(st.lists(bodies, min_size=1, max_size=4), st.lists(st.integers(0, 400), max_size=8))
def test_requests_do_not_depend_on_the_pieces_that_arrive(parts: list[tuple[bytes, bytes]], places: list[int]) -> None:
    """Each request of a stream has its own body, which is the one that h11 reads, wherever the network cuts it."""
    requests = [LINE + text for text, _ in parts]
    whole = b"".join(requests)
    cuts = sorted(min(place, len(whole)) for place in places)
    found = read(*(whole[a:b] for a, b in pairwise([0, *cuts, len(whole)])))
    assert [request.body for request in found] == [body for _, body in parts] == [body_by_h11(r) for r in requests]
    assert {(request.method, request.path, request.query, request.version) for request in found} == {
        ("GET", "/x", b"a=1", "1.1")
    }


def test_the_stage_is_the_part_that_is_missing() -> None:
    """No byte, a part of a head, a part of a body; then the next request."""
    reader = RequestReader()
    assert reader.stage is Stage.IDLE
    for piece, stage in (
        (b"POST", Stage.HEAD),
        (b" / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\n", Stage.BODY),
        (b"ab", Stage.BODY),
    ):
        reader.receive(piece)
        assert reader.next_request() is None
        assert reader.stage is stage
    reader.receive(b"cGE")
    request = reader.next_request()
    assert request is not None
    assert (request.body, reader.stage, reader.waiting_bytes) == (b"abc", Stage.HEAD, 2)


def test_a_client_that_waits_for_continue_gets_it_once() -> None:
    """Only if there is a body that the hub accepts."""
    reader = RequestReader()
    reader.receive(LINE + b"Expect: 100-continue\r\nContent-Length: 1\r\n\r\n")
    assert reader.next_request() is None
    assert [reader.must_continue(), reader.must_continue()] == [True, False]
    assert status_of(LINE + b"Expect: 100-continue\r\nContent-Length: 70000\r\n\r\n") == 413


def test_limits_are_inclusive() -> None:
    """Each largest head, header, line, number of headers and body is accepted; one more byte or header is not."""
    start = b"GET / HTTP/1.1\r\nHost: h\r\n"

    def headers(count: int) -> bytes:
        return start + b"a: b\r\n" * (count - 1) + b"\r\n"

    def line(size: int) -> bytes:
        return start + b"cookie: " + b"c" * (size - len("cookie: \r")) + b"\r\n\r\n"

    def whole(size: int) -> bytes:
        half = MAX_LINE_BYTES - 10
        rest = size - len(start) - half - len("a: \r\nb: \r\n\r\n")
        return start + b"a: " + b"c" * half + b"\r\nb: " + b"c" * rest + b"\r\n\r\n"

    def target(size: int) -> bytes:
        return b"GET /" + b"a" * (size - len("GET / HTTP/1.1\r")) + b" HTTP/1.1\r\nHost: h\r\n\r\n"

    def body(size: int) -> bytes:
        return start + b"Content-Length: %d\r\n\r\n" % size + bytes(size)

    def chunks(count: int) -> bytes:
        return start + b"Transfer-Encoding: chunked\r\n\r\n" + b"1\r\na\r\n" * (count - 1) + b"0\r\n\r\n"

    for make, limit, status in (
        (headers, MAX_HEADERS, 431),
        (line, MAX_LINE_BYTES, 431),
        (whole, MAX_HEAD_BYTES, 431),
        (target, MAX_REQUEST_LINE_BYTES, 414),
        (body, MAX_BODY_BYTES, 413),
        (chunks, MAX_CHUNKS, 413),
    ):
        assert len(read(make(limit))) == 1, make
        assert status_of(make(limit + 1)) == status, make


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"GET /" + b"a" * MAX_REQUEST_LINE_BYTES, 414),
        (LINE + b"a: " + b"b" * MAX_LINE_BYTES, 431),
        (LINE + b"a: b\r\n" * (MAX_HEAD_BYTES // 6), 431),
        (LINE + b"Transfer-Encoding: chunked\r\n\r\n0\r\n" + b"a: b\r\n" * (MAX_TRAILER_BYTES // 6 + 1), 400),
        (LINE + b"Transfer-Encoding: chunked\r\n\r\n" + b"1;" + b"e" * 300, 400),
    ],
    ids=["line", "header", "head", "trailer", "chunk"],
)
def test_a_limit_counts_before_the_part_is_complete(sent: bytes, status: int) -> None:
    """Nothing waits for an end that never comes."""
    assert status_of(sent) == status


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
        (b"\x00", 400),
        ("ägypten".encode(), 400),
        (b"SSH-2.0-OpenSSH_9.6\r\n", 400),
        (b"GET /\r\n", 400),
        (b"GET  / HTTP/1.1\r\n", 400),
        (b"GET /\xff HTTP/1.1\r\n", 400),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
        (b"GET / HTTP/3.0\r\n", 505),
        (b"GET / HTTP/0.9\r\n", 505),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (LINE + b"no colon\r\n\r\n", 400),
        (LINE + b"a : b\r\n\r\n", 400),
        (LINE + b"a: \x00\r\n\r\n", 400),
        (LINE + b" a: b\r\n\r\n", None),
        (b"GET / HTTP/1.1\r\n a: b\r\nHost: h\r\n\r\n", 400),
        (b"GET /%00 HTTP/1.1\r\nHost: h\r\n\r\n", 400),
        (b"GET /a%0d%0ab HTTP/1.1\r\nHost: h\r\n\r\n", 400),
        (b"GET h:1 HTTP/1.1\r\nHost: h\r\n\r\n", 400),
        (b"CONNECT h:1 HTTP/1.1\r\nHost: h\r\n\r\n", 400),
        (b"OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n", 400),
        (LINE + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (LINE + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
        (LINE + b"Content-Length: -1\r\n\r\n", 400),
        (LINE + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n", 400),
        (LINE + b"Transfer-Encoding: gzip\r\n\r\n", 501),
        (b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (LINE + b"Transfer-Encoding: chunked\r\n\r\nx\r\n", 400),
        (LINE + b"Transfer-Encoding: chunked\r\n\r\n-1\r\n", 400),
        (LINE + b"Transfer-Encoding: chunked\r\n\r\n1\r\nab\r\n", 400),
        (LINE + b"Transfer-Encoding: chunked\r\n\r\nffffffff\r\n", 413),
        (LINE + b"Transfer-Encoding: chunked\r\n\r\n123456789\r\n", 400),
    ],
)
def test_what_is_not_http_is_refused_at_once(sent: bytes, status: int | None) -> None:
    """The refusal does not wait for the end of a head. A continued header (status None) is old, but valid."""
    if status is None:
        assert len(read(sent)) == 1
    else:
        assert status_of(sent) == status
        # Byte by byte, the same.
        assert status_of(*(sent[at : at + 1] for at in range(len(sent)))) == status


def test_a_target_with_a_host_replaces_the_host_header() -> None:
    """RFC 9112, 3.2.2: a proxy's form of a target."""
    (request,) = read(b"GET http://hub.example:8600/a?b HTTP/1.1\r\nHost: other\r\nA: 1\r\n\r\n")
    assert (request.path, request.query) == ("/a", b"b")
    assert request.headers == [(b"host", b"hub.example:8600"), (b"a", b"1")]
    (request,) = read(b"GET https://hub.example HTTP/1.1\r\nHost: other\r\n\r\n")
    assert request.path == "/"


def test_the_path_is_decoded_and_never_fails() -> None:
    """Bytes that are not UTF-8 become the replacement character, which no name contains."""
    (request,) = read(b"GET //a%2Fb%20c%ff?%ff HTTP/1.1\r\nHost: h\r\n\r\n")
    assert (request.path, request.raw_path, request.query) == ("//a/b c�", b"//a%2Fb%20c%ff", b"%ff")


@given(st.binary(max_size=200))
def test_any_bytes_are_a_request_or_a_refusal(stream: bytes) -> None:
    """Nothing else is raised, also with a valid beginning."""
    for sent in (stream, LINE + stream, LINE + b"Transfer-Encoding: chunked\r\n\r\n" + stream):
        try:
            read(sent)
        except RequestRefused as refused:
            assert refused.status in (400, 413, 414, 431, 501, 505)


def long_reader() -> RequestReader:
    """Return a reader that lets the bodies of POST /long wait for their admission."""
    return RequestReader(lambda head: (head.method, head.path) == ("POST", "/long"))


LONG = b"POST /long HTTP/1.1\r\nHost: h\r\n"


@pytest.mark.parametrize("sized", [True, False], ids=["length", "chunks"])
def test_a_long_body_is_read_after_its_admission(sized: bool) -> None:
    """Nothing of it is read before, the client is not asked to continue, and the bytes are counted."""
    body = bytes(3 * MAX_BODY_BYTES)
    framing = b"Content-Length: %d\r\n\r\n" % len(body) if sized else b"Transfer-Encoding: chunked\r\n\r\n"
    content = body if sized else chunked([body[:5000] for _ in range(0, len(body), 5000)] + [body[: len(body) % 5000]])
    reader = long_reader()
    reader.receive(LONG + b"Expect: 100-continue\r\n" + framing)
    assert reader.next_request() is None
    assert reader.to_admit is not None
    assert not reader.must_continue()
    assert reader.stage is Stage.BODY
    reader.admit(4 * MAX_BODY_BYTES)
    assert reader.next_request() is None
    assert reader.must_continue()
    assert reader.admitted is not None
    reader.receive(content[:-1])
    assert reader.next_request() is None
    assert abs(reader.body_bytes - len(body)) < 10_000
    reader.receive(content[-1:] + LINE + b"\r\n")
    request = reader.next_request()
    assert request is not None
    assert len(request.body) >= len(body)
    following = reader.next_request()
    assert following is not None
    assert following.path == "/x"
    assert reader.admitted is None


def test_a_short_body_needs_no_admission() -> None:
    """Only the requests that may have a long body wait for it, and only if theirs is long or has no length."""
    reader = long_reader()
    reader.receive(LONG + b"Content-Length: 2\r\n\r\nab")
    request = reader.next_request()
    assert request is not None
    assert request.body == b"ab"
    assert status_of(b"POST /other HTTP/1.1\r\nHost: h\r\nContent-Length: 70000\r\n\r\n") == 413


def test_a_long_body_has_its_own_bounds() -> None:
    """A length, chunks, and the number of chunks beyond the admitted size are refused."""
    reader = long_reader()
    reader.receive(LONG + b"Content-Length: 200001\r\n\r\n")
    reader.next_request()
    with pytest.raises(RequestRefused, match="at most 200000 bytes here; send it in smaller parts"):
        reader.admit(200_000)
    for content, words in ((chunked([bytes(200_001)]), "200000 bytes"), (chunked([b"a"] * 600), "chunks here")):
        reader = long_reader()
        reader.receive(LONG + b"Transfer-Encoding: chunked\r\n\r\n" + content)
        reader.next_request()
        reader.admit(200_000)
        with pytest.raises(RequestRefused, match=words):
            reader.next_request()
        assert reader.admitted is not None
