"""The evidence of a wrong baud rate."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_agent.sources.ports.baud import (
    MIN_BYTES,
    WINDOW_BYTES,
    BaudWatch,
    Evidence,
    RateTrial,
    best_trial,
    seven_bits,
    text_bytes,
)
from tests.device_agent.uart import bits_of, receive

LINES = b"".join(b'{"t": %d.%d, "state": "on", "h": %d}\r\n' % (n, n % 10, n * 7) for n in range(20, 32))
RATES = [1200, 9600, 19200, 38400, 57600, 115200, 250000]


def watch(data: bytes, framing_errors: int, *, good_lines: int = 0, encoding: str = "auto") -> BaudWatch:
    watch = BaudWatch(9600, encoding)
    watch.add(data, good_lines=good_lines, framing_errors=framing_errors)
    return watch


@pytest.mark.parametrize("sent", RATES)
@pytest.mark.parametrize("read", RATES)
def test_a_wrong_rate_is_seen_in_what_a_uart_receives(sent: int, read: int) -> None:
    """For every pair of usual rates; at the same rate there is no problem."""
    received = receive(bits_of(LINES), sent, read)
    if sent == read:
        assert received == (LINES, 0)
    if len(received.data) >= MIN_BYTES:
        assert bool(watch(*received).problem("x")) == (sent != read)


def test_the_problem_has_its_evidence_and_the_next_step() -> None:
    """The rate, the share of text, the framing errors, and the command."""
    received = receive(bits_of(LINES * 4), 115200, 9600)
    problem = watch(*received).problem("/dev/ttyUSB0")
    assert problem.startswith("the baud rate 9,600 is probably wrong, or the device sends no text: ")
    assert f"bytes are text, {received.framing_errors} framing errors. " in problem
    assert problem.endswith("Find the rate: device-agent try /dev/ttyUSB0 --find-baud")


def test_seven_data_bits_are_recognised() -> None:
    """Every byte has the parity that the eighth bit is."""
    data = receive(bits_of(LINES, seven_even=True), 9600, 9600).data
    assert watch(data, 0).problem("x").startswith("the device sends 7 data bits and a parity: set frame 7E1")
    assert seven_bits(data) == LINES
    assert watch(bytes(byte ^ 0x80 for byte in data), 0).evidence.frame == "7O1"
    assert watch(LINES, 0).evidence.frame == ""


@pytest.mark.parametrize(
    ("text", "encoding"),
    [("Temperatur: 21,5 °C, Feuchte: 40 %\n", "auto"), ("температура=21\n", "auto"), ("温度=21\n", "auto")],
)
def test_text_of_any_language_is_text(text: str, encoding: str) -> None:
    """In UTF-8 by itself, in another encoding if it is set."""
    assert watch(text.encode() * 20, 0, encoding=encoding).problem("x") == ""
    assert text_bytes(text.encode()) == len(text.encode())


def test_another_encoding_is_text_if_it_is_set() -> None:
    """Without the setting, its bytes are noise."""
    data = "температура=21\n".encode("cp1251") * 20
    assert watch(data, 0, encoding="cp1251").problem("x") == ""
    assert watch(data, 0).problem("x") != ""


def test_lines_that_are_read_are_no_problem() -> None:
    """A device may send bytes that only its format knows; noise looks like a line now and then."""
    noise = bytes(range(128, 256)) * 16
    assert watch(noise, 0, good_lines=5).problem("x") == ""
    assert watch(noise, 0, good_lines=1).problem("x") != ""
    assert watch(noise[: MIN_BYTES - 1], 0).problem("x") == ""
    assert watch(LINES, len(LINES) // 10).problem("x") != ""
    assert watch(LINES, len(LINES) // 10, good_lines=12).problem("x") == ""


def test_old_bytes_are_forgotten() -> None:
    """A device that is set to the right rate meanwhile is no problem for long."""
    noise = bytes(range(128, 256))
    watch = BaudWatch(9600)
    for number in range(1000):
        watch.add(noise, good_lines=0, framing_errors=number)
    assert watch.evidence.total <= WINDOW_BYTES + len(noise)
    assert watch.problem("x")
    for _ in range(20):
        watch.add(LINES, good_lines=12, framing_errors=1000)
    assert watch.problem("x") == ""
    assert watch.evidence.framing_errors < 5


@given(st.binary(max_size=200), st.binary(max_size=200))
def test_counts_are_those_of_the_bytes(first: bytes, second: bytes) -> None:
    """No count is more than the bytes, and adding is adding."""
    evidence = Evidence().added(first).added(second)
    assert evidence.total == len(first) + len(second)
    assert max(evidence.text, evidence.even, evidence.odd) <= evidence.total
    assert evidence.text == text_bytes(first) + text_bytes(second)


def test_the_rate_that_reads_is_chosen() -> None:
    """One whose format is known wins; noise and rates that cannot be set never."""
    text = Evidence().added(LINES)
    noise = RateTrial(1200, Evidence().added(bytes(range(128, 256))), lines=1)
    assert noise.is_decided
    assert not RateTrial(9600).is_decided
    assert RateTrial(9600, text, lines=3).is_decided
    trials = [noise, RateTrial(9600, text, lines=3), RateTrial(4800, text, 3, "json"), RateTrial(7, problem="no")]
    best = best_trial(trials)
    assert best is not None
    assert best.baud == 4800
    assert best_trial([noise, RateTrial(9600, text._replace(framing_errors=500), lines=3)]) is None
