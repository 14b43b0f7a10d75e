"""Frames that RFC 6455 forbids or allows, byte by byte, on every endpoint of a real hub: each ends as documented."""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator
from typing import NamedTuple

import httpx
import pytest

from tests.end_to_end.hub import NO_TLS, Hub, running_hub
from tests.end_to_end.raw_websocket import BINARY, CLOSE, CONT, PING, PONG, TEXT, End, close_frame, frame, raw_websocket
from tests.wire import document
from wire import limits

DELIVERED = End(4400, "unexpected_message")
"""The hub has received the message as a whole: it is valid, but no session allows it before the authentication."""

DELIVERED_BY = {"/v1/plain": End(4401, "not_authenticated")}
"""The same on endpoints whose first message has the token."""

INVALID, INVALID_TEXT, TOO_BIG = End(1002, None), End(1007, None), End(1009, None)

TEMPLATES = {
    "/v1/device": '{"type":"gap","from":1,"to":2,"reason":"%s"}',
    "/v1/live": '{"type":"subscribe","id":1,"devices":["%s"],"metrics":["*"]}',
    "/v1/plain": '{"temperature":21.5,"text":"%s"}',
}
LONGEST = {
    "/v1/device": limits.MAX_BATCH_BYTES,
    "/v1/live": limits.MAX_LIVE_MESSAGE_BYTES,
    "/v1/plain": limits.MAX_BATCH_BYTES,
}

RESERVED_OPCODES = (0x3, 0x4, 0x5, 0x6, 0x7, 0xB, 0xC, 0xD, 0xE, 0xF)
"""RFC 6455, 5.2."""

VALID_CLOSES = (1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999)
INVALID_CLOSES = (0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535)
"""RFC 6455, 7.4, and the IANA registry of close codes."""

INVALID_TEXTS = {
    "a byte that never occurs": b"\xff",
    "an overlong form": b"\xc0\x80",
    "a surrogate": b"\xed\xa0\x80",
    "beyond U+10FFFF": b"\xf4\x90\x80\x80",
    "an incomplete character": b"\xe2\x82",
}


class Case(NamedTuple):
    """Bytes that a client sends, and the end that follows. `group` is a row of the table in docs/protocol.md."""

    group: str
    name: str
    sent: bytes
    end: End


def message(path: str, text: str = "x", *, size: int = 0) -> bytes:
    """Return a message of the endpoint that contains a text, filled with spaces up to a size."""
    return (TEMPLATES[path] % text).encode().ljust(size)


def header_cases(valid: bytes) -> list[Case]:
    """Return the cases of reserved bits, opcodes and masks. `valid` is a message of the endpoint."""
    whole = frame(TEXT, valid)
    rsv = [
        *(
            Case("reserved bit", f"{bits:03b} of a text", frame(TEXT, valid, rsv=bits), INVALID)
            for bits in (4, 2, 1, 7)
        ),
        Case("reserved bit", "of an empty binary", frame(BINARY, rsv=4), INVALID),
        Case("reserved bit", "of a ping", frame(PING, rsv=2), INVALID),
        Case("reserved bit", "of a close", frame(CLOSE, rsv=1), INVALID),
        Case("reserved bit", "of a continuation", frame(TEXT, valid, fin=False) + frame(CONT, rsv=4), INVALID),
    ]
    opcodes = [Case("reserved opcode", f"{opcode:#x}", frame(opcode, b"x"), INVALID) for opcode in RESERVED_OPCODES]
    masks = [
        *(
            Case("no mask", f"opcode {opcode}", frame(opcode, b"", mask=None), INVALID)
            for opcode in (TEXT, PING, CLOSE)
        ),
        Case("valid", "a mask of zeros", frame(TEXT, valid, mask=bytes(4)), DELIVERED),
        Case("valid", "a whole message", whole, DELIVERED),
    ]
    return [*rsv, *opcodes, *masks]


def control_cases(valid: bytes) -> list[Case]:
    """Return the cases of control frames."""
    whole = frame(TEXT, valid)
    halves = frame(TEXT, valid[:9], fin=False), frame(CONT, valid[9:])
    longest = bytes(range(125))
    return [
        *(
            Case("control frame", f"fragmented {opcode:#x}", frame(opcode, fin=False), INVALID)
            for opcode in (PING, PONG, CLOSE)
        ),
        *(
            Case("control frame", f"126 bytes of {opcode:#x}", frame(opcode, bytes(126)), INVALID)
            for opcode in (PING, PONG, CLOSE)
        ),
        Case("valid", "a ping of 125 bytes", frame(PING, longest) + whole, DELIVERED._replace(pongs=(longest,))),
        Case("valid", "an empty ping", frame(PING) + whole, DELIVERED._replace(pongs=(b"",))),
        Case("valid", "an unexpected pong", frame(PONG, b"late") + whole, DELIVERED),
        Case(
            "valid",
            "a ping between fragments",
            frame(PING, b"1").join(halves),
            DELIVERED._replace(pongs=(b"1",)),
        ),
    ]


def length_cases(path: str) -> list[Case]:
    """Return the cases of lengths."""
    valid = message(path)
    limit = limits.MAX_BATCH_BYTES
    return [
        Case("length form", "2 bytes for 125", frame(TEXT, valid.ljust(125), length_bytes=2), INVALID),
        Case("length form", "8 bytes for 125", frame(TEXT, valid.ljust(125), length_bytes=8), INVALID),
        Case("length form", "8 bytes for 65,535", frame(TEXT, valid.ljust(65_535), length_bytes=8), INVALID),
        Case("length form", "2 bytes for a ping", frame(PING, b"x", length_bytes=2), INVALID),
        Case("length form", "2^63", frame(TEXT, length_bytes=8, length=1 << 63), INVALID),
        Case("length form", "2^64 - 1", frame(TEXT, length_bytes=8, length=(1 << 64) - 1), INVALID),
        Case("too long", "2^62", frame(TEXT, length_bytes=8, length=1 << 62), TOO_BIG),
        Case("too long", "2^63 - 1", frame(TEXT, length_bytes=8, length=(1 << 63) - 1), TOO_BIG),
        Case("too long", "one byte", frame(BINARY, length_bytes=8, length=limit + 1), TOO_BIG),
        Case(
            "too long",
            "one byte, in two fragments",
            frame(TEXT, bytes(limit - 100), fin=False) + frame(CONT, bytes(101)),
            TOO_BIG,
        ),
        *(
            Case("valid", f"{size:,} bytes", frame(TEXT, message(path, size=size)), DELIVERED)
            for size in (125, 126, 65_535, 65_536, LONGEST[path])
        ),
    ]


def fragment_cases(valid: bytes) -> list[Case]:
    """Return the cases of fragments."""
    first = frame(TEXT, valid[:9], fin=False)
    return [
        Case("fragment", "a continuation of nothing", frame(CONT, b"x", fin=False), INVALID),
        Case("fragment", "a last continuation of nothing", frame(CONT, b"x"), INVALID),
        Case("fragment", "a text within a message", first + frame(TEXT, valid), INVALID),
        Case("fragment", "a binary within a message", first + frame(BINARY, valid), INVALID),
        Case("fragment", "a second beginning", first + first, INVALID),
        Case("fragment", "a close within a message", first + close_frame(1000), INVALID),
        Case(
            "valid",
            "fragments of one byte",
            frame(TEXT, valid[:1], fin=False)
            + b"".join(frame(CONT, valid[at : at + 1], fin=False) for at in range(1, len(valid)))
            + frame(CONT),
            DELIVERED,
        ),
        Case(
            "valid",
            "empty fragments",
            frame(TEXT, fin=False) + frame(CONT, fin=False) * 9 + frame(CONT, valid, fin=False) + frame(CONT),
            DELIVERED,
        ),
        Case(
            "too many fragments",
            "all empty",
            frame(TEXT, fin=False) + frame(CONT, fin=False) * limits.MAX_FRAGMENTS,
            End(1008, "too_many_frames"),
        ),
        Case(
            "too many fragments",
            "66,000, all empty",
            frame(TEXT, fin=False) + frame(CONT, fin=False) * 66_000,
            End(1008, "too_many_frames"),
        ),
        Case(
            "too many control frames",
            "pongs",
            frame(PONG) * (limits.MAX_CONTROL_BURST + 10),
            End(1008, "too_many_frames"),
        ),
    ]


def text_cases(path: str) -> list[Case]:
    """Return the cases of UTF-8."""
    euro = message(path, "€")
    inside = euro.index("€".encode()) + 1
    return [
        *(
            Case("text", name, frame(TEXT, message(path, "%").replace(b"%", wrong)), INVALID_TEXT)
            for name, wrong in INVALID_TEXTS.items()
        ),
        Case("text", "invalid across fragments", frame(TEXT, b"\xe2", fin=False) + frame(CONT, b"\x28"), INVALID_TEXT),
        Case("text", "an end within a character", frame(TEXT, b"\xe2\x82", fin=False) + frame(CONT), INVALID_TEXT),
        Case("valid", "a character in one frame", frame(TEXT, euro), DELIVERED),
        Case(
            "valid",
            "a character in two fragments",
            frame(TEXT, euro[:inside], fin=False) + frame(CONT, euro[inside:]),
            DELIVERED,
        ),
    ]


def close_cases(valid: bytes) -> list[Case]:
    """Return the cases of close frames."""
    longest = b"r" * 123
    return [
        *(Case("close answered", str(code), close_frame(code), End(code, None)) for code in VALID_CLOSES),
        Case("close answered", "without a code", frame(CLOSE), End(1005, None)),
        Case("close answered", "with the longest reason", close_frame(1000, longest), End(1000, None)),
        Case("close answered", "before more frames", close_frame(1001) + frame(TEXT, valid), End(1001, None)),
        *(Case("close frame", str(code), close_frame(code), INVALID) for code in INVALID_CLOSES),
        Case("close frame", "one byte", frame(CLOSE, b"\x03"), INVALID),
        Case("text", "a reason that is not UTF-8", close_frame(1000, b"\xff"), INVALID_TEXT),
    ]


def cases_of(path: str) -> list[Case]:
    """Return all cases of an endpoint."""
    valid = message(path)
    cases = [
        *header_cases(valid),
        *control_cases(valid),
        *length_cases(path),
        *fragment_cases(valid),
        *text_cases(path),
        *close_cases(valid),
    ]
    delivered = DELIVERED_BY.get(path, DELIVERED)
    is_delivered = (DELIVERED.close, DELIVERED.error)
    return [
        case._replace(end=delivered._replace(pongs=case.end.pongs)) if case.end[:2] == is_delivered else case
        for case in cases
    ]


@pytest.fixture(scope="module")
async def hub(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Hub]:
    """Run one hub for all cases, which offers compression to dashboards that ask for it."""
    data = tmp_path_factory.mktemp("conformance")
    settings = data / "hub.toml"
    settings.write_text("[live]\ncompression = true\n")
    async with running_hub(data / "data", options=["--config", str(settings)]) as hub:
        yield hub


@pytest.mark.parametrize("path", TEMPLATES)
async def test_every_case_ends_as_documented(hub: Hub, path: str) -> None:
    """With its close code, and without an error in the hub's log."""
    cases = cases_of(path)
    assert len(cases) >= 57
    ends: dict[str, End] = {}
    for case in cases:
        async with raw_websocket(hub.url, path) as socket:
            socket.writer.write(case.sent)
            ends[f"{case.group}: {case.name}"] = await socket.read_to_end()
    expected = {f"{case.group}: {case.name}": case.end for case in cases}
    assert len(expected) == len(cases)
    wrong = {name: (end, expected[name]) for name, end in ends.items() if end != expected[name]}
    assert wrong == {}
    assert '"level": "error"' not in hub.log()
    assert "Traceback" not in hub.log()


@pytest.mark.parametrize("path", TEMPLATES)
async def test_a_case_in_single_bytes_ends_the_same_way(hub: Hub, path: str) -> None:
    """The network may deliver a frame in any parts."""
    chosen = [case for case in cases_of(path) if len(case.sent) < 200][::5]
    for case in chosen:
        async with raw_websocket(hub.url, path) as socket:
            for at in range(len(case.sent)):
                socket.writer.write(case.sent[at : at + 1])
                await socket.writer.drain()
            assert await socket.read_to_end() == case.end, case


async def test_invalid_frames_are_counted_and_logged_once(hub: Hub) -> None:
    """A client that repeats them costs one line a minute."""
    for _ in range(5):
        async with raw_websocket(hub.url, "/v1/live") as socket:
            socket.writer.write(frame(0x3))
            assert await socket.read_to_end() == INVALID
    lines = [line for line in hub.log().splitlines() if '"bad_frame"' in line]
    assert 1 <= len(lines) <= 3
    async with httpx.AsyncClient(base_url=hub.url, verify=NO_TLS) as client:
        metrics = (await client.get("/metrics")).text
    counted = next(
        line for line in metrics.splitlines() if line.startswith('hub_refused_requests_total{reason="bad_frame"')
    )
    assert float(counted.split()[-1]) >= 5


async def test_compressed_messages_are_bounded_after_decompression(hub: Hub) -> None:
    """A message of 130 kB that becomes 134 MB is rejected, and costs the hub no memory. Devices cannot compress."""
    valid = deflated(message("/v1/live"))
    bomb = deflated(bytes(1 << 27))
    assert len(bomb) < limits.MAX_BATCH_BYTES
    cases = {
        "valid": (frame(TEXT, valid, rsv=4), DELIVERED),
        "valid fragments": (frame(TEXT, valid[:5], fin=False, rsv=4) + frame(CONT, valid[5:]), DELIVERED),
        "not compressed": (frame(TEXT, message("/v1/live")), DELIVERED),
        "bomb": (frame(TEXT, bomb, rsv=4), TOO_BIG),
        "bomb in fragments": (frame(TEXT, bomb[:999], fin=False, rsv=4) + frame(CONT, bomb[999:], fin=False), TOO_BIG),
        "not deflate": (frame(TEXT, b"\xff\xff\xff", rsv=4), INVALID),
        "reserved bit of a continuation": (frame(TEXT, valid[:5], fin=False, rsv=4) + frame(CONT, rsv=4), INVALID),
        "compressed ping": (frame(PING, valid, rsv=4), INVALID),
    }
    before = hub.memory_bytes()
    for name, (sent, end) in cases.items():
        async with raw_websocket(hub.url, "/v1/live", extensions="permessage-deflate") as socket:
            assert "permessage-deflate" in socket.response
            socket.writer.write(sent)
            assert await socket.read_to_end() == end, name
    assert hub.memory_bytes() - before < 16 << 20
    for path in ("/v1/device", "/v1/plain"):
        async with raw_websocket(hub.url, path, extensions="permessage-deflate") as socket:
            assert "permessage-deflate" not in socket.response
            socket.writer.write(frame(TEXT, valid, rsv=4))
            assert await socket.read_to_end() == INVALID


def deflated(content: bytes) -> bytes:
    """Return a message as permessage-deflate sends it (RFC 7692, 7.2.1)."""
    compressor = zlib.compressobj(9, wbits=-12)
    return (compressor.compress(content) + compressor.flush(zlib.Z_SYNC_FLUSH))[:-4]


def test_the_document_has_each_group_with_its_close_code() -> None:
    """And no other group. The code of a valid message is the session's own."""
    documented = {row[0]: row[1] for row in document.rows(document.section("# Frames"))}
    for path in TEMPLATES:
        found: dict[str, set[str]] = {}
        for case in cases_of(path):
            found.setdefault(case.group, set()).add(str(case.end.close))
        found["valid"] = {"none"}
        found["close answered"] = {"the same"}
        assert {group: " ".join(codes) for group, codes in found.items()} == documented
