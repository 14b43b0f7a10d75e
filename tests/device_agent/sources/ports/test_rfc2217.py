"""Telnet and RFC 2217, without a network."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_agent.sources.ports import LineErrors, PortError, PortSettings
from device_agent.sources.ports.rfc2217 import (
    BINARY,
    COM_PORT,
    DO,
    DONT,
    IAC,
    MAX_OPTIONS,
    MAX_SUBNEGOTIATION,
    WILL,
    WONT,
    ComPortSession,
    Negotiation,
    Subnegotiation,
    TelnetDecoder,
    com_port,
    escape,
)

EVENTS = st.one_of(
    st.builds(Negotiation, st.sampled_from([WILL, WONT, DO, DONT]), st.integers(0, 255)),
    st.builds(Subnegotiation, st.just(COM_PORT), st.binary(min_size=1, max_size=20)),
)


def sent(piece: bytes | Negotiation | Subnegotiation) -> bytes:
    match piece:
        case Negotiation(verb, option):
            return bytes((IAC, verb, option))
        case Subnegotiation(_, payload):
            return com_port(payload[0], payload[1:])
        case bytes():
            return escape(piece)


@given(st.lists(st.one_of(st.binary(max_size=20), EVENTS), max_size=10), st.data())
def test_data_and_commands_come_out_as_they_went_in(pieces: list[bytes | Negotiation], data: st.DataObject) -> None:
    """Wherever the stream is cut."""
    stream = b"".join(map(sent, pieces))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=4)))
    decoder, out, events = TelnetDecoder(), b"", []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        part, found = decoder.feed(stream[start:end])
        out += part
        events += found
    assert out == b"".join(piece for piece in pieces if isinstance(piece, bytes))
    assert events == [piece for piece in pieces if not isinstance(piece, bytes)]


@given(st.lists(st.binary(max_size=50), max_size=5))
def test_any_bytes_are_read(parts: list[bytes]) -> None:
    """They are data, commands, or an error for people."""
    decoder, session = TelnetDecoder(), ComPortSession(PortSettings(port="x"))
    for part in parts:
        try:
            for event in decoder.feed(part)[1]:
                session.receive(event)
        except PortError as error:
            assert str(error)


def test_a_server_without_an_end_is_bounded() -> None:
    """A value that never ends is cut, and options are answered only so often."""
    decoder = TelnetDecoder()
    decoder.feed(bytes((IAC, 250, COM_PORT)))
    for _ in range(10):
        decoder.feed(b"x" * 1000)
    _, (event,) = decoder.feed(bytes((IAC, 240)))
    assert isinstance(event, Subnegotiation)
    assert len(event.payload) == MAX_SUBNEGOTIATION - 1
    session = ComPortSession(PortSettings(port="x"))
    answers = [session.receive(Negotiation(DO, option)) for option in range(45, 256)]
    assert answers[0] == bytes((IAC, WONT, 45))
    assert sum(map(bool, answers)) <= MAX_OPTIONS
    assert session.receive(Negotiation(DO, 45)) == b""


def test_the_line_is_set_and_confirmed() -> None:
    """Settled when the server has confirmed rate, bits, parity and stop bits; errors of the line are counted."""
    session = ComPortSession(PortSettings(port="x", baud=9600, frame="7E1", dtr=False))
    assert session.receive(Negotiation(DO, BINARY)) == b""
    settings = session.receive(Negotiation(DO, COM_PORT))
    _, events = TelnetDecoder().feed(settings)
    assert [event.payload for event in events if isinstance(event, Subnegotiation)] == [
        b"\x01\x00\x00\x25\x80", b"\x02\x07", b"\x03\x03", b"\x04\x01", b"\x0a\x0e", b"\x05\x09", b"\x05\x0c",
    ]  # fmt: skip
    for answer in (b"\x65\x00\x00\x25\x80", b"\x66\x07", b"\x67\x03"):
        session.receive(Subnegotiation(COM_PORT, answer))
        assert not session.is_settled
    session.receive(Subnegotiation(COM_PORT, b"\x68\x01"))
    assert session.is_settled
    session.receive(Subnegotiation(COM_PORT, b"\x6a\x0c"))
    session.receive(Subnegotiation(COM_PORT, b"\x6a\x02"))
    assert session.errors == LineErrors(framing=1, parity=1, overrun=1)
    session.set_baud(1200)
    assert not session.is_settled


def test_a_server_that_cannot_set_the_line_is_an_error() -> None:
    """With what it does instead, or what to write instead."""
    session = ComPortSession(PortSettings(port="x", baud=250_000))
    session.receive(Negotiation(DO, COM_PORT))
    with pytest.raises(PortError, match="sets baud rate 115,200 instead of 250,000"):
        session.receive(Subnegotiation(COM_PORT, b"\x65\x00\x01\xc2\x00"))
    with pytest.raises(PortError, match="write socket://"):
        session.receive(Negotiation(DONT, COM_PORT))
