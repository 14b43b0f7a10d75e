"""Framing of bytes into lines, decoding of encodings, and records that span lines."""

from __future__ import annotations

from encodings.aliases import aliases

import pytest
from hypothesis import given
from hypothesis import strategies as st

from formats.framing import LineFraming, RecordJoiner, Transcoder, decode_text
from formats.record import RefusedInput, TextFrame
from formats.rules import RulesError, rules_of
from tests.formats.reading_of import read

REFUSED_CODECS = {
    "base64_codec", "bz2_codec", "hex_codec", "idna", "mbcs", "oem", "punycode", "quopri_codec", "rot_13", "undefined",
    "uu_codec", "zlib_codec",
}  # fmt: skip
"""Codecs of Python that are no encodings of text, need another system, or cannot decode a text in parts."""

STREAM = st.lists(st.sampled_from([b"a", b"bc", b"\n", b"\r", b"\r\n", b" ", b"\0", b"x" * 9]), max_size=30).map(
    b"".join
)


def split(data: bytes, pieces: list[int], max_bytes: int = 8) -> list[TextFrame | RefusedInput]:
    framing = LineFraming(max_bytes)
    found: list[TextFrame | RefusedInput] = []
    for size in pieces:
        found += framing.feed(data[:size])
        data = data[size:]
    return [*found, *framing.feed(data), *framing.finish()]


@given(STREAM, st.lists(st.integers(1, 5), max_size=20))
def test_pieces_of_a_stream_have_the_lines_of_the_whole(data: bytes, pieces: list[int]) -> None:
    """This includes the numbers of the lines, and lines that are too long."""
    assert split(data, pieces) == split(data, [])


def test_line_ends_of_all_systems_end_a_line() -> None:
    r"""Lines end with \n, \r\n or \r; blank lines are counted."""
    assert split(b"a\r\n\r\nb\rc\n d\n \ne", []) == [
        TextFrame(1, b"a"),
        TextFrame(3, b"b"),
        TextFrame(4, b"c"),
        TextFrame(5, b" d"),
        TextFrame(7, b"e"),
    ]


def test_a_line_that_is_too_long_is_one_refusal() -> None:
    """The next line is read, and memory is bounded by the piece and the line."""
    framing = LineFraming(8)
    assert framing.feed(b"x" * 5000) == []
    assert len(framing._rest) < 8
    first, second = framing.feed(b"y\nok\n")
    assert isinstance(first, RefusedInput)
    assert (first.line, first.code, len(first.raw)) == (1, "size", 8)
    assert second == TextFrame(2, b"ok")


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
@given(text=st.text(min_size=1, max_size=20).filter(lambda text: text[0] != "\0"), piece=st.integers(1, 7))
def test_a_byte_order_mark_names_the_encoding(encoding: str, text: str, piece: int) -> None:
    """The result is UTF-8 without the mark, for pieces of any size."""
    raw = text.encode(encoding)
    transcoder = Transcoder()
    found = b"".join(transcoder.feed(raw[start : start + piece]) for start in range(0, len(raw), piece))
    assert found + transcoder.feed(b"", final=True) == text.encode()


def joined(*lines: bytes) -> list[TextFrame]:
    joiner = RecordJoiner(lambda raw: raw.count(b'"') % 2 == 1, lambda raw: raw.count(b",") == 1 and b'"' not in raw)
    found = list(joiner.feed(TextFrame(number, line) for number, line in enumerate(lines, 1)))
    return [*found, *joiner.finish()]


def test_a_record_in_quotes_spans_lines() -> None:
    """The number is that of its first line."""
    assert joined(b'a,"x', b'y"', b"b,1") == [TextFrame(1, b'a,"x\ny"'), TextFrame(3, b"b,1")]


def test_an_open_quote_ends_at_the_next_full_record() -> None:
    """Lines between them are read by themselves."""
    assert joined(b'a,"x', b"middle", b"b,1") == [TextFrame(1, b'a,"x'), TextFrame(2, b"middle"), TextFrame(3, b"b,1")]
    assert len(joined(b'a,"x', *[b"middle"] * 500)) == 501


def test_a_broken_record_does_not_hold_the_next_one_back() -> None:
    """Both are returned as soon as the next line is a full record."""
    joiner = RecordJoiner(lambda raw: raw.count(b'"') % 2 == 1, lambda raw: raw.count(b",") == 1 and b'"' not in raw)
    assert list(joiner.feed([TextFrame(1, b'a,"x')])) == []
    assert joiner.is_waiting
    assert list(joiner.feed([TextFrame(2, b"b,1")])) == [TextFrame(1, b'a,"x'), TextFrame(2, b"b,1")]


def test_text_loses_nuls_and_marks_around_it() -> None:
    """A text that is not UTF-8 needs a fallback."""
    assert decode_text(b"\xef\xbb\xbf 1\t\0\r") == " 1\t"
    assert decode_text(b"\xfc") is None
    assert decode_text(b"\xfc", "cp1252") == "ü"
    assert decode_text(b"\x81", "cp1252") is None


@pytest.mark.parametrize(
    ("encoding", "written"),
    [("utf-16", "utf-16-le"), ("UTF-16", "utf-16"), ("utf-32", "utf-32-le"), ("utf_16", "utf-16-be")],
)
def test_utf_16_without_a_byte_order_mark_is_little_endian(encoding: str, written: str) -> None:
    """A mark wins. Programs write utf-16-be with a mark only."""
    mark = "\ufeff" if written == "utf-16-be" else ""
    transcoder = Transcoder(encoding)
    data = f"{mark}temp=21.5 °C\n".encode(written)
    parts = [transcoder.feed(data[place : place + 1]) for place in range(len(data))]
    assert (b"".join(parts) + transcoder.feed(b"", final=True)).decode() == "temp=21.5 °C\n"


@pytest.mark.parametrize("encoding", sorted({*aliases.values(), "UTF-8", "utf_8_sig", "idna", "punycode", "undefined"}))
def test_every_encoding_that_is_accepted_is_read_right(encoding: str) -> None:
    """Wherever the bytes are cut. Other codecs of Python are refused, such as those for compression."""
    try:
        rules_of({"encoding": encoding})
    except RulesError:
        assert encoding in REFUSED_CODECS
        return
    table = "time;temp C\\n+x\r\n2026-11-28 15:00:00;21,5\r\n2026-11-28 15:01:00;21,75\r\n".encode(encoding)
    for piece in (0, 1, 3):
        content = read(table, encoding=encoding, piece=piece)
        assert content.column("temp C\\n+x") == [21.5, 21.75]
        assert content.refusals == []
